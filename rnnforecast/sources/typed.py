"""Parquet and Arrow files in pieces: columns keep their types, rows are counted from 1.

Such a file is not appended to: one that changed is read again. What its footer claims is held against its size
first, and text is measured before it is touched: a few bytes can stand for any amount of either.
"""

import mmap
import os
from collections.abc import Iterable, Iterator
from io import BufferedReader
from typing import Any, Final, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rnnforecast.sources.base import ROW, SourceError
from rnnforecast.sources.pieces import Entry, Piece
from rnnforecast.sources.rows import MIB, MOST_CELLS, MOST_ROWS, NothingYet, Rows, checked_names, one_line

MOST_TEXT: Final = 512 * MIB  # in the cells of one piece
FEWEST_ROWS: Final = 1_000  # of a piece, however many columns there are
LARGEST_COLUMN: Final = 2048 * MIB  # of one row group, unpacked
MOST_SWELLING: Final = 200
MOST_ROWS_A_BYTE: Final = 100  # rows that are all alike, at regular times, come to about 40
FEW_ROWS: Final = 10_000_000
BROKEN: Final = (Exception, pl.exceptions.PanicException)  # what the libraries raise on a damaged file
ARROW_FILE: Final = b"ARROW1"


class Sheet(Protocol):
    """An opened file of typed columns."""

    schema: dict[str, bool]  # name of a column to whether its cells are plain (no lists, no bytes)

    def rows(self, offset: int, length: int, columns: list[str]) -> pl.DataFrame:
        """Some rows, fewer at the end."""
        ...


class Parquet:
    """A Parquet file, of which only the pages that hold the rows are unpacked."""

    def __init__(self, stream: BufferedReader, *, name: str) -> None:
        self._stream = stream
        footer = pq.ParquetFile(stream).metadata
        size = os.fstat(stream.fileno()).st_size
        if footer.num_rows > max(FEW_ROWS, MOST_ROWS_A_BYTE * size):
            raise SourceError(f"{name}: claims {footer.num_rows} rows in {size} bytes: no file of readings does")
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            for chunk in map(group.column, range(group.num_columns)):
                swollen = chunk.total_uncompressed_size > max(LARGEST_COLUMN, MOST_SWELLING * size)
                if swollen or chunk.total_uncompressed_size < 0:
                    raise SourceError(
                        f"{name}: column '{chunk.path_in_schema[:60]}' unpacks to {chunk.total_uncompressed_size} "
                        f"bytes in one row group, of a file of {size}; write it in smaller row groups"
                    )
        self.schema = {field.name: _is_plain(field.type) for field in pq.ParquetFile(stream).schema_arrow}

    def rows(self, offset: int, length: int, columns: list[str]) -> pl.DataFrame:
        """Some rows, fewer at the end."""
        self._stream.seek(0)  # polars takes what comes from here on for the file
        return pl.scan_parquet(self._stream).select(columns).slice(offset, length).collect()


class Arrow:
    """An Arrow file or stream, mapped into memory, a record batch at a time."""

    def __init__(self, stream: BufferedReader) -> None:
        data = pa.py_buffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        self._batches: Iterator[Any]
        if data[: len(ARROW_FILE)].to_pybytes() == ARROW_FILE:
            file = pa.ipc.open_file(data)
            schema, self._batches = file.schema, map(file.get_batch, range(file.num_record_batches))
        else:
            opened = pa.ipc.open_stream(data)
            schema, self._batches = opened.schema, iter(opened)
        self.schema = {field.name: _is_plain(field.type) for field in schema}
        if len(self.schema) < len(schema):
            raise ValueError("two columns of one name")
        self._names = schema.names
        self._held: list[Any] = []  # batches from the row `_begin` on
        self._begin = 0

    def rows(self, offset: int, length: int, columns: list[str]) -> pl.DataFrame:
        """Some rows, fewer at the end; `offset` never goes back."""
        while self._held and self._begin + len(self._held[0]) <= offset:
            self._begin += len(self._held.pop(0))
        while self._begin + sum(map(len, self._held)) < offset + length:
            batch = next(self._batches, None)
            if batch is None:
                break
            batch.validate(full=True)  # a hostile file may point outside of itself
            if not self._held and self._begin + len(batch) <= offset:
                self._begin += len(batch)
            else:
                self._held.append(batch)
        schema = self._held[0].select(columns).schema if self._held else pa.schema([])
        table = pa.Table.from_batches([batch.select(columns) for batch in self._held], schema)
        frame = pl.from_arrow(table.slice(max(0, offset - self._begin), length))
        assert isinstance(frame, pl.DataFrame)
        return frame


