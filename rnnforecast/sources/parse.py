"""Rows of a file to the long frame: series, times and numbers, and what was refused.

What cannot be read is named (row, column, reason) and kept for the quarantine. What is wrong in every row
is no bad row but a wrong description of the file, and raises.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from zoneinfo import available_timezones

import polars as pl

from rnnforecast.columns import SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.sources.base import REVISION, ROW, Change, Cursor, SourceError, empty_long, nearest
from rnnforecast.sources.cells import STAMP, Rejects, not_future, numbers
from rnnforecast.sources.changes import Seen, look
from rnnforecast.sources.layout import FROM, TIME, Mapping, arrange
from rnnforecast.sources.rows import Rows
from rnnforecast.sources.times import INTEGER, read_stamps, to_utc
from rnnforecast.sources.units import Found, watch


@dataclass(frozen=True)
class Memory:
    """What earlier rows have shown.

    kind: the style of the times; folds: (series, local time) of repeated hours met once; proven: rows of this
    source were taken before, so that a bad row is just that, and no wrong description of the file; resumed:
    earlier rows of this very file were, so that its columns are known to be there; profile: what the columns were
    like (see `changes`).
    """

    kind: str | None = None
    folds: frozenset[tuple[str, str]] = frozenset()
    proven: bool = False
    resumed: bool = False
    profile: Cursor = field(default_factory=dict)

    @classmethod
    def of(cls, cursor: Cursor | None, *, resumed: bool = False) -> "Memory":
        """What a cursor remembers; nothing where there is none."""
        kept = cursor or {}
        folds = frozenset((series, stamp) for series, stamp in kept.get("folds", ()))
        return cls(kept.get("kind"), folds, bool(kept.get("proven")), resumed, kept.get("profile", {}))

    def as_cursor(self) -> Cursor:
        """To be kept in a cursor, plain JSON."""
        return {"kind": self.kind, "folds": sorted(self.folds), "proven": self.proven, "profile": self.profile}


@dataclass(frozen=True)
class Long:
    """Rows as a long frame, the rejected ones, what to remember, when a row of the future falls due, what changed."""

    frame: pl.DataFrame
    rejected: pl.DataFrame
    memory: Memory
    due: str | None = None
    changes: tuple[Change, ...] = ()


def to_long(rows: Rows, mapping: Mapping, *, name: str, memory: Memory) -> Long:
    """Read the rows of file `name`; the frame may have more covariates, those that `on_change` adds.

    Raises SourceError where the description does not fit the file, or a change of its columns means to stop.
    """
    rejects, proven = Rejects(), memory.proven
    if rows.frame.is_empty():
        rejected = rejects.table(rows, label=mapping.label, name=name)
        return Long(empty_long(mapping.covariates), rejected, memory)
    seen = look(rows, mapping, name=name, profile=memory.profile, proven=proven, resumed=memory.resumed)
    mapping = seen.mapping
    frame = arrange(rows.frame, mapping, name=name)
    if rows.sparse and mapping.is_wide:  # a message without a key says nothing of that series, and empties nothing
        frame = frame.filter(pl.col(TARGET).is_not_null())
        if frame.is_empty():
            rejected = rejects.table(rows, label=mapping.label, name=name)
            return Long(
                empty_long(mapping.covariates), rejected, replace(memory, profile=seen.profile), None, seen.changes
            )
    frame, memory = _with_stamps(frame, mapping, rejects, name=name, memory=memory)
    frame = _without_missing(frame, seen, rejects)
    for column in (TARGET, *mapping.covariates):
        frame = numbers(frame, column, mapping, rejects, name=name, proven=proven)
    frame, due = not_future(frame, mapping, rejects)
    sizes, off, turned = watch(frame, mapping, seen.profile["sizes"], name=name)
    frame = _without_other_units(frame, off, mapping, rejects)
    if mapping.source.columns.revision:
        frame = with_revisions(frame, mapping, rejects)
    rejected = rejects.table(rows, label=mapping.label, name=name)
    if frame.is_empty() and not proven:
        _refuse_all(rejected, name)
    revision = [REVISION] if mapping.source.columns.revision else []
    frame = frame.select(ROW, SERIES_ID, pl.col(STAMP).alias(TIMESTAMP), TARGET, *mapping.covariates, *revision)
    memory = replace(memory, proven=proven or len(frame) > 0, profile={**seen.profile, "sizes": sizes})
    return Long(frame, rejected, memory, due, (*seen.changes, *turned))


def concat(frames: Iterable[pl.DataFrame], covariates: tuple[str, ...], *, label: str) -> pl.DataFrame:
    """Long frames as one, in order; raises SourceError where some count steps and others have times."""
    full = [frame for frame in frames if not frame.is_empty()]
    if len({frame.schema[TIMESTAMP] for frame in full}) > 1:
        raise SourceError(
            f"{label}: timestamps: some files hold integer steps, others times; make two pipelines of them, "
            f"or set `timestamp_format:` so that all are read alike"
        )
    return pl.concat(full, how="diagonal") if full else empty_long(covariates)


def with_revisions(frame: pl.DataFrame, mapping: Mapping, rejects: Rejects) -> pl.DataFrame:
    """The column that tells the newer of two rows as Int64: whole numbers as they are, times in microseconds."""
    cells = frame[REVISION]
    whole = cells.cast(pl.String).str.strip_chars().cast(pl.Int64, strict=False) if cells.dtype == pl.String else cells
    if cells.dtype == pl.String and 2 * whole.null_count() > len(cells):
        whole = read_stamps(cells, pattern=None, place=f"{mapping.label}: revision column").frame["stamp"]
    frame = frame.with_columns(whole.to_physical().cast(pl.Int64, strict=False).alias("#revision"))
    column = pl.lit(mapping.source.columns.revision)
    shown = pl.format(
        "revision: {} is no whole number and no time", pl.col(REVISION).cast(pl.String).fill_null("nothing")
    )
    frame = rejects.drop(frame, pl.col("#revision").is_null(), column=column, reason=shown)
    return frame.with_columns(pl.col("#revision").alias(REVISION)).drop("#revision")


def _without_missing(frame: pl.DataFrame, seen: Seen, rejects: Rejects) -> pl.DataFrame:
    """Refuse the readings of columns that are missing and whose policy is quarantine."""
    for column in sorted(seen.held):
        wrong = pl.lit(True) if column in seen.mapping.needed else pl.col(FROM) == column
        reason = pl.lit("missing column: earlier rows had it")
        frame = rejects.drop(frame, wrong, column=pl.lit(column), reason=reason)
    return frame


def _without_other_units(frame: pl.DataFrame, off: list[Found], mapping: Mapping, rejects: Rejects) -> pl.DataFrame:
    """Refuse the readings in another unit of columns whose policy is quarantine."""
    for found in off:
        covariate = mapping.needed.get(found.column)
        mine = pl.col(covariate).is_not_null() if covariate else pl.col(FROM) == found.column
        within = pl.any_horizontal(pl.col(ROW).is_between(low, high) for low, high in found.ranges)
        reason = pl.lit(f"other unit: {found.said}")
        frame = rejects.drop(frame, mine & within, column=pl.lit(found.column), reason=reason)
    return frame


def _with_stamps(
    frame: pl.DataFrame, mapping: Mapping, rejects: Rejects, *, name: str, memory: Memory
) -> tuple[pl.DataFrame, Memory]:
    """Read the times, and keep the rows that have a series and a time; `STAMP` is in UTC, or Int64 steps."""
    label = ", ".join(mapping.times)
    place, cells = f"{name}: timestamp column '{label}'", frame[TIME]
    if memory.kind == INTEGER and cells.dtype.is_temporal():  # times where steps were: no step can be read from them
        cells = cells.cast(pl.String)
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
    ending = mapping.source.ending
    if read.kind == INTEGER:
        if ending:
            raise SourceError(f"{place}: found integer steps, which have no intervals; leave `ending: {ending}` out")
        return frame.rename({"stamp": STAMP}), replace(memory, kind=read.kind)
    if ending:  # before the zone: an hour that ends with a clock change began by the clock of before
        frame = frame.with_columns(pl.col("stamp").dt.offset_by(f"-{ending}"))
    zone = _checked_zone(mapping.source.timezone, name)
    frame = to_utc(frame.with_columns(pl.col("stamp").alias("local")), zone=zone, folds=set(memory.folds))
    folds = _open_folds(frame, memory.folds) if zone else frozenset()
    gone = pl.format(f"no such time in {zone} (the clock change leaves it out): {{}}", pl.col(TIME).cast(pl.String))
    frame = rejects.drop(frame, pl.col("stamp").is_null(), column=pl.lit(label), reason=gone)
    return frame.rename({"stamp": STAMP}), replace(memory, kind=read.kind, folds=folds)


def _open_folds(frame: pl.DataFrame, before: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """The repeated hours met once on the day at which their series ends: the second may come with the next rows.

    `before`: those of earlier rows, which stay open until their series goes on to another day.
    """
    if not before and not frame["fold"].any():
        return frozenset()
    met = Counter(frame.filter("fold").select(SERIES_ID, pl.col("local").dt.to_string("iso")).rows())
    met.update(before)
    ends = dict(frame.group_by(SERIES_ID).agg(pl.col("local").last().dt.date().cast(pl.String)).iter_rows())
    return frozenset(
        (series, stamp)
        for (series, stamp), times in met.items()
        if times == 1 and ends.get(series, stamp[:10]) == stamp[:10]
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
