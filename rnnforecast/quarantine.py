"""What was refused: looked through, and taken again once the pipeline file, or the world, has been put right.

A refused row is kept as it came, a reading that failed a check as it was read. A replay reads them anew, as the
pipeline file is now, and stores what may be taken as an ingest does; then the rows are marked, so that nothing is
taken twice. A kill in between is made good by the next replay.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import polars as pl

from rnnforecast import table
from rnnforecast.columns import KEY, TARGET, TIMESTAMP
from rnnforecast.config import Pipeline
from rnnforecast.ingest import take
from rnnforecast.ingest_record import kind
from rnnforecast.quarantine_rows import Again, read_again, refusal
from rnnforecast.sources import Batch
from rnnforecast.sources.base import REJECTED, REVISION, ROW
from rnnforecast.table_files import FILE

QUARANTINE_KEY: Final = ("id",)
STAMP: Final = pl.Datetime("us", "UTC")
SCHEMA: Final = {
    **REJECTED,
    "id": pl.String(),
    "stage": pl.String(),
    "seen_at": STAMP,
    "replayed_at": STAMP,
    "replayed_version": pl.Int64(),
}


class QuarantineError(ValueError):
    """Rows of the quarantine cannot be found as they were asked for; the message says which and what to do."""


@dataclass(frozen=True)
class Replay:
    """What a replay did, in rows of the quarantine: rows == taken + refused + superseded.

    refused: those that still cannot be taken; superseded: those whose time has another reading by now, which is the
    newer one; reasons: why rows were refused, with their counts; readings: how many readings came of those taken;
    version: the table's after it (None: no table yet).
    """

    rows: int = 0
    taken: int = 0
    refused: int = 0
    superseded: int = 0
    readings: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    version: int | None = None


def held(
    pipeline: Pipeline, *, reason: str | None = None, ids: Sequence[str] = (), replayed: bool = False
) -> pl.DataFrame:
    """The rows in quarantine, the oldest first, with `obstacle`: why a row cannot be replayed, or null.

    reason: a text in their reason; ids: theirs, or how they begin; replayed: those that were taken by now too.
    Raises QuarantineError for an id that is not there.
    """
    place, options = pipeline.table("quarantine"), pipeline.storage.options
    if table.version(place, options) is None:
        frame = pl.DataFrame(schema=SCHEMA)
    else:
        frame = table.scan(place, options=options).collect()
        absent = {name: dtype for name, dtype in SCHEMA.items() if name not in frame.columns}  # of older versions
        frame = frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())
        frame = frame.with_columns(pl.col("stage").fill_null("row")).select(*SCHEMA)
    for each in ids:
        if not frame["id"].str.starts_with(each).any():
            raise QuarantineError(
                f"{pipeline.name}: no row of the quarantine has an id that begins with {each!r}; "
                f"`rnnforecast quarantine list` shows them"
            )
    if ids:
        frame = frame.filter(pl.any_horizontal(pl.col("id").str.starts_with(each) for each in ids))
    if reason is not None:
        frame = frame.filter(pl.col("reason").str.contains(reason, literal=True))
    if not replayed:
        frame = frame.filter(pl.col("replayed_at").is_null())
    frame = frame.sort("seen_at", "source", "file", "row", "column", "id")
    return frame.with_columns(
        pl.Series("obstacle", [refusal(*row) for row in frame.select("stage", "content").rows()], dtype=pl.String)
    )


def summary(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows in quarantine by kind of reason: reason, rows, an example of each, since when."""
    kinds = rows.with_columns(pl.Series("kind", [kind(reason) for reason in rows["reason"]], dtype=pl.String))
    example = pl.format("{}, row {}: {}", pl.col("file").fill_null("?"), pl.col("row"), "reason").first()
    grouped = kinds.group_by("kind", maintain_order=True).agg(
        pl.len().alias("rows"), example.alias("example"), pl.col("seen_at").min().alias("since")
    )
    return grouped.sort("rows", descending=True, maintain_order=True).rename({"kind": "reason"})


