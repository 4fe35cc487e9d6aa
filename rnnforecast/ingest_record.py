"""What an ingest did: its counts, kept in the commit of its rows and from there as a table of all ingests."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import polars as pl

from rnnforecast import table
from rnnforecast.columns import SERIES_ID
from rnnforecast.config import Pipeline

RECORD: Final = "ingest"  # in the metadata of a commit
COUNTS: Final = ("read", "inserted", "updated", "unchanged", "duplicates", "quarantined", "late", "conflicts")
KEY: Final = ("version",)
LISTED: Final = 100  # findings, changes and notes of an ingest that had many commits


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did, in readings: read == inserted + updated + unchanged + duplicates + quarantined.

    version: the table's after it (None: no table yet); watermark: the newest timestamp that has a reading;
    late: rows taken that stand before or at the newest reading their series had; conflicts: how many of the
    duplicates had other values than the row that was kept, `conflict` names one; reasons: refused readings by
    reason; sources: readings by source; changes: columns that are not as they were; findings: the quality report;
    recompute: series to the first time from which states and forecasts are out of date; notes: lines of the sources.
    """

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0
    quarantined: int = 0
    late: int = 0
    version: int | None = None
    watermark: datetime | int | None = None
    conflicts: int = 0
    conflict: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    changes: list[dict[str, str]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    recompute: dict[str, str | int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def plus(self, later: "IngestReport") -> "IngestReport":
        """This and what came after it as one."""
        both: dict[str, Any] = {name: getattr(self, name) + getattr(later, name) for name in COUNTS}
        for name in ("reasons", "sources"):
            both[name] = dict(Counter(getattr(self, name)) + Counter(getattr(later, name)))
        for name in ("changes", "findings", "notes"):
            both[name] = [*getattr(self, name), *getattr(later, name)][:LISTED]
        both["recompute"] = dict(later.recompute)
        for series, since in self.recompute.items():
            both["recompute"][series] = min(since, later.recompute.get(series, since))
        both |= {"version": later.version, "watermark": later.watermark, "conflict": self.conflict or later.conflict}
        return IngestReport(**both)

    def as_row(self) -> dict[str, Any]:
        """The report as one row of a table, JSON-able."""
        row = asdict(self)
        if isinstance(self.watermark, datetime):
            row["watermark"] = self.watermark.isoformat()
        return row


def settle(pipeline: Pipeline) -> None:
    """Copy what the commits say of their ingests to the table of ingests; a kill before it is made good by the next."""
    path, options = pipeline.table("ingests"), pipeline.storage.options
    there = table.files(path, options)
    known: Any = -1 if there is None else there["max.version"].max()
    rows = [
        {**note[RECORD], "version": version, "at": at}
        for version, at, note in table.notes(pipeline.table("observations"), after=known, options=options)
        if RECORD in note
    ]
    if rows:
        table.append_new(path, _frame(rows), key=KEY, options=options)


def history(pipeline: Pipeline) -> pl.DataFrame:
    """One row per commit of an ingest, oldest first: version, at, the counts, and in JSON what else the report says."""
    path, options = pipeline.table("ingests"), pipeline.storage.options
    if table.version(path, options) is None:
        return _frame([])
    return table.scan(path, options=options).collect().sort("version")


def recompute(pipeline: Pipeline, timestamps: pl.DataType) -> pl.DataFrame:
    """What late rows and revisions put out of date: series_id, since, version.

    States and forecasts of the series that were made on a table before `version`, at a cutoff of `since` or later.
    """
    rows = [
        (series, since, version)
        for version, text in history(pipeline).filter(pl.col("recompute") != "{}").select("version", "recompute").rows()
        for series, since in json.loads(text).items()
    ]
    marks = pl.DataFrame(
        rows, schema={SERIES_ID: pl.String(), "since": pl.Object(), "version": pl.Int64()}, orient="row"
    )
    since = pl.Series("since", [_moment(value) for value in marks["since"]], dtype=timestamps)
    return marks.with_columns(since)


def kind(reason: str) -> str:
    """A reason without what it says of the single cell."""
    return "not a number" if reason.endswith("is not a number") else reason.split(":")[0]


def plain(moment: datetime | int) -> str | int:
    """A timestamp as JSON has it."""
    return moment.isoformat() if isinstance(moment, datetime) else moment


def _moment(value: str | int) -> datetime | int:
    return value if isinstance(value, int) else datetime.fromisoformat(value)


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Records as the table of ingests has them: what is no number is JSON text."""
    names = [each.name for each in fields(IngestReport) if each.name not in ("version", *COUNTS)]
    schema = {"version": pl.Int64(), "at": pl.Datetime("us", "UTC")}
    schema |= {name: pl.Int64() for name in COUNTS} | {name: pl.String() for name in names}
    texts = [
        {
            name: value
            if name in ("version", "at", *COUNTS) or value is None or isinstance(value, str)
            else json.dumps(value)
            for name, value in row.items()
        }
        for row in rows
    ]
    return pl.DataFrame(texts, schema=schema)
