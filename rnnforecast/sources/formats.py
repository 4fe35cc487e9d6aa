"""Files to rows as they stand there: nothing is interpreted, every row keeps its number.

CSV and JSON lines come out as text, cell by cell, so that a bad one can be named; Parquet keeps its types.
"""

import csv
import io
import json
from dataclasses import dataclass, field

import polars as pl

from rnnforecast.sources.base import SourceError

ROW = "#row"  # number of the line in the file, the header being 1 (Parquet: the row, the first being 1)
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Rows:
    """The rows of one file.

    frame: the file's columns and `ROW`; misfits: (row, reason, content) of lines that are no row;
    offset: bytes up to the end of the last finished line; lines: how many lines those are.
    """

    frame: pl.DataFrame
    misfits: list[tuple[int, str, str]] = field(default_factory=list)
    offset: int = 0
    lines: int = 0


def suffix_format(name: str) -> str:
    """csv, parquet or jsonl, told from a file's name."""
    suffix = name.rsplit(".", 1)[-1].lower()
    known = {"parquet": "parquet", "pq": "parquet", "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl"}
    return known.get(suffix, "csv")


def read_parquet(data: bytes, *, name: str) -> Rows:
    """All rows of a Parquet file, typed as they are."""
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except Exception as error:  # polars raises several kinds, among them its own panics
        raise SourceError(f"{name}: not a Parquet file ({_first_line(error)}); set `format:` to what it is") from None
    if frame.is_empty():
        raise SourceError(f"{name}: no rows: the Parquet file holds columns only; check what wrote it")
    return Rows(frame.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64)))


def read_csv(data: bytes, *, name: str, separator: str = ",", offset: int = 0, lines: int = 0) -> Rows:
    """The rows of a CSV file, all text; with `offset` and `lines` only those after that many bytes and lines.

    Raises SourceError for an empty file, a header alone, bytes that are no text, two columns of one name,
    and rows that mostly do not have the header's number of fields.
    """
    header_end = data.find(b"\n") + 1 or len(data)
    names = _header(decode(data[:header_end], name=name), name=name, separator=separator)
    start, first = (offset, lines + 1) if offset else (header_end, 2)
    body = decode(data[start:], name=name, first=first)
    numbers, fields = _split(body, first=first, name=name, separator=separator)
    if len(numbers) == 0 and not offset:
        raise SourceError(f"{name}: no rows: the file holds its header only; check what wrote it")
    counts = fields.list.len()
    if not offset:
        _check_widths(numbers, counts, names, name)
    right = counts == len(names)
    frame = pl.DataFrame({ROW: numbers, "fields": fields}).filter(right)
    frame = frame.select(ROW, *(pl.col("fields").list.get(i).alias(column) for i, column in enumerate(names)))
    misfits = [
        (row, f"{len(cells)} fields, where the header has {len(names)}", json.dumps(cells, ensure_ascii=False))
        for row, cells in zip(numbers.filter(~right).to_list(), fields.filter(~right).to_list(), strict=True)
    ]
    # An odd number of quotes: the last finished line may lie inside a quoted field, so nothing is resumable.
    end = 0 if body.count('"') % 2 else data.rfind(b"\n") + 1
    return Rows(frame, misfits, offset=end, lines=data[:end].count(b"\n"))


def read_jsonl(data: bytes, *, name: str, offset: int = 0, lines: int = 0) -> Rows:
    """The rows of a JSON lines file, one object a line; values come as the text they have in the file."""
    text = decode(data[offset:], name=name, first=lines + 1)
    records, misfits = [], []
    columns: dict[str, pl.DataType] = {}
    for number, line in enumerate(text.split("\n"), start=lines + 1):
        if not line.strip():
            continue
        record = _json_object(line)
        if record is None:
            misfits.append((number, "the line is not a JSON object", json.dumps(line, ensure_ascii=False)))
            continue
        records.append({ROW: number, **record})
        columns.update(dict.fromkeys(record, pl.String()))
    if not records and not offset:
        found = f"line {misfits[0][0]} is {misfits[0][2][:60]}" if misfits else "the file has no lines"
        raise SourceError(f"{name}: expected one JSON object a line; {found}; set `format:` to what the file is")
    end = data.rfind(b"\n") + 1
    frame = pl.DataFrame(records, schema={ROW: pl.Int64(), **columns})
    return Rows(frame, misfits, offset=end, lines=data[:end].count(b"\n"))


