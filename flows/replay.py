"""The replay flow: the last part of the data played as a stream, every forecast scored by what came after it."""

from datetime import datetime
from typing import Any

import polars as pl
from prefect import flow

from rnnforecast import config, ledger, metrics, registry
from rnnforecast.columns import TIMESTAMP
from rnnforecast.config import Pipeline
from rnnforecast.flows import pages
from rnnforecast.flows.forecast import forecast, refresh_report
from rnnforecast.flows.ingest import ingest
from rnnforecast.flows.jobs import log, observations, run_name, step
from rnnforecast.flows.pipeline import check_places
from rnnforecast.flows.retrain import retrain
from rnnforecast.sources import open_source
from rnnforecast.sources.base import SourceError

BATCHES = 5


@flow(name="replay", flow_run_name=run_name, persist_result=False)
def replay(pipeline: str, project: str | None = None, batches: int = BATCHES) -> dict[str, Any]:
    """Play the last `batches` horizons of the sources of `pipeline` as a stream.

    Ingest up to a date, train, forecast; then let a horizon of readings arrive at a time, and each time ingest,
    score the forecast made before, forecast. A second replay finds nothing new. Returns the scores of all rounds
    and what the pipeline stands at.
    """
    check_places(pipeline, project)
    bounds = divide(pipeline, project, batches)
    ingest(pipeline, project, bounds[0])
    retrain(pipeline, project, bounds[0])
    forecast(pipeline, project, bounds[0], report=False)
    scores: list[dict[str, Any]] = []
    for number, bound in enumerate(bounds[1:], start=1):
        ingest(pipeline, project, bound)
        scores = score(pipeline, project, bounds[:number], bound)
        forecast(pipeline, project, bound, report=False)
    refresh_report(pipeline, project, None)
    return {"scores": scores, **pages.standing(config.load(pipeline, project=project))}


@step("divide")
def divide(pipeline: str, project: str | None, batches: int) -> list[datetime | int]:
    """The times up to which readings arrive: `batches` + 1 of them, a horizon apart, the last one the end."""
    loaded = config.load(pipeline, project=project)
    times = pl.concat(_times(loaded)).unique().sort()
    held_back = loaded.horizon * batches
    if len(times) <= held_back:
        raise SourceError(
            f"{loaded.name}: {len(times)} steps are too few to hold back {batches} batches of {loaded.horizon}; "
            "shorten the horizon or play fewer batches"
        )
    return [times[len(times) - 1 - held_back + number * loaded.horizon] for number in range(batches + 1)]


def _times(pipeline: Pipeline) -> list[pl.Series]:
    readers = [open_source(pipeline, source) for source in pipeline.sources]
    return [batch.frame[TIMESTAMP] for reader in readers for batch in reader.read(None)]


@step("score")
def score(
    pipeline: str, project: str | None, bounds: list[datetime | int], until: datetime | int
) -> list[dict[str, Any]]:
    """Score the forecasts made at each of `bounds` with the readings up to `until`; one line for the newest."""
    loaded = config.load(pipeline, project=project)
    frame = observations(loaded, until=until)
    rows, champion = ledger.scored(loaded, frame), registry.champion(loaded)
    if rows is None or champion is None:
        return []
    task = champion.model.task
    found = ledger.score(rows, task, task.panel(frame), bounds=bounds).to_dicts()
    newest = [row for row in found if row["until"] == found[-1]["until"]]
    for row in newest:
        log.info("%s: replay: %s", loaded.name, in_words(row, metrics.interval(list(task.quantile_levels))))
    return found


def in_words(row: dict[str, Any], interval: tuple[float, float] | None) -> str:
    """A round's score in a line."""
    skill = "" if row["skill"] is None else f", skill {row['skill']:+.2f} against the seasonal naive"
    inside = ""
    if interval is not None and row["coverage"] is not None:
        inside = f", {row['coverage']:.0%} inside the {interval[1] - interval[0]:.0%} interval"
    return f"{row['forecasts']} forecasts made at {row['until']} scored: MAE {row['mae']:.4g}{skill}{inside}"
