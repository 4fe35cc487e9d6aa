"""Delta tables: the one door to `deltalake`.

Every write is one commit that either happened or did not; repeating it changes nothing. What an ingest knows
besides its rows (the cursors) lies in the metadata of the same commit.
"""

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from rnnforecast.columns import CUTOFF, SERIES_ID, TARGET, TIMESTAMP

METADATA: Final = "rnnforecast"
ATTEMPTS: Final = 12
REMEDY: Final = "make it a writable folder, or set `storage.lake:` to another place"
Options = dict[str, str] | None
T = TypeVar("T")


class TableError(ValueError):
    """A table cannot be read or written; the message names the path and the reason."""


@dataclass(frozen=True)
class Upsert:
    """What an upsert did, in rows, and the table's version after it (None: there is no table yet)."""

    inserted: int
    updated: int
    unchanged: int
    version: int | None


def read(path: str, *, version: int | None = None, options: Options = None) -> pl.DataFrame:
    """The rows of a table, of a certain version if asked; sorted by series, time, and then the other columns."""
    frame = scan(path, version=version, options=options).collect()
    first = [name for name in (SERIES_ID, TIMESTAMP, CUTOFF) if name in frame.columns]
    return frame.sort(*first, *(name for name in frame.columns if name not in first))


def scan(path: str, *, version: int | None = None, options: Options = None) -> pl.LazyFrame:
    """A table as a lazy frame, in no order; raises TableError where there is no table."""
    table = _open(path, options)
    if table is None:
        raise TableError(f"{path}: there is no table; ingest first")
    if version is not None:
        try:
            table.load_as_version(version)
        except (DeltaError, ValueError) as error:
            raise TableError(
                f"{path}: cannot read version {version} of 0 to {table.version()}: {_line(error)}"
            ) from None
    return pl.scan_delta(table)


def version(path: str, options: Options = None) -> int | None:
    """The newest version of a table; None where there is no table yet."""
    table = _open(path, options)
    return None if table is None else table.version()


def latest(path: str, options: Options = None) -> Any:
    """The newest timestamp that has a reading; None where there is none."""
    if _open(path, options) is None:
        return None
    seen = scan(path, options=options).filter(pl.col(TARGET).is_not_null())
    return seen.select(pl.col(TIMESTAMP).max()).collect().item()


def metadata(path: str, options: Options = None) -> dict[str, Any]:
    """What the newest commit that carries any said besides its rows; empty where none does."""
    table = _open(path, options)
    if table is None:
        return {}
    for limit in (1, None):  # mostly the newest commit has it
        for commit in table.history(limit):
            if METADATA in commit:
                return dict(json.loads(commit[METADATA]))
    return {}


def upsert(
    path: str,
    frame: pl.DataFrame,
    *,
    key: Sequence[str],
    metadata: dict[str, Any] | None = None,
    options: Options = None,
) -> Upsert:
    """Insert the rows whose key is new and update those that differ, in one commit that carries `metadata`.

    Rows that are there already make no commit, and columns that the table does not have yet are added.
    Raises TableError for null or repeated keys, for columns of another type than the table's, and where
    the folder cannot be written.
    """
    _check_keys(path, frame, key)
    properties = _properties({METADATA: json.dumps(metadata)} if metadata is not None else None)

    def write(table: DeltaTable | None) -> Upsert:
        if frame.is_empty():
            return Upsert(0, 0, 0, None if table is None else table.version())
        if table is None:
            _create(path, frame, properties, options)
            return Upsert(len(frame), 0, 0, 0)
        known = _schema(table)
        _check_types(path, frame, known)
        values = {name: f"s.{_quoted(name)}" for name in frame.columns}
        change = _change([name for name in frame.columns if name not in key], set(known))
        merge = _merge(table, frame, key, properties, grow=not set(frame.columns) <= set(known))
        if change:
            updates = {_quoted(name): value for name, value in values.items() if name not in key}
            merge = merge.when_matched_update(updates, predicate=change)
        done = merge.when_not_matched_insert({_quoted(name): value for name, value in values.items()}).execute()
        inserted, updated = done["num_target_rows_inserted"], done["num_target_rows_updated"]
        return Upsert(inserted, updated, len(frame) - inserted - updated, table.version())

    return _commit(path, write, options)


