"""How good forecasts are: errors of the median, of the mean, of the quantiles, per series and over all.

A *scored* frame is a forecast frame with the actual value in `target`. MAE, MASE and sMAPE score the median,
RMSE the mean, WQL all quantiles, coverage the outermost symmetric interval. `both` is the geometric
mean of MASE and WQL, so that the median and the quantiles count alike; only ratios of it mean anything.
"""

import math
import warnings

import numpy as np
import polars as pl
from utilsforecast import losses

from rnnforecast.columns import CUTOFF, MEAN, MEDIAN, SERIES_ID, TARGET, TIMESTAMP, levels_of, quantile

METRICS = ("mase", "wql", "both", "mae", "rmse", "smape", "coverage")
ROLES = {"id_col": SERIES_ID, "target_col": TARGET}
SMAPE_PERCENT = 200  # utilsforecast's is a share of |y| + |forecast|; the M4 competition's is twice that, in percent


def interval(levels: list[float]) -> tuple[float, float] | None:
    """The outermost quantile levels that are symmetric about the median: (0.1, 0.9)."""
    low = next((level for level in levels if level < 0.5 and any(abs(1 - level - up) < 1e-9 for up in levels)), None)
    return None if low is None else (low, next(up for up in levels if abs(1 - low - up) < 1e-9))


def per_series(scored: pl.DataFrame, history: pl.DataFrame, *, season_length: int) -> pl.DataFrame:
    """Metrics of each series: series_id, mase, wql, both (their geometric mean), mae, rmse, smape (percent), coverage.

    history: long frame on a regular grid, gaps as nulls, up to the first cutoff; it gives MASE its unit, the mean
    absolute error of repeating the last season (Hyndman and Koehler 2006). A series without variation has no MASE.
    """
    scored = scored.drop_nulls(TARGET).drop(CUTOFF)
    levels = levels_of(scored.columns)
    parts = [
        losses.mae(scored, [MEDIAN], **ROLES).rename({MEDIAN: "mae"}),
        losses.rmse(scored, [MEAN], **ROLES).rename({MEAN: "rmse"}),
        losses.smape(scored, [MEDIAN], **ROLES).select(SERIES_ID, smape=SMAPE_PERCENT * pl.col(MEDIAN)),
        _mase(scored, history, season_length),
        _wql(scored, levels),
        _coverage(scored, levels),
    ]
    out = parts[0]
    for part in parts[1:]:
        out = out.join(part, on=SERIES_ID, how="left")
    out = out.with_columns(both=(pl.col("mase") * pl.col("wql")).sqrt())
    return out.select(SERIES_ID, *METRICS).sort(SERIES_ID)


def overall(scored: pl.DataFrame, series: pl.DataFrame) -> dict[str, float | None]:
    """One number per metric: the mean over series, for WQL the weighted quantile loss of all series together."""
    row = {name: _finite_mean(series[name]) for name in METRICS}
    rows = scored.drop_nulls(TARGET)
    total, loss = float(rows[TARGET].abs().sum()), float(_pinball(rows, levels_of(rows.columns)).sum())
    mase, wql = row["mase"], loss / total if total > 0 else None
    return row | {"wql": wql, "both": None if mase is None or wql is None else math.sqrt(mase * wql)}


def _finite_mean(values: pl.Series) -> float | None:
    kept = values.drop_nulls()
    kept = kept.filter(kept.is_finite())
    return float(np.mean(kept.to_numpy())) if len(kept) else None


def _mase(scored: pl.DataFrame, history: pl.DataFrame, season_length: int) -> pl.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = losses.mase(
            scored.select(SERIES_ID, TIMESTAMP, TARGET, MEDIAN),
            [MEDIAN],
            seasonality=season_length,
            train_df=history.select(SERIES_ID, TIMESTAMP, TARGET),
            time_col=TIMESTAMP,
            **ROLES,
        )
    return found.select(SERIES_ID, mase=pl.when(pl.col(MEDIAN).is_finite()).then(pl.col(MEDIAN)))


def _pinball(scored: pl.DataFrame, levels: list[float]) -> pl.Series:
    """Twice the quantile loss of each row, averaged over the levels."""
    miss = [(pl.col(TARGET) - pl.col(quantile(level)), level) for level in levels]
    losses_ = [2 * pl.max_horizontal(level * error, (level - 1) * error) for error, level in miss]
    return scored.select(pl.mean_horizontal(losses_)).to_series()


def _wql(scored: pl.DataFrame, levels: list[float]) -> pl.DataFrame:
    rows = scored.with_columns(loss=_pinball(scored, levels))
    size = pl.col(TARGET).abs().sum()
    return rows.group_by(SERIES_ID).agg(wql=pl.when(size > 0).then(pl.col("loss").sum() / size))


def _coverage(scored: pl.DataFrame, levels: list[float]) -> pl.DataFrame:
    pair = interval(levels)
    if pair is None:
        return scored.group_by(SERIES_ID).agg(coverage=pl.lit(None, dtype=pl.Float64))
    inside = pl.col(TARGET).is_between(pl.col(quantile(pair[0])), pl.col(quantile(pair[1])))
    return scored.group_by(SERIES_ID).agg(coverage=inside.mean())
