"""CSV text to rows, a block at a time: every cell stays text, every row keeps the number of its line."""

import csv
import io
import json

import numpy as np
import polars as pl

from rnnforecast.sources.base import ROW, SourceError
from rnnforecast.sources.rows import NothingYet, Rows, checked_names, decode

NEWLINE = 10


class CsvText:
    """Reads blocks of one CSV file, whose header it keeps."""

    def __init__(self, header: bytes, *, name: str, separator: str) -> None:
        self._name, self._separator = name, separator
        self._names = _names(decode(header, name=name), name=name, separator=separator)

    def rows(self, data: bytes, *, first: int, start: bool, last: bool) -> Rows:
        """The rows in `data`, which begins with line `first` and a row of its own.

        start: these are the file's first rows; last: nothing follows, so that a row without a line end is one too
        (but not among the finished ones that `Rows.offset` counts). Raises SourceError for bytes that are no
        text, quotes that do not match, and first rows that mostly do not have the header's number of fields.
        """
        body = decode(data, name=self._name, first=first) if data else ""
        used = data.count(b"\n")
        if '"' in body:
            numbers, records, used = self._quoted(body, first=first, last=last)
        else:
            plain = self._plain(data, first=first, lines=used)
            if plain is not None:
                return Rows(plain, offset=len(data), lines=used)
            numbers, records = self._split(body, first=first)
        if not numbers and start and last:
            raise NothingYet(f"{self._name}: no rows: the file holds its header only; check what wrote it")
        width = len(self._names)
        wrong = [(row, record) for row, record in zip(numbers, records, strict=True) if len(record) != width]
        if start and 2 * len(wrong) > len(numbers):
            raise self._wrong_widths(wrong, len(numbers))
        if wrong:
            numbers = [row for row, record in zip(numbers, records, strict=True) if len(record) == width]
            records = [record for record in records if len(record) == width]
        cells = zip(self._names, zip(*records, strict=True) if records else [()] * width, strict=True)
        columns = {column: pl.Series(values, dtype=pl.String()) for column, values in cells}
        misfits = [
            (row, f"{len(record)} fields, where the header has {width}", json.dumps(record, ensure_ascii=False))
            for row, record in wrong
        ]
        frame = pl.DataFrame({ROW: pl.Series(numbers, dtype=pl.Int64()), **columns})
        return Rows(frame, misfits, offset=_end_of_line(data, used), lines=used)

    def _plain(self, data: bytes, *, first: int, lines: int) -> pl.DataFrame | None:
        """A block of nothing but rows of the right width and without quotes, at full speed; None for any other."""
        mark = self._separator.encode()
        if len(self._names) < 2 or len(mark) != 1 or not data.endswith(b"\n") or (mark in b" \t" and b"\r" in data):
            return None
        data = data.replace(b"\r\n", b"\n")
        array = np.frombuffer(data, dtype=np.uint8)
        ends = np.flatnonzero(array == NEWLINE)
        marks = np.searchsorted(np.flatnonzero(array == mark[0]), ends)
        begins = array[np.concatenate(([0], ends[:-1] + 1))]
        if (
            not (np.diff(marks, prepend=0) == len(self._names) - 1).all()
            or np.isin(begins, list(b" \t\r" + mark)).any()
        ):
            return None
        frame = pl.read_csv(
            io.BytesIO(data),
            has_header=False,
            schema=dict.fromkeys(self._names, pl.String()),
            separator=self._separator,
            quote_char=None,
            empty_string_is_null=False,
        )
        assert len(frame) == lines
        return frame.rechunk().select(pl.int_range(first, first + lines, dtype=pl.Int64).alias(ROW), pl.all())

    def _split(self, body: str, *, first: int) -> tuple[list[int], list[list[str]]]:
        """Lines without quotes as (line numbers, fields); blank lines are left out."""
        blank = f" \t\r{self._separator}"
        found = [(row, line) for row, line in enumerate(body.split("\n"), start=first) if line.strip(blank)]
        return [row for row, _ in found], [line.split(self._separator) for _, line in found]

    def _quoted(self, body: str, *, first: int, last: bool) -> tuple[list[int], list[list[str]], int]:
        """As `_split`, where fields may hold separators and line ends; also how many lines the finished rows take."""
        numbers: list[int] = []
        records: list[list[str]] = []
        begin = used = 0
        ends = body.count("\n")
        reader = csv.reader(io.StringIO(body), delimiter=self._separator, strict=True)
        try:
            for record in reader:
                if any(cell.strip() for cell in record):
                    numbers.append(first + begin)
                    records.append(record)
                begin = reader.line_num
                used = begin if begin <= ends else used  # a row without a line end is not finished
        except csv.Error as error:
            if last or "unexpected end" not in str(error):
                raise SourceError(
                    f"{self._name}: row {first + begin}: quotes do not match ({error}); close or double them"
                ) from None
        return numbers, records, used

    def _wrong_widths(self, wrong: list[tuple[int, list[str]]], count: int) -> SourceError:
        """Most rows do not fit the header: then it is the header that is wrong, not the rows."""
        (row, record), width = wrong[0], len(self._names)
        missing = "add the missing names" if len(record) > width else "take out the names without a field"
        return SourceError(
            f"{self._name}: row {row} has {len(record)} fields and the header (row 1) {width}, and so in {len(wrong)} "
            f"of {count} rows; correct the header ({missing}), or set `separator:` if it is not the one configured"
        )


def read_csv(data: bytes, *, name: str, separator: str = ",") -> Rows:
    """The rows of a whole CSV file, all text; raises SourceError as `CsvText`, and for an empty file."""
    end = data.find(b"\n") + 1 or len(data)
    return CsvText(data[:end], name=name, separator=separator).rows(data[end:], first=2, start=True, last=True)


def _names(line: str, *, name: str, separator: str) -> list[str]:
    """The column names in a header; a column without a name gets its number."""
    try:
        names = [cell.strip() for cell in next(csv.reader([line.rstrip("\n")], delimiter=separator), [])]
    except csv.Error as error:
        raise SourceError(f"{name}: row 1: no header of a CSV file ({error}); save it with usual line ends") from None
    return checked_names([cell or f"column {number}" for number, cell in enumerate(names, start=1)], name=name)


def _end_of_line(data: bytes, lines: int) -> int:
    """How many bytes the first `lines` lines take."""
    if lines == 0:
        return 0
    return int(np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == NEWLINE)[lines - 1]) + 1
