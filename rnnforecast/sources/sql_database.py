"""A database as a source reads it: one snapshot, nothing written, frames of rows in the watermark's order."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import polars as pl
import pyarrow as pa
from adbc_driver_manager import dbapi

from rnnforecast.sources.base import ROW, SourceError, nearest
from rnnforecast.sources.sql_marks import Mark
from rnnforecast.sources.sql_query import Query, quoted

PASSING_STATES: Final = ("08", "53", "57", "40001", "40P01", "55P03")  # SQLSTATE: lost, full, stopping, in conflict
PASSING_WORDS: Final = ("connection", "locked", "busy")


class Database(ABC):
    """A database that is opened at the first use; see the dialects for how."""

    batch_option: ClassVar[Mapping[str, str]]  # how ADBC is told the size of what it hands over at a time

    def __init__(self, label: str) -> None:
        self.label = label
        self._connection: dbapi.Connection | None = None
        self._fields: dict[str, pa.Field] = {}

    @abstractmethod
    def connect(self) -> dbapi.Connection:
        """A connection in a transaction that cannot write and sees one snapshot; raises SourceError."""

    @abstractmethod
    def value(self, column: pa.Field) -> str:
        """The expression that column `q.column` is compared and sorted by."""

    @abstractmethod
    def cell(self, column: pa.Field) -> str:
        """The expression that column `q.column` is read by."""

    @abstractmethod
    def bound(self, cursor: dbapi.Cursor, start: Mark) -> tuple[str, Any]:
        """The expression that stands for `start`, and what is bound to it when the query is asked."""

    @property
    @abstractmethod
    def content(self) -> str:
        """What rows of one watermark are sorted by, so that they come in one order each time."""

    @abstractmethod
    def mark(self, cells: pl.Series) -> Mark | None:
        """The last of the watermark's cells as they were read; None for a null. Raises SourceError."""

    @abstractmethod
    def plain(self, raw: pl.DataFrame) -> pl.DataFrame:
        """What was read as rows of a source."""

    def hide(self, text: str) -> str:
        """A message of the database's client without what nobody may see."""
        return text

    def open(self, query: Query, watermark: str | None) -> None:
        """Connect and learn the query's columns; raises SourceError for a query that does not work."""
        self._connection = self.connect()
        with self._cursor() as cursor:
            schema = self._asked(cursor, f"SELECT * FROM (\n{query.text}\n) AS q LIMIT 0").schema
        taken = [name for name, count in Counter(schema.names).items() if count > 1 or name == ROW]
        if taken:
            raise SourceError(f"{self.label}: the query has a second column '{taken[0]}'; name each of its own with AS")
        self._fields = {name: schema.field(name) for name in schema.names}
        if watermark is not None and watermark not in self._fields:
            hint = nearest(watermark, self._fields) or "; name one of the query's columns"
            found = ", ".join(f"'{name}'" for name in list(self._fields)[:12])
            raise SourceError(f"{self.label}: watermark: the query has no column '{watermark}'; found {found}{hint}")

    def rows(
        self, query: Query, *, watermark: str | None = None, start: Mark | None = None, settled: bool = True
    ) -> Iterator[pl.DataFrame]:
        """Yield the query's rows as they are read, from `start` on and sorted by `watermark`, nulls first.

        With `settled` rows of one watermark come in the same order each time. Raises SourceError.
        """
        cells = ", ".join(f"{self.cell(field)} AS {quoted(name)}" for name, field in self._fields.items())
        text, binding = f"SELECT {cells} FROM (\n{query.text}\n) AS q", None
        if watermark is not None:
            value = self.value(self._fields[watermark])
            if start is not None:
                expression, binding = self.bound(self._cursor(), start)
                text += f" WHERE {value} >= {expression} OR {value} IS NULL"
            text += f" ORDER BY {value} NULLS FIRST" + (f", {self.content}" if settled else "")
        cursor = self._cursor()
        reader = self._asked(cursor, text, binding)
        while True:
            try:
                part = reader.read_next_batch()
            except StopIteration:
                return
            except (dbapi.Error, OSError, pa.ArrowException) as error:
                raise self.failure(error) from None
            if part.num_rows:
                yield pl.DataFrame(part)

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _cursor(self) -> dbapi.Cursor:
        assert self._connection is not None
        return self._connection.cursor()

    def _asked(self, cursor: dbapi.Cursor, text: str, binding: Any = None) -> pa.RecordBatchReader:
        """The answer to a query, as a stream that lives as long as its cursor."""
        cursor.adbc_statement.set_options(**self.batch_option)
        try:
            cursor.execute(text, None if binding is None else (binding,))
            return cursor.fetch_record_batch()
        except (dbapi.Error, OSError, pa.ArrowException) as error:
            raise self.failure(error) from None

    def failure(self, error: Exception) -> SourceError:
        """What the database says in one line, and whether it may pass."""
        said, state = self.said(error), str(getattr(error, "sqlstate", None) or "")
        if state.startswith(PASSING_STATES) or any(word in said.lower() for word in PASSING_WORDS):
            return SourceError(f"{self.label}: the database failed temporarily: {said}; try again later")
        return SourceError(f"{self.label}: the database refuses the query: {said}; correct `query:` or `watermark:`")

    def said(self, error: Exception) -> str:
        """The first line of what a client reports, without its own words around it."""
        text = re.split(r"\n+query( was)?:", str(error), maxsplit=1, flags=re.IGNORECASE)[0]
        text = re.sub(r"^.*?(ERROR|FATAL): +", "", text, flags=re.DOTALL)
        text = re.sub(r"^[A-Z_]+: (\[\w+\] )?(Failed to (prepare|execute|step) query: )?", "", text)
        return self.hide(text.strip().split("\n")[0][:200])
