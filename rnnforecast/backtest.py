"""Rolling origin over the test span for anything that can forecast, and the leaderboard that comes of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
import torch

from rnnforecast.columns import MODEL, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.fitted import FittedModel
from rnnforecast.metrics import METRICS, overall, per_series
from rnnforecast.panel import Cutoffs, Panel

REFERENCE = "seasonal_naive"  # what skill is counted against
LEADERBOARD = (MODEL, "skill", *METRICS, "seconds")


@dataclass(frozen=True)
class Result:
    """One model's forecasts at the common cutoffs: a forecast frame with the actual `target`."""

    label: str
    scored: pl.DataFrame
    seconds: float = 0.0  # of training


def run(model: FittedModel, panel: Panel, cutoffs: Cutoffs, *, label: str, seconds: float = 0.0) -> Result:
    """Forecast at every cutoff and put the actual values beside it."""
    return Result(label, with_actuals(model.forecast_at(panel, cutoffs), panel, cutoffs), seconds)


def with_actuals(forecasts: pl.DataFrame, panel: Panel, cutoffs: Cutoffs) -> pl.DataFrame:
    """The forecast frame of these cutoffs with the actual values as `target`, null where there is no reading."""
    first = panel.offsets[cutoffs.series] + cutoffs.position + 1
    rows = first[:, None] + torch.arange(len(forecasts) // len(cutoffs))
    values, mask = panel.gather(rows, rows < panel.offsets[cutoffs.series + 1][:, None])
    actual = values.double().masked_fill(~mask, torch.nan).flatten().numpy()
    return forecasts.with_columns(pl.Series(TARGET, actual).fill_nan(None))


def long_frame(panel: Panel, end: torch.Tensor | None = None) -> pl.DataFrame:
    """A panel back as a long frame on its full grid, gaps as nulls; `end` [S]: only the steps before it."""
    stop, names, found = panel.lengths if end is None else end, pl.Series(panel.series_ids), []
    for rows, series, place in panel.blocks():
        kept = place < stop[series]
        values = panel.values[rows][kept].double().masked_fill(~panel.mask[rows][kept], torch.nan)
        found.append(
            pl.DataFrame(
                {
                    SERIES_ID: names.gather(series[kept].numpy()),
                    TIMESTAMP: panel.stamps((panel.starts[series] + place)[kept]),
                    TARGET: pl.Series(values.numpy()).fill_nan(None),
                }
            )
        )
    return pl.concat(found)


def by_series(
    results: Sequence[Result], panel: Panel, end: torch.Tensor | None = None, *, season_length: int
) -> pl.DataFrame:
    """Metrics of each model on each series: model, series_id, mase, wql, ...; `end` [S]: where the history ends that
    gives MASE its unit. Some series at a time: no long frame of the whole panel is made."""
    found = []
    for part, some in panel.parts():
        history = long_frame(some, None if end is None else end[part])
        for result in results:
            scored = result.scored.filter(pl.col(SERIES_ID).is_in(some.series_ids))
            if len(scored):
                metrics = per_series(scored, history, season_length=season_length)
                found.append(metrics.select(pl.lit(result.label).alias(MODEL), pl.all()))
    order = pl.Enum([result.label for result in results])
    return pl.concat(found).sort(pl.col(MODEL).cast(order), SERIES_ID)


def decisive(metric: str, scores: Iterable[float | None]) -> str:
    """`metric`, or the mean absolute error where no model has a value of it: a constant series has no MASE."""
    return metric if any(score is not None for score in scores) else "mae"


def leaderboard(results: Sequence[Result], series: pl.DataFrame, *, metric: str) -> pl.DataFrame:
    """All models, best first by `metric`: model, skill, mase, wql, mae, rmse, smape, coverage, seconds.

    skill = 1 - metric / metric of the seasonal naive: 0.3 is 30 % better than repeating the last season. Where no
    model has a value of the metric, `decisive` says what counts instead.
    """
    rows = [
        {MODEL: result.label, **overall(result.scored, series.filter(pl.col(MODEL) == result.label))}
        | {"seconds": result.seconds}
        for result in results
    ]
    table = pl.DataFrame(rows, schema_overrides=dict.fromkeys(METRICS, pl.Float64))
    metric = decisive(metric, table[metric])
    reference = table.filter(pl.col(MODEL) == REFERENCE)[metric]
    unit = reference[0] or None if len(reference) else None  # a perfect seasonal naive leaves no skill to have
    reference_value = pl.lit(unit, dtype=pl.Float64)
    table = table.with_columns(skill=(reference_value - pl.col(metric)) / reference_value)
    return table.select(LEADERBOARD).sort(metric, nulls_last=True, maintain_order=True)
