"""What every source obeys: read from a cursor, yield rows in one spelling, and name what was refused.

A source is asked with the cursor of its last batch that was stored (None at first) and yields batches, each with
the cursor to go on from once it and all batches before it are stored. The cursor is plain JSON; it is stored in
the same commit as the rows, so rows and cursor cannot part.
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
from rnnforecast.secrets import DiscreetError, hidden

Cursor = dict[str, Any]
Until = datetime | int | None

TIME = pl.Datetime("us", "UTC")
ROW = "#row"  # where a reading stood: line in a file (the header being 1), row of a query, offset of a message
REVISION = "revision"
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


class SourceError(DiscreetError):
    """A source cannot be read as it is described; the message names file, row or column, and the fix, no secret."""


@dataclass(frozen=True)
class Change:
    """A column that is not as it was: `kind` is new, missing, type or unit; `detail` says from what to what."""

    kind: str
    column: str
    detail: str
    action: str  # ignore, add, quarantine, stop


@dataclass(frozen=True)
class Batch:
    """Rows read in one go.

    frame: long frame (ROW, series_id, timestamp, target, covariates, REVISION where the source has one), in the
    order of reading, repeats included; rejected: one row per reading that cannot be taken, columns as in `REJECTED`;
    cursor: where to go on from, once this is stored; name: what was read (a file, a topic and partition, a query);
    changes: columns that are not as they were; notes: lines for the log; flush: the source has more only after this
    is stored (a broker that waits for its acknowledgements).
    """

    frame: pl.DataFrame
    rejected: pl.DataFrame
    cursor: Cursor
    name: str = ""
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    flush: bool = False


class Source(Protocol):
    """Anything that can be ingested."""

    key: str  # names the cursor; changes with everything that decides how rows are read, and with no secret
    label: str  # how people call it

    def read(self, cursor: Cursor | None, *, until: Until = None) -> Iterator[Batch]:
        """Yield what came after `cursor`; `until` leaves later rows for another time. Raises SourceError."""
        ...

    def stored(self) -> None:
        """All that was yielded is in the table: what the source keeps for it may go (acknowledge, tell the broker)."""
        ...

    def close(self) -> None:
        """The ingest is over, well or badly: connections may go."""
        ...


class Quiet:
    """A source that keeps nothing and has nothing to close."""

    def stored(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


def identity(kind: str, label: str, settings: Any) -> str:
    """The key of a source: readable, and different as soon as one of `settings` (JSON-able, no secret) is."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    return f"{kind}:{hidden(label)}:{digest[:12]}"


def empty_long(covariates: Iterable[str]) -> pl.DataFrame:
    """A long frame without rows; timestamps are times."""
    numbers = {name: pl.Float64() for name in (TARGET, *covariates)}
    return pl.DataFrame(schema={ROW: pl.Int64(), SERIES_ID: pl.String(), TIMESTAMP: TIME, **numbers})


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the name in `names` closest to `name`, or nothing."""
    known = list(names)
    folded = {known_name.casefold(): known_name for known_name in known}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean '{folded[found[0]]}'?" if found else ""
