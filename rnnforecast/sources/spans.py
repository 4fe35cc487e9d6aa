"""How far back a source reads again (`lookback`), and how far an ingest reads at most (`until`)."""

import re
from datetime import UTC, datetime, timedelta

import polars as pl

from rnnforecast.columns import TIMESTAMP
from rnnforecast.frequency import SECONDS
from rnnforecast.sources.base import SourceError

SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def span(text: str) -> timedelta | None:
    """A length of time such as 10m, 1h or 2d; None where it is none."""
    found = SPAN.fullmatch(text.strip())
    return timedelta(seconds=float(found[1]) * SECONDS[found[2]]) if found else None


def up_to(frame: pl.DataFrame, until: datetime | int, label: str) -> pl.DataFrame:
    """The rows of a long frame up to `until`, a naive one being UTC; raises SourceError where it is of another kind."""
    steps = frame.schema[TIMESTAMP] == pl.Int64
    if steps == isinstance(until, datetime) and len(frame):
        raise SourceError(f"{label}: until: expected {'an integer step' if steps else 'a time'}; found {until!r}")
    if isinstance(until, datetime) and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return frame.filter(pl.col(TIMESTAMP) <= until) if len(frame) else frame
