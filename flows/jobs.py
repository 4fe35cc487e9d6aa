"""What all flows share: how a run is called, what is tried again, how a step reports itself, what counts as 'now'."""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import polars as pl
from prefect import Task, runtime, task
from prefect.cache_policies import NO_CACHE

from rnnforecast import config, table
from rnnforecast.columns import TARGET, TIMESTAMP
from rnnforecast.config import Pipeline
from rnnforecast.secrets import hidden

P = ParamSpec("P")
R = TypeVar("R")
Until = datetime | int | None  # a job sees readings up to this time (inclusive); None: all there are

RETRY_DELAYS: Final = [2.0, 5.0, 15.0]
PASSING: Final = ("timed out", "timeout", "connection", "locked", "temporarily", "unavailable", "too many requests")


class JobError(ValueError):
    """A job that cannot be done as the pipeline file says; the message says where and what to do."""


log = logging.getLogger("rnnforecast")  # Prefect keeps these lines with the run, the command shows them


def _without_secrets(record: logging.LogRecord) -> bool:
    record.msg, record.args = hidden(record.getMessage()), ()
    return True


log.addFilter(_without_secrets)


def step(name: str, *, run_name: str | None = None, retried: bool = False) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A Prefect task that keeps no results; `retried` where a network or a lock can fail."""
    retries = {"retries": len(RETRY_DELAYS), "retry_delay_seconds": RETRY_DELAYS, "retry_condition_fn": passing}
    made = task(
        name=name,
        task_run_name=run_name,
        persist_result=False,
        cache_policy=NO_CACHE,
        **(retries if retried else {}),  # type: ignore[call-overload]
    )
    return cast(Callable[[Callable[P, R]], Task[P, R]], made)


def run_name() -> str:
    """Name of the present flow run, such as 'climate: retrain on table v3'."""
    given = runtime.flow_run.parameters
    job = str(runtime.flow_run.flow_name)
    try:
        pipeline = config.load(given["pipeline"], project=given.get("project"))
        newest = None if job == "ingest" else table.version(pipeline.table("observations"), pipeline.storage.options)
    except ValueError:  # the flow itself will say what is wrong
        return f"{given.get('pipeline')}: {job}"
    parts = [f"{pipeline.name}: {job}", *([] if newest is None else [f"on table v{newest}"])]
    return " ".join(parts + ([f"until {given['until']}"] if given.get("until") is not None else []))


def passing(task: Any, run: Any, state: Any) -> bool:
    """Whether a failed task is worth another try: only what a network or a lock may cause."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError):
        return False
    return isinstance(error, OSError) or any(word in str(error).lower() for word in PASSING)


def observations(pipeline: Pipeline, *, version: int | None = None, until: Until = None) -> pl.LazyFrame:
    """The table of observations at a version, as it was at `until`: later rows keep their known covariates only.

    In no order, and not read before it is asked for. Raises TableError where there is no table.
    """
    rows = table.scan(pipeline.table("observations"), version=version, options=pipeline.storage.options)
    if until is None:
        return rows
    seen = pl.col(TIMESTAMP) <= moment(until)
    if not pipeline.known_covariates:
        return rows.filter(seen)
    hidden = (TARGET, *pipeline.past_covariates)
    return rows.with_columns(pl.when(seen).then(pl.col(name)).alias(name) for name in hidden)


def moment(until: datetime | int) -> pl.Expr:
    """A time or an integer step as it stands in the tables (a time without a zone is UTC)."""
    if not isinstance(until, datetime):
        return pl.lit(until)
    zoned = until.astimezone(UTC) if until.tzinfo else until.replace(tzinfo=UTC)
    return pl.lit(zoned).cast(pl.Datetime("us", "UTC"))


def check_folder(folder: str, key: str) -> None:
    """Raise JobError, before anything is written, where a folder of the pipeline file cannot be made or written."""
    place = Path(folder)
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        reason = "is not writable for this user" if place.is_dir() else "is not a folder"
        raise JobError(f"{folder}: {place} {reason}; make it a writable folder, or set `{key}:` to another place")


def plural(count: int, noun: str) -> str:
    """'1 row', '2,284 rows', '0 series'."""
    return f"{count:,} {noun}" + ("" if count == 1 or noun.endswith("s") else "s")
