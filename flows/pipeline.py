"""The pipeline flow: ingest, retrain, forecast, report, in turn."""

from typing import Any

from prefect import flow

from rnnforecast import config, table
from rnnforecast.flows import pages, study
from rnnforecast.flows.forecast import forecast
from rnnforecast.flows.ingest import ingest
from rnnforecast.flows.jobs import Until, check_folder, run_name, step
from rnnforecast.flows.retrain import retrain
from rnnforecast.store import open_store


@flow(name="pipeline", flow_run_name=run_name, persist_result=False)
def pipeline(pipeline: str, project: str | None = None, until: Until = None, force: bool = False) -> dict[str, Any]:
    """Run the pipeline file `pipeline` from its sources to forecasts and report; a second time nothing is repeated.

    Returns what ingest and forecast did, and what the pipeline stands at.
    """
    check_places(pipeline, project)
    arrived = ingest(pipeline, project, until)
    loaded = config.load(pipeline, project=project)
    before = study.finished(loaded)
    retrain(pipeline, project, until, force)
    reported = study.finished(loaded) != before  # its page holds what the champion forecasts from these readings
    issued = forecast(pipeline, project, until, report=not reported)
    return {"ingest": arrived, "forecast": issued, **pages.standing(loaded)}


@step("check places")
def check_places(pipeline: str, project: str | None) -> None:
    """Refuse a place that cannot be written before anything is. Raises TableError, JobError, RegistryError."""
    loaded = config.load(pipeline, project=project)
    for name in ("observations", "quarantine", "forecasts"):
        table.check_writable(loaded.table(name))
    for key in ("reports", "checkpoints"):
        check_folder(loaded.resolve(getattr(loaded.storage, key)), f"storage.{key}")
    open_store(loaded)
