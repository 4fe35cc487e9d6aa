"""The ledger of forecasts: what was forecast is kept, nothing twice, and scored once the readings have come.

A row is one step of one forecast: series_id, cutoff, timestamp, step, mean, q0.1, ..., model (name/version) and the
table_version that it was made from. Nothing in it depends on when it was written, so a repeat writes nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import polars as pl
import torch

from rnnforecast import backtest, metrics, table
from rnnforecast.baselines import BaselineModel
from rnnforecast.columns import (
    CUTOFF,
    FORECAST_KEY,
    KEY,
    MEAN,
    MODEL,
    ORDINAL,
    SERIES_ID,
    TABLE_VERSION,
    TARGET,
    TIMESTAMP,
    levels_of,
    quantiles,
)
from rnnforecast.config import Candidate, Pipeline
from rnnforecast.fitted import FittedModel
from rnnforecast.forecast import ForecastError, forecast
from rnnforecast.frame_rows import Frame
from rnnforecast.ingest import recompute
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.task import Task

ISSUED: Final = (MODEL, *FORECAST_KEY)
FEWEST_READINGS: Final = 2
SAME: Final = 1e-5  # relative: what float32 may differ by when the series beside it change

SCORES: Final = {
    "until": None,  # the bound of the round
    MODEL: pl.String(),
    "forecasts": pl.Int64(),
    "mae": pl.Float64(),
    "mase": pl.Float64(),
    "skill": pl.Float64(),
    "coverage": pl.Float64(),
}


def make(model: FittedModel, frame: Frame) -> tuple[pl.DataFrame, list[str]]:
    """Forecast every series from its last reading; also the names of the series that have too few readings.

    Raises ForecastError where no series has enough, FrameError on a frame that cannot be read.
    """
    readings = pl.col(TARGET).is_not_null().sum()
    counts = frame.lazy().group_by(SERIES_ID).agg(readings=readings).collect().sort(SERIES_ID)
    enough = counts.filter(pl.col("readings") >= FEWEST_READINGS)[SERIES_ID]
    left_out = counts.filter(pl.col("readings") < FEWEST_READINGS)[SERIES_ID].to_list()
    if enough.is_empty():
        raise ForecastError(
            f"forecast: none of {len(counts)} series has {FEWEST_READINGS} readings; ingest more, or check the target"
        )
    return forecast(model, frame.filter(pl.col(SERIES_ID).is_in(enough.implode()))), left_out


def issue(pipeline: Pipeline, forecasts: pl.DataFrame, *, model: str, table_version: int) -> int:
    """Append forecasts to the pipeline's table of them; returns how many rows were new.

    `model` is name/version. A row whose values stand there already, for the same model, series, cutoff and step,
    is not written again; one that a revised history changed is, with its `table_version`. Raises TableError.
    """
    path, options = pipeline.table("forecasts"), pipeline.storage.options
    rows = forecasts.with_columns(
        pl.lit(model).alias(MODEL), pl.lit(table_version, dtype=pl.Int64).alias(TABLE_VERSION)
    )
    before = issued(pipeline, model=model)
    if before is not None:
        # What stands on rows that were changed since is written anew, be it the same.
        old = _stale(before, recompute(pipeline, before.schema[CUTOFF]))
        rows = _changed(rows, before.join(old, on=(MODEL, SERIES_ID, CUTOFF, TABLE_VERSION), how="anti"))
    return table.append_new(path, rows, key=(*ISSUED, TABLE_VERSION), options=options)


def issued(pipeline: Pipeline, *, model: str | None = None) -> pl.DataFrame | None:
    """The forecasts that stand: of each model, series, cutoff and step the newest; None before the first."""
    path, options = pipeline.table("forecasts"), pipeline.storage.options
    if table.version(path, options) is None:
        return None
    rows = table.scan(path, options=options)
    if model is not None:
        rows = rows.filter(pl.col(MODEL) == model)
    return rows.collect().sort(TABLE_VERSION).unique(ISSUED, keep="last", maintain_order=True).sort(*ISSUED)


def stale(pipeline: Pipeline) -> pl.DataFrame | None:
    """Forecasts that stand and were made on rows that late ones or revisions have changed since.

    Columns: model, series_id, cutoff, table_version, since (the first row that changed), version (the table's with
    it). None before the first forecast.
    """
    rows = issued(pipeline)
    return None if rows is None else _stale(rows, recompute(pipeline, rows.schema[CUTOFF]))


def _stale(rows: pl.DataFrame, marks: pl.DataFrame) -> pl.DataFrame:
    made = rows.select(MODEL, SERIES_ID, CUTOFF, TABLE_VERSION).unique()
    both = made.join(marks, on=SERIES_ID, how="inner")
    both = both.filter((pl.col("version") > pl.col(TABLE_VERSION)) & (pl.col("since") <= pl.col(CUTOFF)))
    key = (MODEL, SERIES_ID, CUTOFF, TABLE_VERSION)
    return both.group_by(key).agg(pl.col("since").min(), pl.col("version").max()).sort(key)


def scored(pipeline: Pipeline, observations: Frame) -> pl.DataFrame | None:
    """The forecasts that stand with the reading that came as `target`; None where none has come yet."""
    rows = issued(pipeline)
    if rows is None:
        return None
    first, last = rows[TIMESTAMP].min(), rows[TIMESTAMP].max()
    read = observations.lazy().select(*KEY, TARGET).filter(pl.col(TIMESTAMP).is_between(first, last))
    actual = read.drop_nulls(TARGET).join(rows.lazy().select(KEY).unique(), on=list(KEY), how="semi").collect()
    rows = rows.join(actual, on=list(KEY), how="inner", maintain_order="left")
    return None if rows.is_empty() else rows


def score(rows: pl.DataFrame, task: Task, panel: Panel, *, bounds: Sequence[datetime | int]) -> pl.DataFrame:
    """How the forecasts of each round did: until, model, forecasts (scored rows), mae, mase, skill, coverage.

    A round holds the forecasts with a cutoff after the bound before and up to its own (`until`). MASE is in units
    of the seasonal naive's error up to the first bound; skill is 1 - MASE / MASE of the seasonal naive from the
    same cutoffs, on the same readings.
    """
    history = backtest.long_frame(panel)
    history = history.filter(pl.col(TIMESTAMP) <= _literal(bounds[0], history.schema[TIMESTAMP]))
    out = []
    for number, bound in enumerate(bounds):
        inside = pl.col(CUTOFF) <= _literal(bound, rows.schema[CUTOFF])
        if number:
            inside &= pl.col(CUTOFF) > _literal(bounds[number - 1], rows.schema[CUTOFF])
        for (model,), part in rows.filter(inside).group_by(MODEL, maintain_order=True):
            naive = _naive(part, task, panel)
            own, theirs = (_overall(each, history, task) for each in (part, naive))
            skill = 1 - own["mase"] / theirs["mase"] if own["mase"] is not None and theirs["mase"] else None
            kept = {name: own[name] for name in ("mae", "mase", "coverage")}
            out.append({"until": bound, MODEL: model, "forecasts": len(part), **kept, "skill": skill})
    schema = {name: dtype or panel.dtype for name, dtype in SCORES.items()}
    return pl.DataFrame(out, schema=schema)


def _changed(rows: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """The rows that are not there yet, or with other values."""
    values = [name for name in (MEAN, *quantiles(levels_of(rows.columns))) if name in before.columns]
    old = before.select(*ISSUED, *(pl.col(name).alias(f"old {name}") for name in values), pl.lit(True).alias("stood"))
    joined = rows.join(old, on=list(ISSUED), how="left", maintain_order="left")
    same = pl.col("stood").fill_null(False)
    for name in values:
        gap = (pl.col(name) - pl.col(f"old {name}")).abs()
        same &= (gap <= SAME * pl.col(name).abs().clip(lower_bound=SAME)) | (gap == 0)
    return joined.filter(~same.fill_null(False)).select(rows.columns)


def _naive(rows: pl.DataFrame, task: Task, panel: Panel) -> pl.DataFrame:
    """What the seasonal naive would have said from the same cutoffs, for the same steps."""
    number = {name: index for index, name in enumerate(panel.series_ids)}
    places = rows.select(SERIES_ID, CUTOFF).unique(maintain_order=True)
    places = places.filter(pl.col(SERIES_ID).is_in(list(number)))
    series = torch.tensor([number[name] for name in places[SERIES_ID]], dtype=torch.int64)
    ordinals = places.select(panel.frequency.ordinal(CUTOFF).alias(ORDINAL)).to_series()
    position = torch.tensor(ordinals.to_list(), dtype=torch.int64) - panel.starts[series]
    naive = BaselineModel(task, Candidate(model="seasonal_naive"))
    made = naive.forecast_at(panel, Cutoffs(series, position))
    return made.join(rows.select(*FORECAST_KEY, TARGET), on=list(FORECAST_KEY), how="inner")


def _overall(rows: pl.DataFrame, history: pl.DataFrame, task: Task) -> dict[str, Any]:
    return metrics.overall(rows, metrics.per_series(rows, history, season_length=task.season_length))


def _literal(bound: datetime | int, dtype: pl.DataType) -> pl.Expr:
    """A bound as a value of the tables' type; a time without a zone is in theirs."""
    zone = getattr(dtype, "time_zone", None)
    literal = pl.lit(bound)
    if isinstance(bound, datetime) and bound.tzinfo is None and zone:
        literal = literal.dt.replace_time_zone(zone)
    return literal.cast(dtype)
