"""How far an ingest reads at most (`until`)."""

from datetime import UTC, datetime

import polars as pl

from rnnforecast.columns import TIMESTAMP
from rnnforecast.sources.base import SourceError


def up_to(frame: pl.DataFrame, until: datetime | int, label: str) -> pl.DataFrame:
    """The rows of a long frame up to `until`, a naive one being UTC; raises SourceError where it is of another kind."""
    steps = frame.schema[TIMESTAMP] == pl.Int64
    if steps == isinstance(until, datetime) and len(frame):
        raise SourceError(f"{label}: until: expected {'an integer step' if steps else 'a time'}; found {until!r}")
    if isinstance(until, datetime) and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return frame.filter(pl.col(TIMESTAMP) <= until) if len(frame) else frame