def replay(pipeline: Pipeline, *, reason: str | None = None, ids: Sequence[str] = (), accept: bool = False) -> Replay:
    """Take rows of the quarantine again, through the pipeline file as it is now.

    reason, ids: those rows only (see `held`); accept: also those that fail a check, come too late, are in another unit
    or are superseded. A row whose time has another reading by now is superseded: it does not overrule what came later.
    Raises QuarantineError, and SourceError and TableError as an ingest does.
    """
    rows = held(pipeline, reason=reason, ids=ids).with_row_index(ROW).cast({ROW: pl.Int64})
    if rows.is_empty():
        return Replay(version=table.version(pipeline.table("observations"), pipeline.storage.options))
    again = read_again(pipeline, rows, accept=accept)
    refused = dict(again.refused)
    over = pl.Series(dtype=pl.Int64) if accept else _superseded(pipeline, again)
    parts = [(label, frame.filter(~pl.col(ROW).is_in(over.implode()))) for label, frame in again.frames]
    parts = [(label, frame) for label, frame in parts if len(frame)]
    for label, frame in parts:
        batch = Batch(frame, pl.DataFrame(schema=REJECTED), {}, f"replay of {label}")
        take(pipeline, [batch], labels=[label], checked=not accept, again=True)
    missing = _not_taken(pipeline, parts)
    stages = dict(rows.select(ROW, "stage").rows())
    moved = {row for row in missing if stages[row] == "row"}  # read by now; its reading stands in quarantine instead
    refused |= dict.fromkeys(missing, "fails a check or comes too late")
    taken = rows.filter(~pl.col(ROW).is_in([*refused, *over]))
    _mark(pipeline, rows.filter(pl.col(ROW).is_in([*taken[ROW], *moved])))
    readings = sum(int(frame[ROW].is_in(taken[ROW].implode()).sum()) for _, frame in parts)
    return Replay(
        rows=len(rows),
        taken=len(taken),
        refused=len(refused),
        superseded=len(over),
        readings=readings,
        reasons=dict(Counter(map(kind, refused.values())).most_common()),
        version=table.version(pipeline.table("observations"), pipeline.storage.options),
    )


def _superseded(pipeline: Pipeline, again: Again) -> pl.Series:
    """The rows of which a reading has another value in the table, one that is not of an older revision."""
    found = []
    for _, frame in again.frames:
        both = frame.join(_there(pipeline, frame), on=KEY, how="inner", suffix="#there")
        other = pl.col(f"{TARGET}#there").is_not_null() & pl.col(TARGET).ne_missing(pl.col(f"{TARGET}#there"))
        if f"{REVISION}#there" in both.columns:
            other &= (pl.col(REVISION) <= pl.col(f"{REVISION}#there")).fill_null(True)
        found.append(both.filter(other)[ROW])
    return pl.concat([pl.Series(dtype=pl.Int64), *found]).unique().sort()


def _not_taken(pipeline: Pipeline, parts: Sequence[tuple[str, pl.DataFrame]]) -> set[int]:
    """The rows of which a reading is not in the table as it was to be, or as a later row of the replay has it."""
    missing: set[int] = set()
    for _, frame in parts:
        last = frame.unique(KEY, keep="last", maintain_order=True)
        there = _there(pipeline, last)
        values = [name for name in last.columns if name not in (*KEY, ROW) and name in there.columns]
        stored = last.join(there, on=[*KEY, *values], how="semi", nulls_equal=True)
        missing |= set(frame.join(stored, on=KEY, how="anti")[ROW])
    return missing


def _there(pipeline: Pipeline, frame: pl.DataFrame) -> pl.DataFrame:
    """The table's rows that have a key of `frame`."""
    now = table.snapshot(pipeline.table("observations"), pipeline.storage.options)
    if now.schema.get(TIMESTAMP) != frame.schema[TIMESTAMP]:  # no table yet, or steps where it has times
        return frame.clear().drop(ROW)
    return now.matching(frame, KEY).drop(FILE)


def _mark(pipeline: Pipeline, rows: pl.DataFrame) -> None:
    """Say of rows of the quarantine that they are in the table now."""
    version = table.version(pipeline.table("observations"), pipeline.storage.options)
    marked = rows.select(*SCHEMA).with_columns(
        pl.lit(datetime.now(UTC)).cast(STAMP).alias("replayed_at"), pl.lit(version, pl.Int64).alias("replayed_version")
    )
    if len(marked):
        place, options = pipeline.table("quarantine"), pipeline.storage.options
        table.upsert(place, marked, key=QUARANTINE_KEY, options=options)
