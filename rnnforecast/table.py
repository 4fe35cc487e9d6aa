"""Delta tables: the one door to `deltalake`.

Every write is one commit that either happened or did not; repeating it changes nothing. What an ingest knows
besides its rows (the cursors) lies in the metadata of the same commit. Rows that change are rewritten with the
files that hold them (table_files.py), all others are appended; readers see the one version or the next.
"""

import json
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from rnnforecast import table_files, table_vacuum
from rnnforecast.columns import CUTOFF, SERIES_ID, TIMESTAMP
from rnnforecast.table_digest import digest as digest
from rnnforecast.table_files import Options
from rnnforecast.table_files import rises as rises
from rnnforecast.table_snapshot import CARRIED, METADATA, check_keys, kept_metadata
from rnnforecast.table_snapshot import Difference as Difference
from rnnforecast.table_snapshot import Snapshot as Snapshot
from rnnforecast.table_snapshot import TableError as TableError
from rnnforecast.table_snapshot import Upsert as Upsert

ATTEMPTS: Final = 12
REMEDY: Final = "make it a writable folder, or set `storage.lake:` to another place"
T = TypeVar("T")


def read(path: str, *, version: int | datetime | None = None, options: Options = None) -> pl.DataFrame:
    """The rows of a table, as they are or were at a version or time; sorted by series, time, then the rest."""
    frame = scan(path, version=version, options=options).collect()
    first = [name for name in (SERIES_ID, TIMESTAMP, CUTOFF) if name in frame.columns]
    return frame.sort(*first, *(name for name in frame.columns if name not in first))


def scan(path: str, *, version: int | datetime | None = None, options: Options = None) -> pl.LazyFrame:
    """A table as a lazy frame, in no order; raises TableError where there is no table, or not that version of it."""
    table = _open(path, options)
    if table is None:
        raise TableError(f"{path}: there is no table; ingest first")
    newest = table.version()
    if version is not None:
        try:
            table.load_as_version(version)
        except (DeltaError, ValueError) as error:
            raise TableError(f"{path}: cannot read version {version} of 0 to {newest}: {_line(error)}") from None
        if table.version() != newest and table_vacuum.missing(table, path, options):
            raise TableError(
                f"{path}: version {table.version()} is not kept any more: upkeep has taken its files away; "
                f"the newest is {newest}"
            )
    return pl.scan_delta(table)


def files(path: str, options: Options = None) -> pl.DataFrame | None:
    """One row per file of the newest version (see `table_files.listed`); None where there is no table."""
    table = _open(path, options)
    return None if table is None else table_files.listed(table)


def version(path: str, options: Options = None) -> int | None:
    """The newest version of a table; None where there is no table yet."""
    table = _open(path, options)
    return None if table is None else table.version()


def latest(path: str, options: Options = None) -> Any:
    """The newest timestamp that has a reading; None where there is none."""
    return snapshot(path, options).latest()


def snapshot(path: str, options: Options = None) -> Snapshot:
    """The newest version of a table, or that there is none yet."""
    return Snapshot(path, _open(path, options), options)


def metadata(path: str, options: Options = None) -> dict[str, Any]:
    """What the newest commit that carries any said besides its rows; empty where none does."""
    table = _open(path, options)
    return {} if table is None else kept_metadata(table)


def notes(path: str, *, after: int = -1, options: Options = None) -> list[tuple[int, datetime, dict[str, Any]]]:
    """Version, time and metadata of the commits after version `after` that have any of their own, oldest first."""
    table = _open(path, options)
    if table is None or table.version() <= after:
        return []
    commits = [found for found in table.history(table.version() - after) if METADATA in found and CARRIED not in found]
    return [
        (found["version"], datetime.fromtimestamp(found["timestamp"] / 1_000, tz=UTC), json.loads(found[METADATA]))
        for found in reversed(commits)
    ]


def upsert(
    path: str,
    frame: pl.DataFrame,
    *,
    key: Sequence[str],
    metadata: dict[str, Any] | None = None,
    options: Options = None,
    newer: str | None = None,
) -> Upsert:
    """Insert the rows whose key is new and update those that differ, in one commit that carries `metadata`.

    Rows that are there already make no commit, unless `metadata` is not what it was; columns that the table does not
    have yet are added. With `newer`, a column of whole numbers, a row is updated only by one whose number is not
    less. Raises TableError for null or repeated keys, for columns of another type than the table's, and where the
    folder cannot be written.
    """
    check_keys(path, frame, key)

    def write(snapshot: Snapshot) -> Upsert:
        found = snapshot.compare(frame, key, newer=newer)
        version = snapshot.apply(found, key, metadata=metadata)
        return Upsert(len(found.new), len(found.changed), found.unchanged, version)

    return commit(path, write, options)


def append_new(path: str, frame: pl.DataFrame, *, key: Sequence[str], options: Options = None) -> int:
    """Insert the rows whose key is new and leave the others alone; returns how many were written.

    Raises TableError as `upsert` does.
    """
    check_keys(path, frame, key)

    def write(snapshot: Snapshot) -> int:
        found = snapshot.compare(frame, key, update=False)
        snapshot.apply(found, key)
        return len(found.new)

    return commit(path, write, options)


def clean(
    path: str, *, hours: int, versions: Iterable[int] = (), dry_run: bool = False, options: Options = None
) -> tuple[int, int]:
    """Delete files that no version needs which was the newest in the last `hours` or is one of `versions`.

    Returns how many they are and their bytes; `dry_run`: they stay. Raises TableError.
    """
    table = _open(path, options)
    if table is None:
        return 0, 0
    try:
        unneeded = table_vacuum.unneeded(table, path, options, hours=hours, versions=versions)
        if not dry_run:
            table_vacuum.delete(path, [name for name, _ in unneeded], options)
        return len(unneeded), sum(size for _, size in unneeded)
    except (DeltaError, OSError) as error:
        raise TableError(f"{path}: old files cannot be taken away: {_line(error)}") from None


def delete(path: str, paths: Sequence[str], options: Options = None) -> None:
    """Delete files that were written for a table and never became part of it."""
    table_vacuum.delete(path, paths, options)


def check_writable(path: str) -> None:
    """Raise TableError, before anything is written, where a table's folder cannot be made or written."""
    if "://" in path:
        return
    place = Path(path)
    while not os.path.lexists(place):
        place = place.parent
    reason = ""
    if not place.is_dir():
        reason = "is not a folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = "is not writable for this user"
    if reason:
        raise TableError(f"{path}: the table cannot be written: {place} {reason}; {REMEDY}")


def _open(path: str, options: Options) -> DeltaTable | None:
    try:
        return DeltaTable(path, storage_options=options or None)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise TableError(f"{path}: the table cannot be read: {_line(error)}") from None


def commit(path: str, write: Callable[[Snapshot], T], options: Options = None) -> T:
    """Run `write` on the table as it is now, again on its newest version where another writer came first."""
    check_writable(path)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return write(snapshot(path, options))
        except (CommitFailedError, DeltaError, OSError) as error:
            if attempt == ATTEMPTS or not _is_conflict(error):
                raise TableError(f"{path}: the table cannot be written: {_line(error)}") from None
            time.sleep(random.uniform(0.02, 0.1) * min(2**attempt, 16))
    raise AssertionError("the last attempt returns or raises")


def _is_conflict(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, CommitFailedError) or any(
        word in text for word in ("conflict", "already exists", "concurrent", "transaction failed")
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
