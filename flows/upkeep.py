"""The upkeep flow: small files of the tables merged, and versions that nobody needs taken away."""

from typing import Any

import polars as pl
from prefect import flow

from rnnforecast import config, registry
from rnnforecast.flows import artifacts
from rnnforecast.flows.jobs import JobError, log, plural, run_name, step
from rnnforecast.upkeep import TableUpkeep
from rnnforecast.upkeep import upkeep as keep_up


@flow(name="upkeep", flow_run_name=run_name, persist_result=False)
def upkeep(
    pipeline: str, project: str | None = None, keep_days: int | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """Merge small files of the tables of the pipeline file `pipeline`, and delete what no version needs that is kept.

    Kept is what a registered model was trained on, and the last `keep_days` (absent: `storage.keep_days` of the
    file). `dry_run`: only say what would be done. Returns the report as a JSON-able row. Raises TableError, JobError.
    """
    return tidy(pipeline, project, keep_days, dry_run)


@step("tidy tables", retried=True)
def tidy(pipeline: str, project: str | None, keep_days: int | None, dry_run: bool) -> dict[str, Any]:
    """Keep the tables up, and leave a table of what was done as an artifact."""
    loaded = config.load(pipeline, project=project)
    days = loaded.storage.keep_days if keep_days is None else keep_days
    if days < 1:  # a retrain that is at work reads a version that no model names yet
        raise JobError(f"keep_days: expected 1 or more; found {days}")
    named = registry.history(loaded)["table_version"]
    done = keep_up(loaded, versions=named, keep_days=days, dry_run=dry_run)
    for each in done.tables:
        log.info("%s: upkeep: %s", loaded.name, in_words(each, dry_run=dry_run))
    rows = done.as_row()
    if done.tables:
        artifacts.table(loaded, "upkeep", pl.DataFrame(rows["tables"]), "files and bytes, before and after")
    return rows


def in_words(done: TableUpkeep, *, dry_run: bool) -> str:
    """What was done to a table, in a line."""
    would = "would be " if dry_run else ""
    parts = [f"{done.table}: {plural(done.rewritten, 'small file')} {would}merged"]
    parts += [] if dry_run else [f"{done.files_before:,} files became {done.files_after:,}"]
    return f"{', '.join(parts)}, {plural(done.removed, 'old file')} {would}removed ({done.removed_bytes:,} bytes)"
