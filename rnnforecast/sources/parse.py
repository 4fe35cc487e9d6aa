"""Rows of a file to the long frame: series, times and numbers, and what was refused.

What cannot be read is named (row, column, reason) and kept for the quarantine. What is wrong in every row
is no bad row but a wrong description of the file, and raises.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from zoneinfo import available_timezones

import polars as pl

from rnnforecast.columns import SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.sources.base import SourceError, empty_long, nearest
from rnnforecast.sources.cells import STAMP, Rejects, not_future, numbers
from rnnforecast.sources.formats import ROW, Rows
from rnnforecast.sources.layout import TIME, Mapping, arrange
from rnnforecast.sources.times import INTEGER, read_stamps, to_utc


@dataclass(frozen=True)
class Memory:
    """What earlier rows have shown.

    kind: the style of the times; folds: (series, local time) of repeated hours met once; proven: rows of this
    source were taken before, so that a bad row is just that, and no wrong description of the file; resumed:
    earlier rows of this very file were, so that its columns are known to be there.
    """

    kind: str | None = None
    folds: frozenset[tuple[str, str]] = frozenset()
    proven: bool = False
    resumed: bool = False


@dataclass(frozen=True)
class Long:
    """A file as a long frame, its rejected rows, what to remember, and when a row of the future falls due."""

    frame: pl.DataFrame
    rejected: pl.DataFrame
    memory: Memory
    due: str | None = None


def to_long(rows: Rows, mapping: Mapping, *, name: str, memory: Memory) -> Long:
    """Read the rows of file `name`; raises SourceError where the description does not fit the file."""
    rejects, proven = Rejects(), memory.proven
    empty = empty_long(mapping.covariates)
    if rows.frame.is_empty():
        return Long(empty, rejects.table(rows, label=mapping.label, name=name), memory)
    frame = arrange(rows.frame, mapping, name=name, resumed=memory.resumed)
    frame, memory = _with_stamps(frame, mapping, rejects, name=name, memory=memory)
    for column in (TARGET, *mapping.covariates):
        frame = numbers(frame, column, mapping, rejects, name=name, proven=proven)
    frame, due = not_future(frame, mapping, rejects)
    rejected = rejects.table(rows, label=mapping.label, name=name)
    if frame.is_empty() and not proven:
        _refuse_all(rejected, name)
    frame = frame.select(SERIES_ID, pl.col(STAMP).alias(TIMESTAMP), TARGET, *mapping.covariates)
    return Long(frame, rejected, replace(memory, proven=proven or len(frame) > 0), due)


def concat(frames: Iterable[pl.DataFrame], covariates: tuple[str, ...], *, label: str) -> pl.DataFrame:
    """Long frames as one, in order; raises SourceError where some count steps and others have times."""
    full = [frame for frame in frames if not frame.is_empty()]
    if len({frame.schema[TIMESTAMP] for frame in full}) > 1:
        raise SourceError(
            f"{label}: timestamps: some files hold integer steps, others times; make two pipelines of them, "
            f"or set `timestamp_format:` so that all are read alike"
        )
    return pl.concat(full) if full else empty_long(covariates)


def _with_stamps(
    frame: pl.DataFrame, mapping: Mapping, rejects: Rejects, *, name: str, memory: Memory
) -> tuple[pl.DataFrame, Memory]:
    """Read the times, and keep the rows that have a series and a time; `STAMP` is in UTC, or Int64 steps."""
    label = ", ".join(mapping.times)
    place, cells = f"{name}: timestamp column '{label}'", frame[TIME]
    read = read_stamps(cells, pattern=mapping.source.timestamp_format, place=place, kind=memory.kind)
    if read.frame["stamp"].null_count() == len(cells) > cells.null_count() and not memory.proven:
        first = frame.filter(pl.col(TIME).is_not_null()).row(0, named=True)
        raise SourceError(
            f"{place}: no row can be read as a time, the first being row {first[ROW]}: {first[TIME]!r}; set "
            f"`timestamp_format:`, such as '%d.%m.%y %H:%M', or epoch_s, epoch_ms, integer for numbers"
        )
    frame = pl.concat([frame, read.frame], how="horizontal")
    empty = pl.lit("no series: the cell is empty")
    series = pl.lit(mapping.source.columns.series_id)
    frame = rejects.drop(frame, pl.col(SERIES_ID).is_null(), column=series, reason=empty)
    shown = pl.format("unreadable timestamp: {}", pl.col(TIME).cast(pl.String).fill_null("the cell is empty"))
    frame = rejects.drop(frame, pl.col("stamp").is_null(), column=pl.lit(label), reason=shown)
    if read.kind == INTEGER:
        return frame.rename({"stamp": STAMP}), replace(memory, kind=read.kind)
    zone = _checked_zone(mapping.source.timezone, name)
    frame = to_utc(frame.with_columns(pl.col("stamp").alias("local")), zone=zone, folds=set(memory.folds))
    folds = _single_folds(frame) if zone else frozenset()
    gone = pl.format(f"no such time in {zone} (the clock change leaves it out): {{}}", pl.col(TIME).cast(pl.String))
    frame = rejects.drop(frame, pl.col("stamp").is_null(), column=pl.lit(label), reason=gone)
    return frame.rename({"stamp": STAMP}), replace(memory, kind=read.kind, folds=folds)


def _single_folds(frame: pl.DataFrame) -> frozenset[tuple[str, str]]:
    """The repeated hours met once on the file's last day: their second hour may come with the next rows."""
    last = frame["local"].dt.date().max()
    once = frame.filter(pl.col("fold") & (pl.col("local").dt.date() == last))
    once = once.filter(~pl.struct(SERIES_ID, "local").is_duplicated())
    return frozenset(
        (series, stamp) for series, stamp in once.select(SERIES_ID, pl.col("local").dt.to_string("iso")).rows()
    )


def _checked_zone(zone: str | None, name: str) -> str | None:
    if zone is not None and zone not in available_timezones():
        hint = nearest(zone, available_timezones()) or "; the names are those of the IANA database"
        raise SourceError(f"{name}: timezone: expected a name such as Europe/Berlin; found {zone!r}{hint}")
    return zone


def _refuse_all(rejected: pl.DataFrame, name: str) -> None:
    """Raise for a file of which no row can be taken, with the first reason."""
    first = rejected.row(0, named=True)
    remedy = "check `columns:`, `timestamp_format:` and `timezone:` of the source"
    if first["reason"].startswith("dated after now"):
        remedy = "set `allow_future: true` if this is a simulation"
    place = f"row {first['row']}" + (f", column '{first['column']}'" if first["column"] else "")
    raise SourceError(f"{name}: none of {len(rejected)} rows can be taken; {place}: {first['reason']}; {remedy}")
