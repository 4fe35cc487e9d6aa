"""From the sources into the table of observations: nothing twice, nothing lost, every refusal named.

One ingest is one commit: all sources are read and checked first, the refused rows go to the quarantine, and
then the good rows and the cursors of all sources are stored together. A kill at any point leaves either the
table from before or the one from after, and the next ingest ends with the same.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from rnnforecast import table
from rnnforecast.columns import KEY, SERIES_ID, TIMESTAMP
from rnnforecast.config import Pipeline
from rnnforecast.sources import Batch, Cursor, open_source
from rnnforecast.sources.base import REJECTED

CURSORS = "cursors"
QUARANTINE_KEY = ("id",)


class IngestError(ValueError):
    """The sources do not go together; the message says which and why."""


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did, in readings: read == inserted + updated + unchanged + duplicates + quarantined.

    version: the table's after it (None: no table yet); watermark: the newest timestamp that has a reading;
    conflicts: how many of the duplicates had other values than the row that was kept, `conflict` names one;
    reasons: refused readings by reason; sources: readings by source.
    """

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0
    quarantined: int = 0
    version: int | None = None
    watermark: datetime | int | None = None
    conflicts: int = 0
    conflict: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """The report as one row of a table, JSON-able."""
        row = asdict(self)
        if isinstance(self.watermark, datetime):
            row["watermark"] = self.watermark.isoformat()
        return row


def ingest(pipeline: Pipeline, *, until: datetime | int | None = None) -> IngestReport:
    """Bring the pipeline's table up to date with its sources; `until` leaves later rows for another time.

    Raises SourceError for a source that is not as described, TableError for a table that cannot be written,
    IngestError where sources disagree on what a timestamp is.
    """
    path, options = pipeline.table("observations"), pipeline.storage.options
    for name in ("quarantine", "observations"):
        table.check_writable(pipeline.table(name))
    cursors: dict[str, Cursor] = dict(table.metadata(path, options).get(CURSORS, {}))
    batches: list[Batch] = []
    counts: dict[str, int] = {}
    for source in pipeline.sources:
        reader = open_source(pipeline, source)
        new = list(reader.read(cursors.get(reader.key), until=until))
        if new:
            cursors[reader.key] = new[-1].cursor
        counts[reader.label] = counts.get(reader.label, 0) + sum(len(b.frame) + len(b.rejected) for b in new)
        batches += new
    rejected = pl.concat([pl.DataFrame(schema=REJECTED), *(batch.rejected for batch in batches)])
    frame = _together(batches)
    kept, conflicts, example = _last_of_each(frame)
    table.append_new(pipeline.table("quarantine"), _quarantine(rejected), key=QUARANTINE_KEY, options=options)
    done = table.upsert(path, kept, key=KEY, metadata={CURSORS: cursors}, options=options)
    return IngestReport(
        read=sum(counts.values()),
        inserted=done.inserted,
        updated=done.updated,
        unchanged=done.unchanged,
        duplicates=len(frame) - len(kept),
        quarantined=len(rejected),
        version=done.version,
        watermark=table.latest(path, options),
        conflicts=conflicts,
        conflict=example,
        reasons=_by_reason(rejected["reason"]),
        sources=counts,
    )


def _together(batches: Iterable[Batch]) -> pl.DataFrame:
    """The rows of all batches in the order of reading."""
    frames = [batch.frame for batch in batches if not batch.frame.is_empty()]
    if len({frame.schema[TIMESTAMP] for frame in frames}) > 1:
        raise IngestError(
            "sources: some have integer steps as timestamps, others times; make two pipelines of them, "
            "or set `timestamp_format:` so that all are read alike"
        )
    return pl.concat(frames) if frames else pl.DataFrame(schema={SERIES_ID: pl.String(), TIMESTAMP: pl.Int64()})


def _last_of_each(frame: pl.DataFrame) -> tuple[pl.DataFrame, int, str | None]:
    """One row per key, the last one read; also how many others had different values, and an example of one."""
    kept = frame.unique(KEY, keep="last", maintain_order=True)
    if len(kept) == len(frame):
        return kept, 0, None
    different = frame.filter(frame.select(KEY).is_duplicated()).unique(maintain_order=True)
    first = different.filter(different.select(KEY).is_duplicated())
    if first.is_empty():
        return kept, 0, None
    series, stamp = first.select(KEY).row(0)
    conflicts = len(first) - first.select(KEY).n_unique()
    shown = stamp.isoformat() if isinstance(stamp, datetime) else stamp
    return kept, conflicts, f"series '{series}' at {shown} came with different values; the last one read was kept"


def _quarantine(rejected: pl.DataFrame) -> pl.DataFrame:
    """Refused rows with an id that is the same whenever the same row is refused again."""
    names = ("source", "file", "row", "column", "content")
    ids = [
        hashlib.sha256("\0".join(str(row[name]) for name in names).encode()).hexdigest()[:32]
        for row in rejected.iter_rows(named=True)
    ]
    now = pl.lit(datetime.now(UTC)).cast(pl.Datetime("us", "UTC"))
    frame = rejected.with_columns(pl.Series("id", ids, dtype=pl.String), now.alias("seen_at"))
    return frame.unique(QUARANTINE_KEY, keep="first", maintain_order=True)


def _by_reason(reasons: pl.Series) -> dict[str, int]:
    """How many readings were refused for each reason, what it says of the single cell left out."""
    kinds = Counter(reason.split(":")[0] if "'" not in reason else "not a number" for reason in reasons)
    return dict(kinds.most_common())
