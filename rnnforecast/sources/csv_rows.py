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
        if '"' in body:
            numbers, fields, used = self._quoted(body, first=first, last=last)
        else:
            used = data.count(b"\n")
            plain = self._plain(data, first=first, lines=used)
            if plain is not None:
                return Rows(plain, offset=len(data), lines=used)
            numbers, fields = self._split(body, first=first)
        if len(numbers) == 0 and start and last:
            raise NothingYet(f"{self._name}: no rows: the file holds its header only; check what wrote it")
        counts = fields.list.len()
        if start:
            self._check_widths(numbers, counts)
        right = counts == len(self._names)
        frame = pl.DataFrame({ROW: numbers, "fields": fields}).filter(right)
        frame = frame.select(ROW, *(pl.col("fields").list.get(i).alias(c) for i, c in enumerate(self._names)))
        misfits = [
            (
                row,
                f"{len(cells)} fields, where the header has {len(self._names)}",
                json.dumps(cells, ensure_ascii=False),
            )
            for row, cells in zip(numbers.filter(~right).to_list(), fields.filter(~right).to_list(), strict=True)
        ]
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

    def _split(self, body: str, *, first: int) -> tuple[pl.Series, pl.Series]:
        """Lines without quotes as (line numbers, lists of fields); blank lines are left out."""
        lines = pl.DataFrame({"line": body.split("\n")}).with_row_index(ROW, offset=first)
        lines = lines.filter(pl.col("line").str.strip_chars(f" \t\r{self._separator}") != "")
        return lines[ROW].cast(pl.Int64), lines["line"].str.split(self._separator)

    def _quoted(self, body: str, *, first: int, last: bool) -> tuple[pl.Series, pl.Series, int]:
        """As `_split`, where fields may hold separators and line ends; also how many lines the finished rows take."""
        numbers, fields, begin, used = [], [], 0, 0
        ends = body.count("\n")
        reader = csv.reader(io.StringIO(body), delimiter=self._separator, strict=True)
        try:
            for record in reader:
                if any(cell.strip() for cell in record):
                    numbers.append(first + begin)
                    fields.append(record)
                begin = reader.line_num
                used = begin if begin <= ends else used  # a row without a line end is not finished
        except csv.Error as error:
            if last or "unexpected end" not in str(error):
                raise SourceError(
                    f"{self._name}: row {first + begin}: quotes do not match ({error}); close or double them"
                ) from None
        return pl.Series(numbers, dtype=pl.Int64), pl.Series(fields, dtype=pl.List(pl.String())), used

    def _check_widths(self, numbers: pl.Series, counts: pl.Series) -> None:
        """Refuse a file most of whose rows do not fit its header: then the header is wrong, not the rows."""
        wrong = counts != len(self._names)
        if 2 * int(wrong.sum()) <= len(counts):
            return
        row, found = numbers.filter(wrong)[0], counts.filter(wrong)[0]
        missing = "add the missing names" if found > len(self._names) else "take out the names without a field"
        raise SourceError(
            f"{self._name}: row {row} has {found} fields and the header (row 1) {len(self._names)}, and so in "
            f"{int(wrong.sum())} of {len(counts)} rows; correct the header ({missing}), or set `separator:` if it is "
            f"not the one configured"
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
