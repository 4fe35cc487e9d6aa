"""Where a query has been read to: what its cursor says, and where to begin next time."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from rnnforecast.sources.base import Cursor
from rnnforecast.sources.parse import Long, Memory
from rnnforecast.sources.sql_marks import Mark


@dataclass(frozen=True)
class Place:
    """How far a source was read.

    position: the watermark from which rows are to be read (again); memory: what the rows below it have shown; ended:
    whether the last reading came to its end (only then is `lookback` due); digest: of the rows at `position`, or of
    the whole answer to a query without a watermark; due, since: when the first row of the future falls due, and the
    watermark from which it will be found (None: from the beginning).
    """

    position: Mark | None = None
    memory: Memory = field(default_factory=Memory)
    ended: bool = False
    digest: str | None = None
    due: str | None = None
    since: Mark | None = None

    @classmethod
    def of(cls, cursor: Cursor) -> "Place":
        """What a cursor says; the beginning where it is empty."""
        return cls(
            position=Mark.of(cursor.get("position")),
            memory=Memory.of(cursor.get("memory")),
            ended=bool(cursor.get("ended")),
            digest=cursor.get("digest"),
            due=cursor.get("due"),
            since=Mark.of(cursor.get("since")),
        )

    def as_cursor(self) -> Cursor:
        """Plain JSON."""
        return {
            "position": self.position.as_cursor() if self.position else None,
            "memory": self.memory.as_cursor(),
            "ended": self.ended,
            "digest": self.digest,
            "due": self.due,
            "since": self.since.as_cursor() if self.since else None,
        }

    @property
    def fell_due(self) -> bool:
        """Whether a row that was dated after its reading is one of the past by now."""
        return self.due is not None and datetime.fromisoformat(self.due) <= datetime.now(UTC)

    def begun(self, lookback: str | None, label: str) -> tuple[Mark | None, "Place"]:
        """Where a reading begins, and this place while it lasts."""
        start = self.since if self.fell_due else self.position
        if self.ended and lookback is not None and start is not None:
            start = start.before(lookback, label)
        if start == self.position and not self.fell_due:
            return start, self
        # Rows are read that were read before: a repeated hour among them begins anew.
        memory = replace(self.memory, folds=frozenset())
        place = replace(self, memory=memory, digest=None)
        return start, replace(place, due=None, since=None) if self.fell_due else place

    def after(self, read: Long, *, begin: Mark | None, end: Mark | None) -> "Place":
        """This place once rows from `begin` on are read, all below `end`; without an `end` they will be read again."""
        again = replace(self.memory, kind=read.memory.kind, proven=read.memory.proven)
        memory = read.memory if end is not None else again
        place = replace(self, position=end or self.position, memory=memory, ended=False, digest=None)
        if read.due is None:
            return place
        since = self.since if self.due is not None else begin
        return replace(place, due=min(read.due, self.due or read.due), since=since)
