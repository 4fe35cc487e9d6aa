"""A query on a database as a source, from a watermark on.

Rows come sorted by the watermark, and a batch holds what lies whole below a value of it, so that its cursor is that
value: all rows from it on are read again. Rows of the newest value (there may be more of them next time) are a batch
of their own. Without a watermark the whole answer is read, unless its digest is that of the last time.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import polars as pl

from rnnforecast.config import Pipeline, SqlSource
from rnnforecast.sources.base import ROW, Batch, Cursor, SourceError, Until, identity
from rnnforecast.sources.layout import Mapping
from rnnforecast.sources.parse import Long, Memory, to_long
from rnnforecast.sources.rows import Rows
from rnnforecast.sources.spans import up_to
from rnnforecast.sources.sql_database import Database
from rnnforecast.sources.sql_marks import Mark
from rnnforecast.sources.sql_place import Place
from rnnforecast.sources.sql_postgresql import Postgresql, host
from rnnforecast.sources.sql_query import checked
from rnnforecast.sources.sql_sqlite import Sqlite


class SqlReader:
    """Reads what a query has that is new; the database is opened for each reading, and left as it is."""

    def __init__(self, pipeline: Pipeline, source: SqlSource) -> None:
        self._source = source
        self._query = checked(source.query, watermark=source.watermark)
        self._database, place = _database(pipeline, source.uri.get_secret_value(), self._query.table)
        self.label = self._database.label
        self._mapping = Mapping.of(pipeline, source, self.label)
        self.key = identity("sql", self.label, [place, self._query.text, source.watermark, self._mapping.decisive])
        self._rows_read = 0

    def read(self, cursor: Cursor | None, *, until: Until = None) -> Iterator[Batch]:
        """Yield what is new since `cursor`; with `until` the cursor stays, and all rows from it on are looked at.

        Raises SourceError for a database that cannot be reached and a query that does not work.
        """
        before = cursor or {}
        self._rows_read = 0
        try:
            self._database.open(self._query, self._source.watermark)
            place = Place.of(before)
            for batch in self._whole(place) if self._source.watermark is None else self._newer(place):
                if until is None:
                    yield batch
                else:
                    yield replace(batch, frame=up_to(batch.frame, until, self.label), cursor=before)
        finally:
            self._database.close()

    def stored(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """The connection goes, should a reading have been left half way."""
        self._database.close()

    def _newer(self, place: Place) -> Iterator[Batch]:
        """The rows from the last value of the watermark on."""
        back, column = self._source.lookback, str(self._source.watermark)
        begin, place = place.begun(None if back is None else str(back), self.label)
        known, memory, seen = place.digest, place.memory, hashlib.sha256()
        waiting: pl.DataFrame | None = None  # rows of the newest value so far
        for block in self._blocks(begin):
            rows = block if waiting is None else pl.concat([waiting, block])
            mark = self._database.mark(rows[column])
            below = len(rows) if mark is None else _below_last(rows[column])
            if below:
                read, notes = self._long(rows.head(below), memory)
                place, memory = place.after(read, begin=begin, end=mark), read.memory
                known, seen = None, hashlib.sha256()
                yield self._batch(read, place, notes)
            if mark is not None:
                begin, place = mark, replace(place, position=mark)
            waiting = rows.tail(len(rows) - below)
            if len(waiting) >= self._source.batch_rows:
                seen.update(_hashes(waiting))
                read, notes = self._long(waiting, memory)
                place, memory, known = place.after(read, begin=begin, end=None), read.memory, None
                yield self._batch(read, place, notes)
                waiting = waiting.clear()
        if waiting is None:
            return
        seen.update(_hashes(waiting))
        if seen.hexdigest() != known:
            read, notes = self._long(waiting, memory)
            place = place.after(read, begin=begin, end=None)
            yield self._batch(read, replace(place, ended=True, digest=seen.hexdigest()), notes)

    def _whole(self, place: Place) -> Iterator[Batch]:
        """All rows, unless they are those of the last time."""
        if place.digest is not None and not place.fell_due and self._digest() == place.digest:
            return
        memory = replace(place.memory, folds=frozenset())
        place, seen, waiting = Place(memory=memory), hashlib.sha256(), None
        for block in self._blocks():
            if waiting is not None:
                read, _ = self._long(waiting, memory)
                place, memory = place.after(read, begin=None, end=None), read.memory
                place = replace(place, memory=replace(memory, folds=frozenset()))
                yield self._batch(read, place)
            waiting = block
            seen.update(_hashes(block))
        if waiting is not None:
            read, _ = self._long(waiting, memory)
            memory = replace(read.memory, folds=frozenset())
            place = place.after(read, begin=None, end=None)
            yield self._batch(read, replace(place, memory=memory, ended=True, digest=seen.hexdigest()))

    def _digest(self) -> str:
        """What the answer holds."""
        seen = hashlib.sha256()
        for rows in self._blocks():
            seen.update(_hashes(rows))
        return seen.hexdigest()

    def _blocks(self, start: Mark | None = None) -> Iterator[pl.DataFrame]:
        """The rows as the database gives them, `batch_rows` at a time."""
        size, held, count = self._source.batch_rows, list[pl.DataFrame](), 0
        # Rows of a repeated hour are told apart by the order in which they came: then none is made for them.
        settled = self._source.timezone is None
        for part in self._database.rows(self._query, watermark=self._source.watermark, start=start, settled=settled):
            held.append(part)
            count += len(part)
            while count >= size:
                rows = pl.concat(held)
                yield rows.head(size)
                held, count = [rows.tail(count - size)], count - size
        if count:
            yield pl.concat(held)

    def _long(self, raw: pl.DataFrame, memory: Memory) -> tuple[Long, tuple[str, ...]]:
        """Rows as a long frame, and what is to be told of them."""
        frame = self._database.plain(raw).with_row_index(ROW, offset=self._rows_read + 1).cast({ROW: pl.Int64()})
        self._rows_read += len(raw)
        column = self._source.watermark
        unmarked = frame[column].null_count() if column is not None else 0
        note = f"{self.label}: {unmarked} rows have no value in '{column}' and are read again each time"
        return to_long(Rows(frame), self._mapping, name=self.label, memory=memory), (note,) if unmarked else ()

    def _batch(self, read: Long, place: Place, notes: tuple[str, ...] = ()) -> Batch:
        return Batch(read.frame, read.rejected, place.as_cursor(), self.label, read.changes, notes)


def _below_last(cells: pl.Series) -> int:
    """How many of sorted cells come before those that equal the last one."""
    others = cells.ne_missing(cells[-1]).arg_true()
    return int(others[-1]) + 1 if len(others) else 0


def _hashes(rows: pl.DataFrame) -> bytes:
    """A hash of each row: the same wherever frames are cut."""
    return rows.hash_rows().to_numpy().tobytes()


def _database(pipeline: Pipeline, uri: str, table: str) -> tuple[Database, list[str]]:
    """The database of a `uri`, and what tells it from others, without user and password."""
    if uri.startswith("sqlite:///"):
        shown = unquote(uri.removeprefix("sqlite:///"))
        path = Path(pipeline.resolve(shown))
        return Sqlite(path, shown, f"sqlite:{path.name}/{table}"), ["sqlite", shown]
    try:
        parts = urlsplit(uri)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("postgresql", "postgres") or not parts.path.strip("/"):
        found = parts.scheme or "no kind of database"
        raise SourceError(f"uri: expected sqlite:///path or postgresql://user:${{PASSWORD}}@host/name; found {found!r}")
    name = unquote(parts.path.strip("/"))
    return Postgresql(uri, f"postgresql:{name}/{table}"), ["postgresql", host(parts), name]