def append_new(path: str, frame: pl.DataFrame, *, key: Sequence[str], options: Options = None) -> int:
    """Insert the rows whose key is new and leave the others alone; returns how many were written.

    Raises TableError as `upsert` does.
    """
    _check_keys(path, frame, key)
    properties = _properties(None)

    def write(table: DeltaTable | None) -> int:
        if frame.is_empty():
            return 0
        if table is None:
            _create(path, frame, properties, options)
            return len(frame)
        known = _schema(table)
        _check_types(path, frame, known)
        merge = _merge(table, frame, key, properties, grow=not set(frame.columns) <= set(known))
        values = {_quoted(name): f"s.{_quoted(name)}" for name in frame.columns}
        return int(merge.when_not_matched_insert(values).execute()["num_target_rows_inserted"])

    return _commit(path, write, options)


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


def digest(frame: pl.DataFrame) -> str:
    """A hash (32 hex characters) of what a frame holds, whatever the order of its rows and columns."""
    names = sorted(frame.columns)
    rows = frame.select(names).sort(names)
    state = hashlib.sha256()
    for column in rows.get_columns():
        state.update(f"{column.name}\0{column.dtype.base_type().__name__}\0{len(column)}\0".encode())
        state.update(column.is_null().to_numpy().tobytes())
        if column.dtype == pl.String:
            state.update("".join(f"{len(text)}:{text}" for text in column.drop_nulls()).encode())
        elif column.dtype.is_float():
            state.update((column.drop_nulls() + 0.0).to_numpy().tobytes())  # -0.0 and 0.0 are one number
        else:
            state.update(column.drop_nulls().to_physical().to_numpy().tobytes())
    return state.hexdigest()[:32]


def _open(path: str, options: Options) -> DeltaTable | None:
    try:
        return DeltaTable(path, storage_options=options or None)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise TableError(f"{path}: the table cannot be read: {_line(error)}") from None


def _schema(table: DeltaTable) -> dict[str, pl.DataType]:
    return dict(pl.scan_delta(table).collect_schema())


def _create(path: str, frame: pl.DataFrame, properties: CommitProperties, options: Options) -> None:
    write_deltalake(path, frame, mode="error", commit_properties=properties, storage_options=options or None)


def _merge(
    table: DeltaTable, frame: pl.DataFrame, key: Sequence[str], properties: CommitProperties, *, grow: bool
) -> Any:
    same = " AND ".join(f"s.{_quoted(name)} = t.{_quoted(name)}" for name in key)
    return table.merge(frame, same, source_alias="s", target_alias="t", merge_schema=grow, commit_properties=properties)


def _properties(note: dict[str, str] | None) -> CommitProperties:
    """A commit that fails where another writer came first, so that `_commit` merges again into what is there now.

    Left to itself, delta-rs rebases a merge onto the other's commit, and does not always see that both inserted the
    same key: two writers at once then doubled a row.
    """
    return CommitProperties(custom_metadata=note, max_commit_retries=0)


def _change(names: list[str], known: set[str]) -> str:
    """Where a row differs from the table's, nulls compared as values, so that a repeat makes no commit."""
    parts = [
        f"(s.{_quoted(name)} IS DISTINCT FROM t.{_quoted(name)})"
        if name in known
        else f"(s.{_quoted(name)} IS NOT NULL)"
        for name in names
    ]
    return " OR ".join(parts)


def _commit(path: str, write: Callable[[DeltaTable | None], T], options: Options) -> T:
    """Run `write` on the table as it is now, again on its newest version where another writer came first."""
    check_writable(path)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return write(_open(path, options))
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


def _check_keys(path: str, frame: pl.DataFrame, key: Sequence[str]) -> None:
    """Null keys never match and repeated ones are all inserted, so a merge must meet neither."""
    holes = frame.filter(pl.any_horizontal(pl.col(name).is_null() for name in key))
    if len(holes):
        raise TableError(f"{path}: expected {', '.join(key)} in every row; found {holes.row(0, named=True)}")
    repeats = frame.filter(frame.select(key).is_duplicated())
    if len(repeats):
        found = repeats.select(key).row(0, named=True)
        raise TableError(f"{path}: expected one row per {', '.join(key)}; found several for {found}; keep one of them")


def _check_types(path: str, frame: pl.DataFrame, known: dict[str, pl.DataType]) -> None:
    for name, dtype in frame.schema.items():
        if name in known and known[name] != dtype:
            remedy = "give the rows the table's type, or the pipeline another name (then it gets a new table)"
            raise TableError(
                f"{path}: column '{name}': expected {known[name]} as in the table; found {dtype}; {remedy}"
            )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
