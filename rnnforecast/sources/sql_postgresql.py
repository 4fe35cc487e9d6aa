"""PostgreSQL as a source: one transaction that only reads and sees one snapshot, rows streamed by COPY."""

import re
from datetime import date
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

import polars as pl
import pyarrow as pa
from adbc_driver_manager import dbapi
from adbc_driver_postgresql import dbapi as driver

from rnnforecast.sources.base import SourceError
from rnnforecast.sources.sql_database import Database
from rnnforecast.sources.sql_marks import Mark
from rnnforecast.sources.sql_query import quoted

CONNECT_SECONDS: Final = 10
LOCK_MS: Final = 30_000  # to wait for a table that somebody alters
START: Final = "rnnforecast.watermark"
TYPES: Final = {"int": "bigint", "float": "double precision"}  # of a mark; the other kinds are called as the types are
COMPARED: Final = (
    *("int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "bool"),
    *("date", "timestamp", "timestamptz"),
)
SECRETS: Final = ("password", "sslpassword")
PLAIN_DAYS: Final = ((date.min - date(1970, 1, 1)).days, (date.max - date(1970, 1, 1)).days)


class Postgresql(Database):
    """A database on a server."""

    batch_option = {"adbc.postgresql.batch_size_hint_bytes": str(16 * 2**20)}  # noqa: RUF012

    def __init__(self, uri: str, label: str) -> None:
        super().__init__(label)
        self._uri = uri
        parts = urlsplit(uri)
        self._shown = host(parts)
        given = [parts.password or "", *(value for name, value in parse_qsl(parts.query) if name in SECRETS)]
        self._secrets = sorted({*given, *map(unquote, given)} - {""}, key=len, reverse=True)

    def connect(self) -> dbapi.Connection:
        """See `Database`."""
        try:
            connection = driver.connect(_with_timeout(self._uri))
        except dbapi.Error as error:
            said = self.said(error)
            if "FATAL:" in str(error) and "starting up" not in said and "too many" not in said:
                raise SourceError(
                    f"{self.label}: {self._shown} refuses the login: {said}; check user, password and database"
                ) from None
            raise SourceError(
                f"{self.label}: no connection to {self._shown}: {said}; check the host and port in `uri:`, and that "
                f"the server runs"
            ) from None
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
        return connection

    def value(self, column: pa.Field) -> str:
        """See `Database`; what has no plain counterpart is compared as text."""
        name = f"q.{quoted(column.name)}"
        return name if _type(column) in COMPARED else f"CAST({name} AS text)"

    def cell(self, column: pa.Field) -> str:
        """See `Database`; a numeric comes as text, with all its digits."""
        return self.value(column) if _type(column) != "numeric" else f"CAST(q.{quoted(column.name)} AS text)"

    def bound(self, cursor: dbapi.Cursor, start: Mark) -> tuple[str, Any]:
        """See `Database`; by a setting of this transaction, as COPY takes no parameters."""
        with cursor:
            cursor.execute(f"SELECT set_config('{START}', $1, true)", (start.text,)).fetchall()
        return f"CAST(current_setting('{START}') AS {TYPES.get(start.kind, start.kind)})", None

    @property
    def content(self) -> str:
        """See `Database`; by the text of the whole row."""
        return "CAST(q AS text)"

    def mark(self, cells: pl.Series) -> Mark | None:
        """See `Database`."""
        type_, last = _type(self._fields[cells.name]), cells.tail(1)
        if last.null_count():
            return None
        if last.dtype.is_temporal():
            if _plain_times(last.to_frame()).to_series().null_count():
                raise self._endless(cells.name, "a time that is infinite, or no year from 1 to 9999")
            return Mark(type_, last[0].isoformat())
        if last.dtype.is_float():
            last = last.cast(pl.Float64)
        if str(last[0]).lower() == "nan":
            raise self._endless(cells.name, "NaN")
        if last.dtype == pl.String:
            return Mark("numeric" if type_ == "numeric" else "text", last[0])
        return Mark("float" if last.dtype.is_float() else "int", repr(last[0]))

    def plain(self, raw: pl.DataFrame) -> pl.DataFrame:
        """See `Database`; times that are infinite become null, and so no time."""
        return _plain_times(raw)

    def hide(self, text: str) -> str:
        """See `Database`."""
        text = re.sub(r"^connection to server at .*? failed: ", "", text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _endless(self, column: str, what: str) -> SourceError:
        return SourceError(
            f"{self.label}: watermark: '{column}' holds {what}, after which no row could be new; leave such rows out "
            f"in `query:`, or name another column"
        )


def host(parts: SplitResult) -> str:
    """The server of an address, without user and password."""
    return parts.netloc.rpartition("@")[2] or "the local server"


def _type(column: pa.Field) -> str:
    """What PostgreSQL calls a column's type."""
    return (column.metadata or {}).get(b"POSTGRESQL:type", b"").decode()


def _plain_times(frame: pl.DataFrame) -> pl.DataFrame:
    """Times that Python has no name for become null."""
    times = pl.selectors.by_dtype(pl.Date, pl.Datetime)
    days = times.cast(pl.Datetime("us")).dt.epoch("d")
    return frame.with_columns(pl.when(days.is_between(*PLAIN_DAYS)).then(times).name.keep())


def _with_timeout(uri: str) -> str:
    """The address with a limit to the time that connecting may take, where it has none."""
    parts = urlsplit(uri)
    given = parse_qsl(parts.query, keep_blank_values=True)
    if any(name == "connect_timeout" for name, _ in given):
        return uri
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, f"connect_timeout={CONNECT_SECONDS}"]))))
