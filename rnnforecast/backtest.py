"""Rolling origin over the test span for anything that can forecast, and the leaderboard that comes of it."""

from collections.abc import Iterable, Iterator, Sequence
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
    """Forecast at every cutoff and put the actual values beside it: null where there is no reading."""
    forecasts = model.forecast_at(panel, cutoffs)
    return Result(label, forecasts.with_columns(_actual(panel, cutoffs, model.task.horizon)), seconds)


def _actual(panel: Panel, cutoffs: Cutoffs, horizon: int) -> pl.Series:
    """What came at the steps after each cutoff, in the order of a forecast frame."""
    first = panel.offsets[cutoffs.series] + cutoffs.position + 1
    rows = first[:, None] + torch.arange(horizon)
    values, mask = panel.gather(rows, rows < panel.offsets[cutoffs.series + 1][:, None])
    return pl.Series(TARGET, values.double().masked_fill(~mask, torch.nan).flatten().numpy()).fill_nan(None)


def long_frame(panel: Panel, end: torch.Tensor | None = None) -> pl.DataFrame:
    """A panel back as a long frame on its full grid, gaps as nulls; `end` [S]: only the steps before it."""
    return pl.concat(_parts(panel, panel.lengths if end is None else end))


def _parts(panel: Panel, end: torch.Tensor) -> Iterator[pl.DataFrame]:
    """The same in parts, each of whole and of cut series."""
    names = pl.Series(panel.series_ids)
    for rows, series, place in panel.blocks():
        kept = place < end[series]
        values = panel.values[rows][kept].double().masked_fill(~panel.mask[rows][kept], torch.nan)
        yield pl.DataFrame(
            {
                SERIES_ID: names.gather(series[kept].numpy()),
                TIMESTAMP: panel.stamps((panel.starts[series] + place)[kept]),
                TARGET: pl.Series(values.numpy()).fill_nan(None),
            }
        )


def by_series(results: Sequence[Result], history: pl.DataFrame, *, season_length: int) -> pl.DataFrame:
    """Metrics of each model on each series: model, series_id, mase, wql, ..."""
    return pl.concat(
        [
            per_series(result.scored, history, season_length=season_length).select(
                pl.lit(result.label).alias(MODEL), pl.all()
            )
            for result in results
        ]
    )


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