class TypedPieces:
    """A Parquet or Arrow file, from the row on where the cursor's entry stands."""

    def __init__(
        self, stream: BufferedReader, *, name: str, kind: str, entry: Entry | None, wanted: Iterable[str], size: int
    ) -> None:
        """wanted: columns that are read whatever they hold; of the others, lists and bytes are passed over."""
        self._name, self._kind = name, "Parquet" if kind == "parquet" else "Arrow"
        self._at = self._next = int(entry["rows"]) if entry else 0
        try:
            self._sheet: Sheet = Parquet(stream, name=name) if kind == "parquet" else Arrow(stream)
        except SourceError:
            raise
        except BROKEN as error:
            raise self._broken(error) from None
        names = checked_names(list(self._sheet.schema), name=name)
        self._columns = [column for column in names if self._sheet.schema[column] or column in set(wanted)]
        widest = max(FEWEST_ROWS, MOST_CELLS // max(1, len(self._columns)))
        self.size = min(size, widest)
        self.most = max(self.size, min(4 * MOST_ROWS, widest))

    def piece(self, size: int) -> Piece | None:
        """The next rows, `size` of them."""
        size = min(size, self.most)
        frame = self._read(size)
        while _text(frame) > MOST_TEXT:
            if size <= FEWEST_ROWS:
                raise SourceError(
                    f"{self._name}: row {self._at + 1}: more than {MOST_TEXT // MIB} MiB of text in {size} rows; "
                    f"leave out what is no reading"
                )
            size = max(FEWEST_ROWS, size // 8)
            frame = frame.head(size)
        if frame.is_empty():
            if not self._at:
                raise NothingYet(
                    f"{self._name}: no rows: the {self._kind} file holds columns only; check what wrote it"
                )
            return None
        self._next = self._at + len(frame)
        last = len(frame) < size
        numbers = pl.int_range(self._at + 1, self._next + 1, dtype=pl.Int64).alias(ROW)
        return Piece(Rows(frame.select(numbers, pl.all())), {"rows": self._next, "done": last}, last)

    def advance(self) -> None:
        """Go past the piece that was shown last."""
        self._at = self._next

    def _read(self, size: int) -> pl.DataFrame:
        try:
            return self._sheet.rows(self._at, size, self._columns)
        except BROKEN as error:
            raise self._broken(error) from None

    def _broken(self, error: BaseException) -> SourceError:
        return SourceError(f"{self._name}: not a {self._kind} file ({one_line(error)}); set `format:` to what it is")


def _is_plain(kind: pa.DataType) -> bool:
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return not (pa.types.is_nested(kind) or binary or pa.types.is_fixed_size_binary(kind))


def _text(frame: pl.DataFrame) -> int:
    """Bytes of text in the cells, each counted however often it is shared; of categories the most it can be."""
    total = 0
    for cells in frame:
        if cells.dtype == pl.String:
            total += int(cells.str.len_bytes().cast(pl.Int64).sum())
        elif cells.dtype in (pl.Categorical, pl.Enum):  # as text they would be written out, cell by cell
            longest = cells.unique().cast(pl.String).str.len_bytes().max()
            total += len(cells) * (longest if isinstance(longest, int) else 0)
    return total
