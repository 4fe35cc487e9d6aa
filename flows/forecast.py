"""The forecast flow: the champion's forecasts for every series, into the table of forecasts."""

import os
from pathlib import Path
from typing import Any

import polars as pl
from prefect import flow

from rnnforecast import config, ledger, registry, table
from rnnforecast.columns import CUTOFF, MODEL, SERIES_ID, TABLE_VERSION
from rnnforecast.flows import artifacts, pages
from rnnforecast.flows.jobs import Until, log, observations, plural, run_name, step
from rnnforecast.forecast import ForecastError

SUFFIXES = (".parquet", ".csv")


@flow(name="forecast", flow_run_name=run_name, persist_result=False)
def forecast(
    pipeline: str, project: str | None = None, until: Until = None, output: str | None = None, report: bool = True
) -> dict[str, Any]:
    """Forecast every series of the pipeline file `pipeline` with the champion; what stands there is not repeated.

    `output`: a .parquet or .csv file that gets the forecasts too; `report`: bring the report page up to them.
    Returns model, table_version, series, rows, written, left_out. Raises ForecastError, TableError, RegistryError.
    """
    check_output(output)
    done = issue(pipeline, project, until, output)
    if done["written"] and report:
        refresh_report(pipeline, project, until)
    return done


@step("issue forecasts", retried=True)
def issue(pipeline: str, project: str | None, until: Until, output: str | None) -> dict[str, Any]:
    """Forecast from every series' last reading and append what is new to the table of forecasts."""
    loaded = config.load(pipeline, project=project)
    version = table.version(loaded.table("observations"), loaded.storage.options)
    frame = observations(loaded, version=version, until=until)
    champion = registry.champion(loaded)
    if champion is None:
        raise ForecastError(f"{loaded.name}: there is no champion yet; `rnnforecast retrain {pipeline}` first")
    assert version is not None  # observations() has refused a table that is not there
    made, left_out = ledger.make(champion.model, frame)
    model = f"{loaded.name}/{champion.version}"
    written = ledger.issue(loaded, made, model=model, table_version=version)
    if output:
        export(made.with_columns(pl.lit(model).alias(MODEL), pl.lit(version).alias(TABLE_VERSION)), Path(output))
    series = made[SERIES_ID].n_unique()
    log.info(
        "%s: forecast: %s from model %s (%s), %s to step %d, table v%d",
        loaded.name,
        plural(written, "new row"),
        model,
        champion.model.candidate.label,
        plural(series, "series"),
        champion.model.task.horizon,
        version,
    )
    if left_out:
        log.warning(
            "%s: forecast: left out for want of readings: %s%s",
            loaded.name,
            ", ".join(left_out[:10]),
            f" and {len(left_out) - 10} more" if len(left_out) > 10 else "",
        )
    return {
        "pipeline": loaded.name,
        "model": model,
        "candidate": champion.model.candidate.label,
        "table_version": version,
        "cutoff": str(made[CUTOFF].max()),
        "series": series,
        "rows": len(made),
        "written": written,
        "left_out": left_out,
        "forecasts": loaded.table("forecasts"),
        "output": output,
    }


@step("refresh report")
def refresh_report(pipeline: str, project: str | None, until: Until) -> None:
    """Bring the report page up to the newest forecasts."""
    loaded = config.load(pipeline, project=project)
    page = pages.write(loaded, until=until)
    if page is not None:
        artifacts.links(loaded, page)
        log.info("%s: report: %s", loaded.name, page)


def check_output(output: str | None) -> None:
    """Refuse a file that cannot be written as asked. Raises ForecastError."""
    if output is None:
        return
    file = Path(output)
    if file.suffix not in SUFFIXES:
        raise ForecastError(f"--output {output}: expected a name that ends in .parquet or .csv")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise ForecastError(f"--output {output}: {file.parent} is not a folder that can be written; make it first")


def export(frame: pl.DataFrame, file: Path) -> None:
    """Write a frame as Parquet or CSV, whole or not at all; in CSV a text that begins like a formula gets a `'`."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        frame.with_columns(_inert()).write_csv(draft) if file.suffix == ".csv" else frame.write_parquet(draft)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _inert() -> pl.Expr:
    """Text that no spreadsheet takes for a formula: series are named by whoever wrote the source."""
    text = pl.selectors.string()
    return pl.when(text.str.contains(r"^[=+\-@\t\r]")).then(pl.lit("'") + text).otherwise(text).name.keep()
