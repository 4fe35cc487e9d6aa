"""The ingest flow: new rows from the sources into the table of observations."""

from typing import Any

import polars as pl
from prefect import flow

from rnnforecast import config, quality
from rnnforecast.config import Pipeline
from rnnforecast.flows import artifacts
from rnnforecast.flows.jobs import Until, log, plural, run_name, step
from rnnforecast.ingest import IngestReport
from rnnforecast.ingest import ingest as bring_in
from rnnforecast.ingest_record import COUNTS


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
    for line in (*([report.conflict] if report.conflict else []), *changes_in_words(report), *report.notes):
        log.warning("%s: ingest: %s", loaded.name, line)
    show(loaded, report)
    return report.as_row()


def show(pipeline: Pipeline, report: IngestReport) -> None:
    """Leave the counts and the quality report on Prefect's page."""
    if not report.read:
        return
    row = report.as_row()
    counts = pl.DataFrame([{name: row[name] for name in (*COUNTS, "version", "watermark")}])
    artifacts.table(pipeline, "ingest", counts, "(read = inserted + updated + unchanged + duplicates + quarantined)")
    parts = {
        "Refused": [f"{count:,} {reason}" for reason, count in report.reasons.items()],
        "Columns that changed": changes_in_words(report),
        "Quality": quality.as_words(report.findings),
    }
    lines = [f"# {pipeline.name}: ingest", "", in_words(report)]
    for title, said in parts.items():
        lines += ["", f"## {title}", "", *(f"- {line}" for line in said)] if said else []
    artifacts.page(pipeline, "quality", "\n".join(lines), "what the last ingest took, refused and found")


def changes_in_words(report: IngestReport) -> list[str]:
    """Columns that are not as they were, a line each."""
    return [
        f"column '{each['column']}': {each['kind']}: {each['detail']} ({each['action']})" for each in report.changes
    ]


def in_words(report: IngestReport) -> str:
    """What an ingest did, in a line."""
    counts = {
        "unchanged": report.unchanged,
        "duplicates": report.duplicates,
        "in quarantine": report.quarantined,
    }
    parts = [f"{plural(report.inserted, 'new row')}", f"{report.updated:,} updated"]
    parts += [f"{count:,} {word}" for word, count in counts.items() if count]
    parts += [f"{report.late:,} of them late" if report.late else ""]
    parts = [f"{plural(report.read, 'row')} read: {parts[0]}", *filter(None, parts[1:])]
    where = "no table yet" if report.version is None else f"table v{report.version}"
    until = "" if report.watermark is None else f", readings to {report.watermark}"
    return f"{', '.join(parts)}; {where}{until}"
