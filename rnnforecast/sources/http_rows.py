"""Answers of an endpoint to rows: JSON, JSON lines or CSV, every value the text it came as."""

import json
from dataclasses import replace
from typing import Any, Final

import polars as pl

from rnnforecast.config import HttpSource
from rnnforecast.sources.base import ROW, SourceError
from rnnforecast.sources.csv_rows import read_csv
from rnnforecast.sources.json_rows import read_jsonl
from rnnforecast.sources.rows import MOST_CELLS, MOST_COLUMNS, MOST_ROWS, NothingYet, Rows

NOT_AN_OBJECT: Final = "the record is not a JSON object of text"
ABSENT: Final = object()
MOST_PARTS: Final = 2 * MOST_ROWS
SMALLER: Final = "check `url:` and `records:`, or ask for less by `paging: size:`"


def parsed(body: bytes, name: str) -> Any:
    """A JSON answer, numbers as the text they are; raises SourceError for what is none, or would not fit in memory."""
    if body.count(b"{") + body.count(b"[") > MOST_PARTS:  # each costs a hundred times its bytes once it is parsed
        raise SourceError(f"{name}: more than {MOST_PARTS:,} lists and objects in one answer; {SMALLER}")
    try:
        return json.loads(body, parse_float=str, parse_int=str, parse_constant=str)
    except RecursionError:
        raise SourceError(f"{name}: the JSON is nested too deep to be read; check `url:`") from None
    except ValueError as error:
        start = body[:40].decode("utf-8", "replace")
        raise SourceError(
            f"{name}: expected JSON; found {start!r} ({error}); set `format:` to what the endpoint gives"
        ) from None


def text_rows(body: bytes, source: HttpSource, *, name: str) -> Rows:
    """The rows of a CSV or JSON lines answer; none where it is empty, or a header alone."""
    if body.count(b"\n") > MOST_ROWS:
        raise SourceError(f"{name}: more than {MOST_ROWS:,} lines in one answer; {SMALLER}")
    try:
        is_csv = source.format == "csv"
        rows = read_csv(body, name=name, separator=source.separator) if is_csv else read_jsonl(body, name=name)
    except NothingYet:
        return Rows(pl.DataFrame(schema={ROW: pl.Int64()}))
    if not rows.whole:
        raise SourceError(f"{name}: more than {MOST_CELLS:,} cells in one answer; {SMALLER}")
    return rows


def json_rows(document: Any, path: str | None, *, name: str) -> Rows:
    """The rows of a parsed answer, at `path`: a list of objects, an object of lists, or a single object.

    Raises SourceError where there is nothing of the kind.
    """
    found = at(document, path, ABSENT)
    if isinstance(found, dict) and found and path is not None:
        columnar = all(isinstance(value, list) for value in found.values())
        found = _records(found, name) if columnar else [found]
    if isinstance(found, list) or found is None:
        return _rows(found or [], name)
    where = f"at `records: {path}`" if path is not None else "at the top"
    keys = [key for key, value in document.items() if isinstance(value, list | dict)] if _is_object(document) else []
    hint = f"set `records:` to where the rows are, such as {keys[0]}" if keys else "check `records:` and `url:`"
    kind = (
        "nothing" if found is ABSENT else "an object" if _is_object(found) else f"a single value ({str(found)[:40]!r})"
    )
    raise SourceError(f"{name}: expected a list of rows {where}; found {kind}; {hint}")


def at(document: Any, path: str | None, absent: Any = None) -> Any:
    """What stands at a path such as data.items or pages.0.next; `absent` where nothing does."""
    for part in path.split(".") if path else ():
        if _is_object(document) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return absent
    return document


def shifted(rows: Rows, by: int) -> Rows:
    """The same rows, numbered on from those of the pages before."""
    misfits = [(row + by, reason, content) for row, reason, content in rows.misfits]
    return replace(rows, frame=rows.frame.with_columns(pl.col(ROW) + by), misfits=misfits)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _records(columns: dict[str, list[Any]], name: str) -> list[dict[str, Any]]:
    """An object with a list for each column as a list of objects."""
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise SourceError(f"{name}: expected lists of one length, one for each column; found lengths {lengths}")
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _rows(records: list[Any], name: str) -> Rows:
    """Objects as rows of text, in their order; what is no object is a misfit."""
    if len(records) > MOST_ROWS:
        raise SourceError(f"{name}: {len(records):,} rows in one answer, where {MOST_ROWS:,} are the most; {SMALLER}")
    taken: list[dict[str, Any]] = []
    misfits: list[tuple[int, str, str]] = []
    columns: dict[str, pl.DataType] = {}
    for number, record in enumerate(records, start=1):
        cells = _cells(record) if isinstance(record, dict) else None
        if cells is None:
            misfits.append((number, NOT_AN_OBJECT, json.dumps(record)))
            continue
        taken.append({**cells, ROW: number})
        columns.update(dict.fromkeys(cells, pl.String()))
        if len(columns) > MOST_COLUMNS or len(taken) * len(columns) > MOST_CELLS:
            raise SourceError(
                f"{name}: more than {MOST_COLUMNS:,} different keys, or {MOST_CELLS:,} cells, in one answer; {SMALLER}"
            )
    columns.pop(ROW, None)
    return Rows(pl.DataFrame(taken, schema={ROW: pl.Int64(), **columns}), misfits, sparse=True)


def _cells(record: dict[str, Any]) -> dict[str, str | None] | None:
    """An object's values as text; None where half a character (a lone surrogate) is in it."""
    cells = {
        key: value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in record.items()
    }
    try:
        "".join([*cells, *(cell for cell in cells.values() if cell)]).encode()
    except UnicodeEncodeError:
        return None
    return cells
