"""One version of a Delta table, and the one commit that may follow it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

from rnnforecast import table_files
from rnnforecast.columns import KEY, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.secrets import DiscreetError
from rnnforecast.table_files import FILE, Options

METADATA: Final = "rnnforecast"
CARRIED: Final = "rnnforecast.carried"  # marks a commit that only repeats what one before it said
# Old versions stay readable until `upkeep` takes them away, not until a clock does.
SETTINGS: Final = {
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 3650 days",
    "delta.checkpointInterval": "20",  # commits that opening a table reads one by one, at most
}


class TableError(DiscreetError):
    """A table cannot be read or written; the message names the path and the reason, and holds no secret."""


@dataclass(frozen=True)
class Upsert:
    """What an upsert did, in rows, and the table's version after it (None: there is no table yet)."""

    inserted: int
    updated: int
    unchanged: int
    version: int | None


@dataclass(frozen=True)
class Difference:
    """Rows against a table: those whose key is new, those that differ (with the file in `FILE`), the rest's number."""

    new: pl.DataFrame
    changed: pl.DataFrame
    unchanged: int


class Snapshot:
    """One version of a table, or none yet, and the one commit that may follow it."""

    def __init__(self, path: str, table: DeltaTable | None, options: Options) -> None:
        self.path, self.options = path, options
        self._table = table
        self.version = None if table is None else table.version()
        self._files = None if table is None else table_files.listed(table)

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """The columns of the table; empty where there is none."""
        return {} if self._table is None else dict(pl.scan_delta(self._table).collect_schema())

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What the newest commit that carries any said besides its rows."""
        return {} if self._table is None else kept_metadata(self._table)

    def matching(self, frame: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
        """The table's rows that have a key of `frame`, with the file of each in `FILE`."""
        found = [pl.DataFrame(schema={**self.schema, **frame.select(*key).schema, FILE: pl.String()})]
        for paths, keys in () if self._files is None else table_files.touched(self._files, frame, key):
            rows = self._scan(paths).filter(_between(keys, name) for name in key)
            found.append(rows.join(keys.lazy(), on=list(key), how="semi").collect())
        return pl.concat(found)

    def latest(self) -> Any:
        """The newest timestamp that has a reading; None where there is none. Reads the newest files only."""
        newest: Any = None
        for files, rest in () if self._files is None else table_files.newest_first(self._files, TIMESTAMP):
            known = (
                files.filter(pl.col(f"null_count.{TARGET}") == 0)
                if f"null_count.{TARGET}" in files.columns
                else files[:0]
            )
            unsure = files.join(known, on="path", how="anti")["path"].to_list()
            found = [newest, known[f"max.{TIMESTAMP}"].max()]
            if unsure:
                rows = self._scan(unsure).filter(pl.col(TARGET).is_not_null())
                found.append(rows.select(pl.col(TIMESTAMP).max()).collect().item())
            newest = max((each for each in found if each is not None), default=None)
            if newest is not None and rest is not None and newest >= rest:
                break
        return newest

    def newest(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The newest timestamp with a reading (`watermark`) of those series that have one after a row of `frame`."""
        pending = frame.group_by(SERIES_ID).agg(pl.col(TIMESTAMP).min().alias("#first"))
        found = pl.DataFrame(schema={SERIES_ID: pl.String(), "watermark": frame.schema[TIMESTAMP]})
        if self._files is None or self._files.is_empty():
            return found
        there = table_files.overlapping(self._files, pending.select(SERIES_ID))
        latest = there[f"max.{TIMESTAMP}"].max()
        for files, rest in table_files.newest_first(there, TIMESTAMP):
            pending = pending.filter(pl.col("#first") <= pl.lit(latest))
            if pending.is_empty():
                break
            rows = self._scan(files["path"].to_list()).filter(
                _between(pending, SERIES_ID),
                pl.col(TIMESTAMP) >= pl.lit(pending["#first"].min()),
                pl.col(TARGET).is_not_null(),
            )
            rows = rows.join(pending.lazy().select(SERIES_ID), on=SERIES_ID, how="semi")
            more = rows.group_by(SERIES_ID).agg(pl.col(TIMESTAMP).max().alias("watermark")).collect()
            found = pl.concat([found, more]).group_by(SERIES_ID).agg(pl.col("watermark").max())
            settled = found.filter(pl.col("watermark") >= pl.lit(rest))
            pending, latest = pending.join(settled, on=SERIES_ID, how="anti"), rest
        return found

    def tail(self, frame: pl.DataFrame, count: int) -> pl.DataFrame:
        """Of each series of `frame` the last `count` rows that stand before its first one there, in order of time."""
        first = frame.group_by(SERIES_ID).agg(pl.col(TIMESTAMP).min().alias("#first"))
        found, lacking = pl.DataFrame(schema=self.schema), first
        if self._files is None or not count:
            return found
        there = table_files.overlapping(self._files, first.select(SERIES_ID))
        for files, rest in table_files.newest_first(there, TIMESTAMP):
            if lacking.is_empty():
                break
            rows = self._scan(files["path"].to_list()).drop(FILE).filter(_between(lacking, SERIES_ID))
            rows = rows.join(lacking.lazy(), on=SERIES_ID, how="inner").filter(pl.col(TIMESTAMP) < pl.col("#first"))
            found = pl.concat([found, rows.drop("#first").collect()]).sort(*KEY).group_by(SERIES_ID).tail(count)
            full = found.group_by(SERIES_ID).agg(pl.len(), pl.col(TIMESTAMP).min())
            full = full.filter(
                pl.col("len") >= count, pl.col(TIMESTAMP) >= pl.lit(rest)
            )  # later files hold none nearer
            lacking = first.join(full, on=SERIES_ID, how="anti")
        return found.sort(*KEY) if len(found) else found

    def compare(
        self, frame: pl.DataFrame, key: Sequence[str], *, newer: str | None = None, update: bool = True
    ) -> "Difference":
        """What putting `frame` there would change; its keys have been checked. Raises TableError for other types."""
        if self._table is None or frame.is_empty():
            return Difference(frame, frame.head(0), 0)
        schema = self.schema
        _check_types(self.path, frame, schema)
        there = self.matching(frame, key)
        changed = _changed(frame, there, key, set(schema), newer) if update else there.head(0)
        new = frame.join(there, on=list(key), how="anti", maintain_order="left") if len(there) else frame
        return Difference(new, changed, len(frame) - len(new) - len(changed))

    def apply(
        self, difference: "Difference", key: Sequence[str], *, metadata: dict[str, Any] | None = None
    ) -> int | None:
        """Make the change in one commit, if there is any or `metadata` is not what it was; returns the version then.

        Raises CommitFailedError where another writer came first.
        """
        new, changed = difference.new, difference.changed
        if self._table is None:
            if new.is_empty():
                return None
            self._create(new, key, metadata)
            return 0
        if new.is_empty() and changed.is_empty() and (metadata is None or metadata == self.metadata):
            return self.version
        if not set(new.columns) <= {*self.schema} and len(new) + len(changed):
            self._grow(new)
        return self._write(new, changed, key, metadata)

    def replace(self, paths: Sequence[str], adds: Sequence[AddAction]) -> int:
        """Put new files in the place of whole old ones, with the same rows; returns the new version.

        Raises CommitFailedError where another writer came first.
        """
        removed = table_files.remove(self.files, paths, data_change=False)
        return self._commit([*adds, *removed], self.metadata or None, carried=True)

    @property
    def files(self) -> pl.DataFrame:
        """One row per file; see `table_files.listed`."""
        assert self._files is not None
        return self._files

    def _scan(self, paths: Sequence[str]) -> pl.LazyFrame:
        return table_files.scan(self.path, paths, self.schema, self.options)

    def _create(self, frame: pl.DataFrame, key: Sequence[str], metadata: dict[str, Any] | None) -> None:
        create_table_with_add_actions(
            self.path,
            Schema.from_arrow(frame.schema),
            table_files.write(self.path, frame, key, self.options),
            mode="error",
            configuration=dict(SETTINGS),
            storage_options=self.options or None,
            commit_properties=_properties(metadata),
        )

    def _grow(self, frame: pl.DataFrame) -> None:
        """Add the columns that the table lacks, null so far, in a commit of its own: harmless if nothing follows."""
        assert self._table is not None
        lacking = [name for name in frame.columns if name not in self.schema]
        fields = [field for field in Schema.from_arrow(frame.schema).fields if field.name in lacking]
        self._table.alter.add_columns(fields, commit_properties=_properties(self.metadata or None, carried=True))
        self._table.update_incremental()
        del self.schema

    def _write(
        self, new: pl.DataFrame, changed: pl.DataFrame, key: Sequence[str], metadata: dict[str, Any] | None
    ) -> int:
        """Write the files with rows that changed again, each with what is new in its time; append the rest."""
        adds: list[AddAction] = []
        paths = set(changed[FILE]) if len(changed) else set()
        for number, (portion, _) in enumerate(table_files.newest_first(self.files, key[-1]) if paths else ()):
            if paths.isdisjoint(portion["path"]):
                continue
            files = portion.filter(pl.col("path").is_in(paths))
            before = self._scan(files["path"].to_list()).collect()
            mine = changed.filter(pl.col(FILE).is_in(files["path"].implode()))
            after = _updated(before, mine, key).drop(FILE)
            inside = _between(before, key[-1])
            if number == 0 and 2 * len(before) < table_files.ROWS_PER_FILE:  # a small last file grows
                inside = pl.col(key[-1]) >= pl.lit(before[key[-1]].min())
            adds += table_files.write(self.path, _with(after, new.filter(inside)), key, self.options)
            new = new.filter(~inside)
        adds += table_files.write(self.path, new, key, self.options)
        return self._commit([*adds, *table_files.remove(self.files, sorted(paths))], metadata)

    def _commit(self, actions: list[Any], metadata: dict[str, Any] | None, *, carried: bool = False) -> int:
        table = self._table
        assert table is not None
        properties = _properties(metadata, carried=carried)
        table.create_write_transaction(actions, "append", table.schema(), commit_properties=properties)
        return int(table.version()) + 1  # or the commit has failed: it is never rebased


def _between(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Whether a column lies between its least and its greatest value in `frame`."""
    return pl.col(name).is_between(pl.lit(frame[name].min()), pl.lit(frame[name].max()))


def _updated(before: pl.DataFrame, changed: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """`before` with the rows of `changed` in the place of those with their keys; the order stays."""
    names = [name for name in before.columns if name not in (*key, FILE)]
    new = changed.select(*key, *(pl.col(name).alias(f"{name}#new") for name in names), pl.lit(True).alias("#is new"))
    both = before.join(new, on=list(key), how="left", maintain_order="left")
    is_new = pl.col("#is new").fill_null(False)
    both = both.with_columns(pl.when(is_new).then(f"{name}#new").otherwise(name).alias(name) for name in names)
    return both.select(before.columns)


def _with(rows: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, more], how="diagonal") if len(more) else rows


def _changed(
    frame: pl.DataFrame, there: pl.DataFrame, key: Sequence[str], known: set[str], newer: str | None
) -> pl.DataFrame:
    """The rows of `frame` that differ from those that are there, nulls being values, with what `frame` does not say."""
    values = [name for name in frame.columns if name not in key]
    if there.is_empty() or not values:
        return there.head(0)
    both = frame.join(there, on=list(key), how="inner", suffix="#there", maintain_order="left")
    pairs = {name: f"{name}#there" for name in values if name in known}
    differs = [pl.col(name).ne_missing(pl.col(old)) for name, old in pairs.items()]
    differs += [pl.col(name).is_not_null() for name in values if name not in known]
    found = both.filter(pl.any_horizontal(differs))
    if newer in pairs:
        found = found.filter(pl.col(pairs[newer]).is_null() | (pl.col(newer) >= pl.col(pairs[newer])))
    return found.drop(*pairs.values())


def kept_metadata(table: DeltaTable) -> dict[str, Any]:
    """What the newest commit that carries any said besides its rows; empty where none does."""
    for limit in (1, 100, None):  # mostly the newest commit has it
        for found in table.history(limit):
            if METADATA in found:
                return dict(json.loads(found[METADATA]))
    return {}


def _properties(metadata: dict[str, Any] | None, *, carried: bool = False) -> CommitProperties:
    """A commit that fails where another writer came first, so that `commit` looks again at what is there now.

    Left to itself, delta-rs rebases one writer's commit onto the other's, and both may have inserted the same key.
    """
    note = None if metadata is None else {METADATA: json.dumps(metadata)} | ({CARRIED: "true"} if carried else {})
    return CommitProperties(custom_metadata=note, max_commit_retries=0)


def check_keys(path: str, frame: pl.DataFrame, key: Sequence[str]) -> None:
    """Null keys never match and repeated ones are all inserted, so a merge must meet neither."""
    holes = frame.filter(pl.any_horizontal(pl.col(name).is_null() for name in key))
    if len(holes):
        raise TableError(f"{path}: expected {', '.join(key)} in every row; found {holes.row(0, named=True)}")
    if table_files.rises(frame, key):
        return
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
