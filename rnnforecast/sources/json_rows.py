"""JSON lines to rows, a block at a time: one object a line, every value the text it has in the file."""

import json
from typing import Any, Final

import polars as pl

from rnnforecast.sources.base import ROW, SourceError
from rnnforecast.sources.rows import MOST_CELLS, MOST_COLUMNS, NothingYet, Rows, decode

SPARSE: Final = 20  # times as many cells as values
# One for all lines: to make one takes longer than to read a line.
DECODER: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


class JsonText:
    """Reads blocks of one JSON lines file."""

    def __init__(self, *, name: str) -> None:
        self._name = name

    def rows(self, data: bytes, *, first: int, start: bool, last: bool) -> Rows:
        """The rows in `data`, which begins with line `first`; those that would not fit into memory are left.

        start, last: as for `CsvText.rows`. Raises SourceError for bytes that are no text, a file without any
        object, and a file whose objects have too many different keys.
        """
        text = decode(data, name=self._name, first=first) if data or start else ""
        records: list[dict[str, Any]] = []
        misfits: list[tuple[int, str, str]] = []
        columns: dict[str, pl.DataType] = {}
        lines, whole = text.split("\n"), True
        for number, line in enumerate(lines, start=first):
            if len(records) * len(columns) > MOST_CELLS:
                self._check_density(records, len(columns))
                lines, whole = lines[: number - first], False
                break
            if not line.strip():
                continue
            record = _object(line)
            if record is None:
                misfits.append((number, "the line is not a JSON object", json.dumps(line, ensure_ascii=False)))
                continue
            records.append({**record, ROW: number})
            columns.update(dict.fromkeys(record, pl.String()))
        if len(columns) > MOST_COLUMNS:
            raise SourceError(f"{self._name}: more than {MOST_COLUMNS} different keys; check what wrote the file")
        if not records and start and last and whole:
            found = f"line {misfits[0][0]} is {misfits[0][2][:60]}" if misfits else "the file has no lines"
            message = f"{self._name}: expected one JSON object a line; {found}; set `format:` to what the file is"
            raise SourceError(message) if misfits else NothingYet(message)
        columns.pop(ROW, None)
        frame = pl.DataFrame(records, schema={ROW: pl.Int64(), **columns})
        if whole:
            return Rows(frame, misfits, offset=data.rfind(b"\n") + 1, lines=data.count(b"\n"), sparse=True)
        taken = sum(len(line) + 1 for line in data.split(b"\n", len(lines))[: len(lines)])
        return Rows(frame, misfits, offset=taken, lines=len(lines), whole=False, sparse=True)

    def _check_density(self, records: list[dict[str, Any]], columns: int) -> None:
        """Refuse objects that share no keys: as columns they would be nothing but empty cells."""
        if sum(map(len, records)) * SPARSE < len(records) * columns:
            raise SourceError(
                f"{self._name}: {columns} different keys in {len(records)} lines, most of them in few lines: expected "
                f"objects of the same keys; check what wrote the file"
            )


def read_jsonl(data: bytes, *, name: str) -> Rows:
    """The rows of a whole JSON lines file; raises SourceError as `JsonText`."""
    return JsonText(name=name).rows(data, first=1, start=True, last=True)


def _object(line: str) -> dict[str, Any] | None:
    """The object of a line, scalars as text; None where there is none, or one that is nested too deep."""
    try:
        record = DECODER.decode(line)
        if not isinstance(record, dict):
            return None
        flat = {
            key: value if value is None or isinstance(value, str) else json.dumps(value)
            for key, value in record.items()
        }
        if "\\u" in line:  # half of a surrogate pair is no text
            json.dumps(flat, ensure_ascii=False).encode()
    except (json.JSONDecodeError, RecursionError, UnicodeEncodeError):
        return None
    return flat
