"""One commit of an ingest: what was read against what is there, and what of it is taken."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from rnnforecast import quality, table
from rnnforecast.columns import KEY, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.config import Pipeline
from rnnforecast.ingest_known import NAME, SOURCE, Known, contents, without_known
from rnnforecast.ingest_late import too_late
from rnnforecast.ingest_record import RECORD, IngestReport, kind, plain
from rnnforecast.sources import Batch, Cursor
from rnnforecast.sources.base import REJECTED, REVISION, ROW
from rnnforecast.table import Difference, Snapshot

CURSORS: Final = "cursors"
QUARANTINE_KEY: Final = ("id",)
ROWS, READINGS = "row", "reading"  # the stage of a refused row: not read, or read and then not taken


class IngestError(ValueError):
    """The sources do not go together; the message says which and why."""


class Overtaken(ValueError):  # noqa: N818 (a turn of events: who meets it begins again from there)
    """Other ingests of this pipeline have moved its cursors meanwhile."""


def store(
    pipeline: Pipeline,
    batches: Sequence[tuple[str, Batch]],
    *,
    cursors: dict[str, Cursor] | None = None,
    before: dict[str, Cursor] | None = None,
    checked: bool = True,
    again: bool = False,
) -> IngestReport:
    """Store batches, each with the label of its source, in one commit together with `cursors`.

    `before`: the cursors from which the batches were read; raises Overtaken where they are not the table's any more.
    """
    rejected = pl.concat([pl.DataFrame(schema=REJECTED), *(batch.rejected for _, batch in batches)])
    frame = _together(batches)
    counts: Counter[str] = Counter()
    for label, batch in batches:
        counts[label] += len(batch.frame) + len(batch.rejected)
    report = IngestReport(
        read=sum(counts.values()),
        sources=dict(counts),
        changes=[asdict(change) for _, batch in batches for change in batch.changes],
        notes=[note for _, batch in batches for note in batch.notes],
    )
    options = pipeline.storage.options

    def write(snapshot: Snapshot) -> IngestReport:
        stored = snapshot.metadata.get(CURSORS, {})
        if before is not None and cursors is not None and any(stored.get(key) != before.get(key) for key in cursors):
            raise Overtaken(f"{pipeline.name}: other ingests of this pipeline are at work; let them end, and try again")
        kept, failed, known, findings = _judged(pipeline, frame, snapshot, checked=checked, again=again)
        refused = pl.concat([_quarantine(rejected, ROWS), _quarantine(_as_rejected(failed), READINGS)])
        refused = refused.unique(QUARANTINE_KEY, keep="first", maintain_order=True)
        table.append_new(pipeline.table("quarantine"), refused, key=QUARANTINE_KEY, options=options)
        taken, conflicts, example = _last_of_each(kept.drop(ROW, NAME, SOURCE))
        table.check_keys(snapshot.path, taken, KEY)
        found = snapshot.compare(taken, KEY, newer=REVISION)
        late = _behind(found, snapshot)
        done = {
            "inserted": len(found.new),
            "updated": len(found.changed),
            "unchanged": found.unchanged + known.unchanged,
            "duplicates": len(kept) - len(taken),
            "quarantined": len(rejected) + len(failed) + known.quarantined,
            "late": len(late),
            "conflicts": conflicts,
            "conflict": example,
            "reasons": dict(Counter(map(kind, [*rejected["reason"], *failed["reason"]])).most_common()),
            "findings": findings,
            "recompute": {series: plain(since) for series, since in _since(late).rows()},
        }
        told = report.plus(IngestReport(**done))  # type: ignore[arg-type]
        note: dict[str, Any] = {**snapshot.metadata, RECORD: _record(told)}
        if cursors is not None:
            note[CURSORS] = {**note.get(CURSORS, {}), **cursors}
        moved = cursors is not None and any(stored.get(key) != cursor for key, cursor in cursors.items())
        idle = not (moved or len(found.new) or len(found.changed))
        version = snapshot.apply(found, KEY, metadata=None if idle else note)
        return told.plus(IngestReport(version=version))

    return table.commit(pipeline.table("observations"), write, options)


def _judged(
    pipeline: Pipeline, frame: pl.DataFrame, snapshot: Snapshot, *, checked: bool, again: bool
) -> tuple[pl.DataFrame, pl.DataFrame, Known, list[dict[str, Any]]]:
    """The readings that are taken, those that are not (with `column` and `reason`), what was known, findings.

    A reading that stands in the table just so, or in the quarantine, has had its judgement: a repeat changes nothing
    (`again`: one from the quarantine is judged anew).
    """
    checks = pipeline.checks if checked else ()
    lateness = pipeline.allowed_lateness if checked else None
    known = Known()
    if (checks or lateness is not None) and len(frame):
        known, frame = without_known(frame, snapshot, pipeline, held=not again)
    tail = snapshot.tail(frame, quality.rows_before(checks)) if checks and len(frame) else None
    examined = quality.examine(frame, checks=checks, tail=tail)
    kept, failed = examined.kept, [examined.failed]
    if lateness is not None and len(kept):
        kept, late = too_late(kept, snapshot.newest(kept), lateness)
        failed.append(late)
    findings = [
        {name: plain(value) if isinstance(value, datetime) else value for name, value in found.items()}
        for found in examined.findings.to_dicts()
    ]
    return kept, pl.concat(failed, how="diagonal"), known, findings


def _together(batches: Sequence[tuple[str, Batch]]) -> pl.DataFrame:
    """The rows of all batches in the order of reading, with what each was read from."""
    frames = [
        batch.frame.with_columns(pl.lit(batch.name).alias(NAME), pl.lit(label).alias(SOURCE))
        for label, batch in batches
        if not batch.frame.is_empty()
    ]
    if len({frame.schema[TIMESTAMP] for frame in frames}) > 1:
        raise IngestError(
            "sources: some have integer steps as timestamps, others times; make two pipelines of them, "
            "or set `timestamp_format:` so that all are read alike"
        )
    if not frames:
        texts = dict.fromkeys((SERIES_ID, NAME, SOURCE), pl.String())
        return pl.DataFrame(schema={**texts, ROW: pl.Int64(), TIMESTAMP: pl.Int64(), TARGET: pl.Float64()})
    # In one piece: polars 2.1 panics in pl.format where columns are cut unlike each other, with an empty piece.
    return pl.concat(frames, how="diagonal").rechunk()


def _last_of_each(frame: pl.DataFrame) -> tuple[pl.DataFrame, int, str | None]:
    """One row per key, the last one read; also how many others had different values, and an example of one.

    Where a column says which row is the newer, the last is that of the highest revision.
    """
    if table.rises(frame, KEY):
        return frame, 0, None
    frame = frame.sort(*KEY, *([REVISION] if REVISION in frame.columns else []), maintain_order=True)
    repeats = pl.all_horizontal(pl.col(name) == pl.col(name).shift(-1) for name in KEY).fill_null(False)
    repeated = frame.select(repeats).to_series()
    if not repeated.any():
        return frame, 0, None
    kept = frame.filter(~repeated)
    different = frame.filter(repeated | repeated.shift(1, fill_value=False)).unique(maintain_order=True)
    first = different.filter(different.select(KEY).is_duplicated())
    if first.is_empty():
        return kept, 0, None
    series, stamp = first.select(KEY).row(0)
    conflicts = len(first) - first.select(KEY).n_unique()
    return (
        kept,
        conflicts,
        f"series '{series}' at {plain(stamp)} came with different values; the last one read was kept",
    )


def _behind(found: Difference, snapshot: Snapshot) -> pl.DataFrame:
    """Keys of the rows that change what was already past: not after the newest reading that their series had."""
    keys = pl.concat([found.new.select(KEY), found.changed.select(KEY)])
    if keys.is_empty():
        return keys
    past = pl.col(TIMESTAMP) <= pl.col("watermark")
    return keys.join(snapshot.newest(keys), on=SERIES_ID, how="inner").filter(past).select(KEY)


def _since(late: pl.DataFrame) -> pl.DataFrame:
    return late.group_by(SERIES_ID).agg(pl.col(TIMESTAMP).min()).sort(SERIES_ID)


def _as_rejected(failed: pl.DataFrame) -> pl.DataFrame:
    """Readings that were not taken as the quarantine has them."""
    rows = failed.with_columns(pl.Series("content", contents(failed), dtype=pl.String))
    rows = rows.select(
        pl.col(SOURCE).alias("source"),
        pl.col(NAME).alias("file"),
        pl.col(ROW).alias("row"),
        "column",
        "reason",
        "content",
    )
    return rows.cast(REJECTED)


def _quarantine(rejected: pl.DataFrame, stage: str) -> pl.DataFrame:
    """Refused rows with an id that is the same whenever the same content is refused again, wherever it stands."""
    ids = [
        hashlib.sha256("\0".join(str(text) for text in texts).encode()).hexdigest()[:32]
        for texts in rejected.select("source", "column", "content").iter_rows()
    ]
    stamp = pl.Datetime("us", "UTC")
    return rejected.with_columns(
        pl.Series("id", ids, dtype=pl.String),
        pl.lit(stage).alias("stage"),
        pl.lit(datetime.now(UTC)).cast(stamp).alias("seen_at"),
        pl.lit(None).cast(stamp).alias("replayed_at"),
        pl.lit(None).cast(pl.Int64).alias("replayed_version"),
    )


def _record(report: IngestReport) -> dict[str, Any]:
    """The report as the commit keeps it; its version is the commit's own."""
    row = report.as_row()
    return {name: value for name, value in row.items() if name not in ("version", "watermark")}
