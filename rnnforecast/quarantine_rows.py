"""Rows of the quarantine read again: from what was kept of them to readings, as the pipeline file is now."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from rnnforecast import table
from rnnforecast.columns import KEY, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.config import Pipeline, RowSource
from rnnforecast.ingest_rows import CURSORS
from rnnforecast.sources import SourceError, open_source
from rnnforecast.sources.base import REVISION, ROW, TIME
from rnnforecast.sources.layout import Mapping
from rnnforecast.sources.parse import Memory, to_long
from rnnforecast.sources.rows import Rows

ACCEPTED: Final = ("other unit",)  # reasons that a replay leaves standing unless the rows are accepted as they are


@dataclass
class Again:
    """Readings by the label of their source, `ROW` being the row of the quarantine; and rows that still are refused."""

    frames: list[tuple[str, pl.DataFrame]] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)


def refusal(stage: str, content: str) -> str | None:
    """Why a row cannot be replayed, whatever the pipeline file says; None where it can."""
    if stage == "reading" or _object(content) is not None:
        return None
    return "what was kept is no row with the columns of its source: correct it there, it is read with the next ingest"


def read_again(pipeline: Pipeline, rows: pl.DataFrame, *, accept: bool) -> Again:
    """Read rows of the quarantine, numbered by `ROW`; `accept`: also readings in another unit."""
    again = Again()
    for (label,), part in rows.filter(pl.col("stage") == "reading").group_by("source", maintain_order=True):
        again.frames.append((str(label), _readings(part)))
    raw = rows.filter(pl.col("stage") != "reading")
    places = _places(pipeline)
    for (label, column), part in raw.group_by("source", "column", maintain_order=True):
        if label not in places:
            reason = f"no such source: the pipeline file has none called {label!r} any more"
            again.refused |= dict.fromkeys(part[ROW].to_list(), reason)
            continue
        frame = _raw(part, *places[str(label)], None if column is None else str(column), again, accept=accept)
        if len(frame):
            again.frames.append((str(label), frame))
    return again


def _places(pipeline: Pipeline) -> dict[str, tuple[Mapping, Memory]]:
    """By their labels, how the pipeline's sources are read now, and what they have shown so far."""
    cursors = table.metadata(pipeline.table("observations"), pipeline.storage.options).get(CURSORS, {})
    found = {}
    for source in pipeline.sources:
        if not isinstance(source, RowSource):
            continue
        reader = open_source(pipeline, source)
        reader.close()
        cursor = cursors.get(reader.key, {})
        kept = Memory.of(cursor.get("memory", cursor))
        added = {"added": kept.profile.get("added", [])}
        # Of the columns nothing is told: these rows are not the next ones of the source.
        memory = Memory(kind=kept.kind, proven=True, resumed=True, profile=added)
        found[reader.label] = Mapping.of(pipeline, source, reader.label), memory
    return found


def _raw(
    part: pl.DataFrame, mapping: Mapping, memory: Memory, column: str | None, again: Again, *, accept: bool
) -> pl.DataFrame:
    """Readings of rows that could not be read: of a wide source, those of the column that was refused."""
    mapping, alone = _narrowed(mapping, column)
    cells: list[dict[str, Any]] = []
    for row, reason, content in part.select(ROW, "reason", "content").rows():
        found = _object(content)
        if found is None:
            again.refused[row] = "not a row: " + (refusal("row", content) or "")
        elif not accept and reason.startswith(ACCEPTED):
            again.refused[row] = reason
        elif column is not None and column not in found:
            again.refused[row] = f"missing column: the row has no '{column}'"
        else:
            cells.append({name: value if not alone or name in alone else None for name, value in found.items()})
            cells[-1][ROW] = row
    if not cells:
        return pl.DataFrame()
    names = dict.fromkeys(name for record in cells for name in record if name != ROW)
    frame = pl.DataFrame(cells, schema={ROW: pl.Int64(), **dict.fromkeys(names, pl.String())})
    try:
        read = to_long(Rows(frame, sparse=True), mapping, name=mapping.label, memory=memory)
    except SourceError as error:
        again.refused |= dict.fromkeys((record[ROW] for record in cells), str(error))
        return pl.DataFrame()
    again.refused |= dict(read.rejected.select("row", "reason").rows())
    frame = read.frame.filter(pl.col(TARGET).is_not_null()) if alone else read.frame
    return frame.filter(~pl.col(ROW).is_in(list(again.refused)))


def _narrowed(mapping: Mapping, column: str | None) -> tuple[Mapping, frozenset[str]]:
    """How to read rows of which only one column was refused; and the columns to be left, where that cannot be said.

    The other columns of the row were taken when it came, and have perhaps been revised since.
    """
    target = mapping.source.columns.target
    if mapping.source.layout == "year_month":
        years = frozenset([*mapping.times, *([column] if column else [])])
        return mapping, years if column not in (None, *mapping.times) else frozenset()
    if column is None or isinstance(target, str) or column not in target:
        return mapping, frozenset()
    columns = mapping.source.columns.model_copy(update={"target": [column]})
    return replace(mapping, source=mapping.source.model_copy(update={"columns": columns})), frozenset()


def _readings(part: pl.DataFrame) -> pl.DataFrame:
    """Readings that were kept in long form."""
    records = [{**json.loads(content), ROW: row} for row, content in part.select(ROW, "content").rows()]
    names = dict.fromkeys(name for record in records for name in record)
    values = {name: pl.Float64() for name in names if name not in (*KEY, ROW, REVISION)}
    steps = all(isinstance(record[TIMESTAMP], int) for record in records)
    schema = {ROW: pl.Int64(), SERIES_ID: pl.String(), TIMESTAMP: pl.Int64() if steps else pl.String(), **values}
    if REVISION in names:
        schema[REVISION] = pl.Int64()
    frame = pl.DataFrame(records, schema=schema)
    return frame if steps else frame.with_columns(pl.col(TIMESTAMP).str.to_datetime(time_zone="UTC").cast(TIME))


def _object(content: str) -> dict[str, str | None] | None:
    """The row that was kept, its cells as text; None where it is none."""
    try:
        found = json.loads(content, parse_float=str, parse_int=str)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return {
        str(name): value if value is None or isinstance(value, str) else json.dumps(value)
        for name, value in found.items()
    }
