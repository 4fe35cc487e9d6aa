"""Readings that come again: those that stand in the table just so, and those that were refused before."""

import json
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from rnnforecast import table
from rnnforecast.columns import KEY, SERIES_ID, TARGET
from rnnforecast.config import Pipeline
from rnnforecast.ingest_record import plain
from rnnforecast.sources.base import REVISION, ROW
from rnnforecast.table import Snapshot
from rnnforecast.table_files import FILE

NAME: Final = "#name"  # what a reading was read from
SOURCE: Final = "#source"  # the label of its source
PLACES: Final = (ROW, NAME, SOURCE, "column", "reason")  # where a reading stood and what was said of it
THERE: Final = "#there"


@dataclass(frozen=True)
class Known:
    """How many readings were known: in the table, or in the quarantine."""

    unchanged: int = 0
    quarantined: int = 0


def without_known(
    frame: pl.DataFrame, snapshot: Snapshot, pipeline: Pipeline, *, held: bool = True
) -> tuple[Known, pl.DataFrame]:
    """`frame` without the readings that say nothing new (`held`: those in quarantine too), and how many they were."""
    fresh = _not_in_table(frame, snapshot)
    left = _not_in_quarantine(fresh, pipeline) if held else fresh
    return Known(len(frame) - len(fresh), len(fresh) - len(left)), left


def contents(frame: pl.DataFrame) -> list[str]:
    """Every reading as the quarantine keeps it: its long form in JSON."""
    kept = frame.drop(name for name in PLACES if name in frame.columns)
    kept = kept.select(*KEY, *sorted(name for name in kept.columns if name not in KEY))
    # Columns that are empty may only be there for another source's sake, which reads in the same commit.
    return [
        json.dumps({name: _plain(value) for name, value in row.items() if value is not None or name == TARGET})
        for row in kept.iter_rows(named=True)
    ]


def _not_in_table(frame: pl.DataFrame, snapshot: Snapshot) -> pl.DataFrame:
    there = snapshot.matching(frame.unique(KEY), KEY)
    if there.is_empty():
        return frame
    values = [name for name in frame.columns if name not in (*KEY, *PLACES)]
    both = frame.join(there, on=KEY, how="left", suffix=THERE, maintain_order="left")
    found = pl.col(FILE).is_not_null()
    same = [
        pl.col(name).eq_missing(pl.col(f"{name}{THERE}")) if name in there.columns else pl.col(name).is_null()
        for name in values
    ]
    known = found & pl.all_horizontal(same)
    if REVISION in frame.columns and REVISION in there.columns:
        known |= found & (pl.col(REVISION) < pl.col(f"{REVISION}{THERE}"))  # an older revision changes nothing
    # Where other values for the same time come with it, the order decides what stands in the end.
    alone = pl.col("#known").all().over(*KEY)
    return both.with_columns(known.alias("#known")).filter(~alone).select(frame.columns)


def _not_in_quarantine(frame: pl.DataFrame, pipeline: Pipeline) -> pl.DataFrame:
    path, options = pipeline.table("quarantine"), pipeline.storage.options
    if frame.is_empty() or table.version(path, options) is None:
        return frame
    rows = table.scan(path, options=options)
    if "stage" not in rows.collect_schema().names():
        return frame
    held = (
        rows.filter(pl.col("stage") == "reading", pl.col("replayed_at").is_null())
        .select("content")
        .collect()["content"]
    )
    if held.is_empty():
        return frame
    series = held.str.json_path_match("$.series_id").unique()
    suspects = frame.with_row_index("#place").filter(pl.col(SERIES_ID).is_in(series.implode()))
    texts = pl.Series(contents(suspects.drop("#place")), dtype=pl.String)
    known = suspects.filter(texts.is_in(held.implode()))["#place"]
    return frame.with_row_index("#place").filter(~pl.col("#place").is_in(known.implode())).drop("#place")


def _plain(value: Any) -> Any:
    return plain(value) if hasattr(value, "isoformat") else value
