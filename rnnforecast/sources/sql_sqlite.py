"""SQLite as a source: a file, opened so that it cannot be written, nor made where it is absent.

A column of SQLite may hold anything in any row, and ADBC takes its type from the first rows and stops at the first
other cell. So all cells are asked for as SQL literals, which say their type and every digit of their value.
"""

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import polars as pl
import pyarrow as pa
from adbc_driver_manager import dbapi
from adbc_driver_sqlite import dbapi as driver

from rnnforecast.sources.base import SourceError
from rnnforecast.sources.sql_database import Database
from rnnforecast.sources.sql_marks import Mark
from rnnforecast.sources.sql_query import quoted

WAIT_MS: Final = 10_000  # for a writer's lock


class Sqlite(Database):
    """A database file; `shown` is its path as the pipeline file has it."""

    batch_option = {"adbc.sqlite.query.batch_rows": "65536"}  # noqa: RUF012

    def __init__(self, path: Path, shown: str, label: str) -> None:
        super().__init__(label)
        self._path = path
        self._shown = shown

    def connect(self) -> dbapi.Connection:
        """See `Database`; a file that is absent is refused, and is not made."""
        if not self._path.is_file():
            what = "it is a folder" if self._path.is_dir() else f"no such file ({self._path})"
            raise SourceError(f"{self.label}: uri: {self._shown}: {what}; relative paths count from the project")
        connection = None
        try:
            connection = driver.connect(f"file:{quote(str(self._path))}?mode=ro")
            for pragma in (f"busy_timeout = {WAIT_MS}", "query_only = 1", "schema_version"):
                with connection.cursor() as cursor:
                    cursor.execute(f"PRAGMA {pragma}").fetchall()
        except dbapi.Error as error:
            if connection is not None:
                connection.close()
            said = self.said(error)
            raise SourceError(f"{self.label}: {self._shown} cannot be opened: {said}; check what it is") from None
        return connection

    def value(self, column: pa.Field) -> str:
        """See `Database`."""
        return f"q.{quoted(column.name)}"

    def cell(self, column: pa.Field) -> str:
        """See `Database`."""
        return f"quote({self.value(column)})"

    def bound(self, cursor: dbapi.Cursor, start: Mark) -> tuple[str, Any]:
        """See `Database`."""
        cast = {"int": int, "float": float}.get(start.kind, str)
        return "?", cast(start.text)

    @property
    def content(self) -> str:
        """See `Database`: by all columns as they were asked for."""
        return ", ".join(str(number) for number in range(1, len(self._fields) + 1))

    def mark(self, cells: pl.Series) -> Mark | None:
        """See `Database`."""
        literal = str(cells[-1])
        if literal == "NULL":
            return None
        if literal.startswith("'"):
            return Mark("text", literal[1:-1].replace("''", "'"))
        if literal.startswith("X'"):
            raise SourceError(f"{self.label}: watermark: '{cells.name}' holds bytes; name a column of numbers or text")
        return Mark("int" if literal.lstrip("-").isdigit() else "float", literal)

    def plain(self, raw: pl.DataFrame) -> pl.DataFrame:
        """See `Database`: all cells are text, as those of a CSV file are."""
        cell = pl.all()
        inner = cell.str.slice(1, cell.str.len_chars() - 2).str.replace_all("''", "'", literal=True)
        return raw.select(pl.when(cell.str.starts_with("'")).then(inner).when(cell != "NULL").then(cell).name.keep())
