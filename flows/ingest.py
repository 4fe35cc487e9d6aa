"""The ingest flow: new rows from the sources into the table of observations."""

from typing import Any

from prefect import flow

from rnnforecast import config
from rnnforecast.flows.jobs import Until, log, plural, run_name, step
from rnnforecast.ingest import IngestReport
from rnnforecast.ingest import ingest as bring_in


@flow(name="ingest", flow_run_name=run_name, persist_result=False)
def ingest(pipeline: str, project: str | None = None, until: Until = None) -> dict[str, Any]:
    """Bring the observations of the pipeline file `pipeline` up to date; `until` leaves later rows for another time.

    Returns the ingest's report as a JSON-able row. Raises SourceError, IngestError, TableError.
    """
    return store_rows(pipeline, project, until)


@step("store rows", retried=True)
def store_rows(pipeline: str, project: str | None, until: Until) -> dict[str, Any]:
    """Read the sources from their cursors and upsert what is new."""
    loaded = config.load(pipeline, project=project)
    report = bring_in(loaded, until=until)
    log.info("%s: ingest: %s", loaded.name, in_words(report))
    if report.conflict:
        log.warning("%s: ingest: %s", loaded.name, report.conflict)
    return report.as_row()


def in_words(report: IngestReport) -> str:
    """What an ingest did, in a line."""
    counts = {"duplicates": report.duplicates, "in quarantine": report.quarantined}
    parts = [f"{plural(report.inserted, 'new row')}", f"{report.updated:,} updated"]
    parts += [f"{count:,} {word}" for word, count in counts.items() if count]
    where = "no table yet" if report.version is None else f"table v{report.version}"
    until = "" if report.watermark is None else f", readings to {report.watermark}"
    return f"{', '.join(parts)}; {where}{until}"
