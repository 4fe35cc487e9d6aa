"""The M4 competition's hourly series and its official scores (Makridakis, Spiliotis and Assimakopoulos 2020)."""

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from benchmarks.rounds import data_file
from rnnforecast.columns import MEDIAN, SERIES_ID, STEP, TARGET, TIMESTAMP, levels_of, quantile

NAMES: Final = {"unique_id": SERIES_ID, "ds": TIMESTAMP, "y": TARGET}
HORIZON, SEASON, SEASONS = 48, 24, (24, 168)
NAIVE2_SMAPE, NAIVE2_MASE = 18.383, 2.395  # of the competition's benchmark, what OWA is counted in
OUTERMOST: Final = (0.025, 0.975)
DECILES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LEVELS: Final = tuple(sorted((*DECILES, *OUTERMOST)))


def hourly(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The 414 series to learn from, and the 48 steps that followed each; long frames."""
    parts = [pl.read_parquet(data_file(folder, f"parquet/m4_hourly_{part}.parquet")) for part in ("train", "test")]
    train, test = (part.rename(NAMES).sort(SERIES_ID, TIMESTAMP) for part in parts)
    return train, test


def seasonal_naive(train: pl.DataFrame) -> pl.DataFrame:
    """The last day again, twice: a forecast frame."""
    last = train.group_by(SERIES_ID, maintain_order=True).tail(SEASON)
    step = pl.int_range(1, SEASON + 1).over(SERIES_ID)
    days = [last.select(SERIES_ID, (step + SEASON * day).alias(STEP), pl.col(TARGET).alias(MEDIAN)) for day in (0, 1)]
    return pl.concat(days)


def scores(forecast: pl.DataFrame, train: pl.DataFrame, test: pl.DataFrame) -> dict[str, float]:
    """sMAPE (percent), MASE, OWA; with the outermost quantiles MSIS and coverage of the 95 % interval, with others WQL.

    forecast: series_id, step (from 1), q0.5, ...; train: what the forecast saw, which gives MASE its unit.
    """
    rows = test.with_columns(pl.int_range(1, pl.len() + 1).over(SERIES_ID).alias(STEP)).join(
        forecast.with_columns(pl.col(STEP).cast(pl.Int64)), on=[SERIES_ID, STEP], validate="1:1"
    )
    if len(rows) != len(test):
        raise ValueError(f"expected a forecast of each of {len(test)} steps; found {len(rows)}")
    change = (pl.col(TARGET) - pl.col(TARGET).shift(SEASON)).abs().mean()
    rows = rows.join(train.group_by(SERIES_ID, maintain_order=True).agg(unit=change), on=SERIES_ID)
    actual, middle, unit = (rows[name].to_numpy() for name in (TARGET, MEDIAN, "unit"))
    smape = float(np.mean(200 * abs(actual - middle) / (abs(actual) + abs(middle))))
    mase = float(np.mean(abs(actual - middle) / unit))
    found = {"sMAPE": smape, "MASE": mase, "OWA": (smape / NAIVE2_SMAPE + mase / NAIVE2_MASE) / 2}
    levels = [level for level in levels_of(rows.columns) if level in DECILES]
    if len(levels) > 1:
        found["WQL"] = weighted_quantile_loss(rows, levels)
    if {quantile(level) for level in OUTERMOST} <= set(rows.columns):
        low, high = (rows[quantile(level)].to_numpy() for level in OUTERMOST)
        missed = np.maximum(low - actual, 0) + np.maximum(actual - high, 0)
        found["MSIS"] = float(np.mean((high - low + 2 / 0.05 * missed) / unit))
        found["coverage"] = float(np.mean((actual >= low) & (actual <= high)))
    return found


def weighted_quantile_loss(rows: pl.DataFrame, levels: list[float]) -> float:
    """Twice the quantile loss at these levels, over all rows together, in units of the sum of actual values."""
    actual = rows[TARGET].to_numpy()
    total = 0.0
    for level in levels:
        miss = actual - rows[quantile(level)].to_numpy()
        total += 2 * np.maximum(level * miss, (level - 1) * miss).sum()
    return float(total / len(levels) / abs(actual).sum())


def rounded(found: dict[str, float]) -> dict[str, float]:
    """Four digits after the point; the competition's tables have three."""
    return {name: round(value, 4) for name, value in found.items()}