def decode(data: bytes, *, name: str, first: int = 1) -> str:
    """Bytes as UTF-8 text with plain line ends; `first` is the number of their first line."""
    if first == 1:
        data = data.removeprefix(BOM)
        if not data.strip():
            raise SourceError(f"{name}: the file is empty; check what wrote it, or take it out of `path:`")
    if b"\x00" in data:
        row = data[: data.index(b"\x00")].count(b"\n") + first
        raise SourceError(f"{name}: row {row} holds a zero byte: not a UTF-8 text file; unpack it or save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + first
        byte = data[error.start]
        raise SourceError(f"{name}: row {row} holds byte {byte:#04x}, which is not UTF-8; save it as UTF-8") from None
    return text.replace("\r\n", "\n").rstrip("\r")


def _json_object(line: str) -> dict[str, str | None] | None:
    """The object of a line, scalars as text; None where there is none."""
    try:
        record = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError:
        return None
    if not isinstance(record, dict):
        return None
    return {
        key: value if value is None or isinstance(value, str) else json.dumps(value) for key, value in record.items()
    }


def _header(line: str, *, name: str, separator: str) -> list[str]:
    """The column names of a CSV file; a column without a name gets its number."""
    try:
        names = [cell.strip() for cell in next(csv.reader([line.rstrip("\n")], delimiter=separator), [])]
    except csv.Error as error:
        raise SourceError(f"{name}: row 1: no header of a CSV file ({error}); save it with usual line ends") from None
    names = [cell or f"column {number}" for number, cell in enumerate(names, start=1)]
    for number, column in enumerate(names, start=1):
        if column in names[: number - 1]:
            earlier = names.index(column) + 1
            raise SourceError(
                f"{name}: row 1: columns {earlier} and {number} are both called '{column}'; "
                f"give one of them another name in the header"
            )
    return names


def _split(body: str, *, first: int, name: str, separator: str) -> tuple[pl.Series, pl.Series]:
    """The lines of a CSV body as (line numbers, lists of fields); blank lines are left out."""
    if '"' not in body:  # no quoting: a separator is a separator, and polars splits all lines at once
        lines = pl.DataFrame({"line": body.split("\n")}).with_row_index(ROW, offset=first)
        lines = lines.filter(pl.col("line").str.strip_chars(f" \t\r{separator}") != "")
        return lines[ROW].cast(pl.Int64), lines["line"].str.split(separator)
    numbers, fields = [], []
    reader = csv.reader(io.StringIO(body), delimiter=separator, strict=True)
    start = first
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                numbers.append(start)
                fields.append(record)
            start = first + reader.line_num
    except csv.Error as error:
        raise SourceError(f"{name}: row {start}: quotes do not match ({error}); close or double them") from None
    return pl.Series(numbers, dtype=pl.Int64), pl.Series(fields, dtype=pl.List(pl.String()))


def _check_widths(numbers: pl.Series, counts: pl.Series, names: list[str], name: str) -> None:
    """Refuse a file most of whose rows do not fit its header: then the header is wrong, not the rows."""
    wrong = counts != len(names)
    if 2 * int(wrong.sum()) <= len(counts):
        return
    row, found = numbers.filter(wrong)[0], counts.filter(wrong)[0]
    missing = "add the missing names" if found > len(names) else "take out the names without a field"
    raise SourceError(
        f"{name}: row {row} has {found} fields and the header (row 1) {len(names)}, and so in {int(wrong.sum())} of "
        f"{len(counts)} rows; correct the header ({missing}), or set `separator:` if it is not the one configured"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120]
