"""What is wrong with new readings: the checks of the pipeline file, and a report that needs none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from rnnforecast.columns import SERIES_ID, TIMESTAMP
from rnnforecast.quality_checks import PLACE, judge
from rnnforecast.quality_checks import rows_before as rows_before
from rnnforecast.quality_findings import Finding, as_frame
from rnnforecast.quality_findings import as_words as as_words
from rnnforecast.quality_order import ordered
from rnnforecast.quality_times import clocks, duplicates, empty, gaps
from rnnforecast.quality_values import constants, frozen, sentinels, spikes, without


@dataclass(frozen=True)
class Examined:
    """New readings, examined.

    kept: those that may be taken; failed: those that fail a check, with `column` and `reason`; both have the columns
    of the frame, in its order. findings: kind, series_id, column, count, first, last, detail, the weightiest first.
    """

    kept: pl.DataFrame
    failed: pl.DataFrame
    findings: pl.DataFrame


def examine(frame: pl.DataFrame, *, checks: Sequence[Any], tail: pl.DataFrame | None = None) -> Examined:
    """Examine new readings, a long frame in the order of reading; every row comes out in `kept` or in `failed`.

    tail: readings stored before, of each series at least the last `rows_before(checks)` before its first new one.
    """
    failures = judge(frame, checks, tail)
    if failures.is_empty():
        none = frame.head(0).with_columns(column=pl.lit(None, pl.String), reason=pl.lit(None, pl.String))
        return Examined(frame, none, as_frame([*_without_checks(frame, frame)], frame.schema[TIMESTAMP]))
    columns = pl.DataFrame(
        {
            "check": range(len(checks)),
            "column": [check.column for check in checks],
            "action": [c.action for c in checks],
        },
        schema={"check": pl.Int64(), "column": pl.String(), "action": pl.String()},
    )
    told = failures.join(columns, on="check").sort(PLACE, "check")
    refused = told.filter(pl.col("action") == "quarantine").unique(PLACE, keep="first", maintain_order=True)
    numbered = frame.with_row_index(PLACE).cast({PLACE: pl.Int64})
    failed = numbered.join(refused.select(PLACE, "column", "reason"), on=PLACE, maintain_order="left").drop(PLACE)
    kept = numbered.join(refused, on=PLACE, how="anti", maintain_order="left").drop(PLACE)
    found = [*_of_checks(numbered, told), *_without_checks(frame, kept)]
    return Examined(kept, failed, as_frame(found, frame.schema[TIMESTAMP]))


def _of_checks(numbered: pl.DataFrame, told: pl.DataFrame) -> Iterator[Finding]:
    """Which checks failed, by series and column."""
    rows = told.join(numbered.select(PLACE, SERIES_ID, pl.col(TIMESTAMP).to_physical()), on=PLACE)
    each = rows.group_by(SERIES_ID, "check", "column", "action", maintain_order=True).agg(
        pl.len(),
        pl.col(TIMESTAMP).min().alias("first"),
        pl.col(TIMESTAMP).max().alias("last"),
        pl.col("reason").first(),
    )
    for row in each.iter_rows(named=True):
        kind = "refused" if row["action"] == "quarantine" else "failed"
        said = f"{row['len']:,} readings, such as: {row['reason']}" if row["len"] > 1 else row["reason"]
        yield Finding(kind, row[SERIES_ID], row["column"], row["len"], row["first"], row["last"], said)


def _without_checks(frame: pl.DataFrame, kept: pl.DataFrame) -> Iterator[Finding]:
    """What nobody asked for: of the times of all readings, of the values of those that are kept."""
    columns = [name for name, dtype in kept.schema.items() if dtype == pl.Float64]
    everything = ordered(frame)
    rows = everything if len(kept) == len(frame) else ordered(kept)
    yield from clocks(everything)
    yield from duplicates(everything)
    yield from gaps(everything)
    for column in columns:
        found = constants(rows, column)
        yield from sentinels(rows, column, found)
        others = without(rows, column, found)
        yield from frozen(others, column)
        yield from spikes(others, column)
        yield from empty(rows, column)
