"""Readings for the measurements of the ingest: many series of hourly values, as Parquet files, in two orders."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import yaml

START: Final = datetime(2023, 1, 1, tzinfo=UTC)
HOUR: Final = 3_600_000_000
STAMP: Final = pl.Datetime("us", "UTC")
ROWS_PER_FILE: Final = 10_000_000
ORDERS: Final = ("time", "series")  # which of the two changes slowly: as a feed comes, or as an archive lies


def write_files(folder: Path, *, rows: int, series: int, order: str) -> None:
    """`rows` readings of `series` series in files of ten million, ordered by time or by series."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = rows // series
    across, along = (steps, series) if order == "time" else (series, steps)
    for number, first in enumerate(range(0, across, max(ROWS_PER_FILE // along, 1))):
        outer = np.arange(first, min(first + max(ROWS_PER_FILE // along, 1), across))
        slow, fast = np.repeat(outer, along), np.tile(np.arange(along), len(outer))
        step, which = (slow, fast) if order == "time" else (fast, slow)
        frame(step, which, seed=number).write_parquet(folder / f"rows-{number:04}.parquet")


def frame(step: np.ndarray, which: np.ndarray, *, seed: int, shift: int = 0) -> pl.DataFrame:
    """Readings of the series `which` at the hours `step`, moved by `shift` microseconds; two decimals."""
    noise = np.random.default_rng(seed).normal(0, 1, len(step))
    value = np.round(10 + which % 50 + 5 * np.sin(2 * np.pi * step / 24) + noise, 2)
    names = pl.Series("sensor", [f"sensor-{number:05}" for number in range(int(which.max()) + 1)])
    start = int(START.timestamp()) * 1_000_000
    return pl.DataFrame(
        {
            "sensor": names.gather(which),
            "time": pl.Series(start + step.astype(np.int64) * HOUR + shift).cast(STAMP),
            "value": value,
        }
    )


def at(step: int) -> datetime:
    """The time of a step."""
    return START + timedelta(hours=step)


def pipeline_file(folder: Path, **keys: object) -> Path:
    """A pipeline over all Parquet files of the folder's `in`, its table beside it."""
    columns = {"timestamp": "time", "target": "value", "series_id": "sensor"}
    sources = [{"kind": "file", "path": "in/*.parquet", "columns": columns}]
    file = folder / "bench.yaml"
    file.write_text(yaml.safe_dump({"name": "bench", "horizon": 1, "sources": sources, "allow_future": True} | keys))
    return file
