"""What every source obeys: read from a cursor, yield rows in one spelling, and name what was refused.

A source is asked with the cursor of its last batch that was stored (None at first) and yields batches.
The cursor is plain JSON; it is stored in the same commit as the rows, so rows and cursor cannot part.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from rnnforecast.columns import SERIES_ID, TARGET, TIMESTAMP

Cursor = dict[str, Any]
Until = datetime | int | None

TIME = pl.Datetime("us", "UTC")
REJECTED = pl.Schema(
    {
        "source": pl.String(),
        "file": pl.String(),
        "row": pl.Int64(),
        "column": pl.String(),
        "reason": pl.String(),
        "content": pl.String(),
    }
)


class SourceError(ValueError):
    """A source cannot be read as it is described; the message names file, row or column, and the fix."""


@dataclass(frozen=True)
class Batch:
    """Rows read in one go.

    frame: long frame (series_id, timestamp, target, covariates), in the order of reading, repeats included;
    rejected: one row per reading that cannot be taken, columns as in `REJECTED`;
    cursor: where to go on from, once both are stored.
    """

    frame: pl.DataFrame
    rejected: pl.DataFrame
    cursor: Cursor


class Source(Protocol):
    """Anything that can be ingested."""

    key: str  # names the cursor; changes with everything that decides how rows are read
    label: str  # how people call it

    def read(self, cursor: Cursor | None, *, until: Until = None) -> Iterator[Batch]:
        """Yield what came after `cursor`; `until` leaves later rows for another time. Raises SourceError."""
        ...


def identity(kind: str, label: str, settings: Any) -> str:
    """The key of a source: readable, and different as soon as one of `settings` (JSON-able) is."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    return f"{kind}:{label}:{digest[:12]}"


def empty_long(covariates: Iterable[str]) -> pl.DataFrame:
    """A long frame without rows; timestamps are times."""
    numbers = {name: pl.Float64() for name in (TARGET, *covariates)}
    return pl.DataFrame(schema={SERIES_ID: pl.String(), TIMESTAMP: TIME, **numbers})


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the name in `names` closest to `name`, or nothing."""
    known = list(names)
    folded = {known_name.casefold(): known_name for known_name in known}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean '{folded[found[0]]}'?" if found else ""
