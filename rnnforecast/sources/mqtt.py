"""Topics of an MQTT broker as a source: the broker keeps what was not acknowledged, and that is what was not stored.

A message is acknowledged after the commit that holds it. So one may come twice, never not at all; a row with its own
time is the same row the second time. A bare number has none: its time is that of its arrival, so that a number which
was stored just before a kill, and not yet acknowledged, is stored a second time at its second arrival.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import polars as pl

from rnnforecast.config import NULL_VALUES, MqttSource, Pipeline
from rnnforecast.sources.base import ROW, TIME, Batch, Cursor, SourceError, Until, identity
from rnnforecast.sources.layout import Mapping
from rnnforecast.sources.messages import asked_for, content, from_json, rows, texts_of
from rnnforecast.sources.mqtt_session import Arrived, Session
from rnnforecast.sources.parse import Memory, to_long
from rnnforecast.sources.rows import Rows
from rnnforecast.sources.spans import up_to

LEVEL: Final = re.compile(r"#topic\[(-?\d+)\]")
LULL: Final = 0.5  # seconds: then a broker that sends no more may wait for acknowledgements
FEW: Final = 10  # messages that are not worth a commit of their own while others may come
ROUND: Final = 50_000  # messages stored at once: less than the broker may send unacknowledged


class MqttReader:
    """Reads the messages that wait in a session, and those that come while it listens."""

    def __init__(self, pipeline: Pipeline, source: MqttSource) -> None:
        self._source = source
        self.label = ", ".join(source.topics)
        self._mapping = Mapping.of(pipeline, source, self.label)
        self._asked = asked_for(self._mapping)
        self._levels = {name: _level(name) for name in self._asked if name.startswith("#topic[")}
        if source.payload == "number" and len(self._mapping.times) + isinstance(source.columns.target, list) > 1:
            raise SourceError(f"mqtt {self.label}: payload `number` has one time and one target; name one column each")
        self.key = identity("mqtt", self.label, [sorted(source.topics), source.payload, self._mapping.decisive])
        own = hashlib.sha256(self.key.encode()).hexdigest()[:8]
        self._name = source.client_id or f"rnnforecast-{pipeline.name}-{own}"
        self._ca_file = pipeline.resolve(source.ca_file) if source.ca_file else None
        self._session: Session | None = None
        self._held: list[Arrived] = []
        self._acknowledges = True

    def read(self, cursor: Cursor | None, *, until: Until = None) -> Iterator[Batch]:
        """Yield what came, until nothing does for `listen` seconds; with `until` nothing is acknowledged.

        Raises SourceError for a broker that cannot be reached, refuses, or is lost.
        """
        self.close()
        self._acknowledges = until is None
        self._session = session = Session(self._source, name=self._name, ca_file=self._ca_file)
        before = cursor or {}
        known = before.get("topics", []) if session.resumed else []
        topics = list(self._source.topics)
        session.subscribe(
            [name for name in topics if name not in known], [name for name in known if name not in topics]
        )
        state = {"topics": topics, "count": before.get("count", 0), "memory": before.get("memory")}
        for arrived in self._rounds(session):
            batch, state = self._batch(arrived, state)
            self._held += arrived
            yield batch if until is None else replace(batch, frame=up_to(batch.frame, until, self.label), cursor=before)

    def stored(self) -> None:
        """What was yielded is acknowledged."""
        if self._session is not None and self._acknowledges:
            self._session.acknowledge(self._held)
        self._held = []

    def close(self) -> None:
        """The connection goes; the session stays at the broker."""
        if self._session is not None:
            self._session.close()
        self._session, self._held = None, []

    def _rounds(self, session: Session) -> Iterator[list[Arrived]]:
        """Messages to be stored together, until the ingest has enough of them, or none comes."""
        end = time.monotonic() + self._source.lasts
        total, quiet = 0, self._source.listen
        while total < self._source.most and time.monotonic() < end:
            found = self._round(session, min(ROUND, self._source.most - total), quiet, end)
            if not found:
                return
            total += len(found)
            yield found
            # Only a broker that waited for the acknowledgements has more right away.
            quiet = min(LULL, self._source.listen) if len(found) < FEW else self._source.listen

    def _round(self, session: Session, most: int, quiet: float, end: float) -> list[Arrived]:
        found: list[Arrived] = []
        last = time.monotonic()
        while len(found) < most:
            now = time.monotonic()
            wait = (min(LULL, quiet) if len(found) >= FEW else quiet) - (now - last)
            if wait <= 0 or now >= end:
                break
            some = session.messages(most - len(found), min(wait, end - now))
            if some:
                found += some
                last = time.monotonic()
        return found

    def _batch(self, arrived: list[Arrived], state: dict[str, Any]) -> tuple[Batch, dict[str, Any]]:
        """The rows of some messages, and the cursor behind them."""
        memory = Memory.of(state["memory"])
        numbers = pl.int_range(state["count"] + 1, state["count"] + len(arrived) + 1, dtype=pl.Int64, eager=True)
        values = pl.Series([message.payload for message in arrived], dtype=pl.Binary)
        beside = self._beside(arrived)
        if self._source.payload == "number":
            read = self._bare(arrived, numbers, beside)
        else:
            read = rows(values, numbers, beside, decode=partial(from_json, wanted=self._asked))
        long = to_long(read, self._mapping, name=self.label, memory=replace(memory, resumed=memory.proven))
        state = {**state, "count": state["count"] + len(arrived), "memory": long.memory.as_cursor()}
        return Batch(long.frame, long.rejected, state, self.label, long.changes, flush=True), state

    def _bare(self, arrived: list[Arrived], numbers: pl.Series, beside: dict[str, pl.Series]) -> Rows:
        """Messages that are a number each; what the broker retained has no time, as it came long ago."""
        texts = texts_of(pl.Series([message.payload for message in arrived], dtype=pl.Binary)).str.strip_chars()
        nulls = [*NULL_VALUES, *self._source.null_values]
        number = texts.cast(pl.Float64, strict=False).is_not_null() | texts.is_in(nulls)
        retained = pl.Series([message.retained for message in arrived], dtype=pl.Boolean)
        good = (number & ~retained).fill_null(False)
        target = self._source.columns.target
        frame = pl.DataFrame(
            {
                ROW: numbers,
                **beside,
                self._mapping.times[0]: pl.Series([message.at for message in arrived], dtype=TIME),
                str(target): texts,
            }
        )
        misfits = []
        for place in (~good).arg_true():
            why = "retained: it has no time of its own" if retained[place] else "expected a number"
            misfits.append((numbers[place], why, content(arrived[place].payload)))
        return Rows(frame.filter(good), misfits)

    def _beside(self, arrived: list[Arrived]) -> dict[str, pl.Series]:
        """What the broker tells of messages, as far as the columns ask for it."""
        topics = pl.Series([message.topic for message in arrived], dtype=pl.String)
        told = {
            "#topic": topics,
            "#time": pl.Series([message.at for message in arrived], dtype=TIME),
            "#retained": pl.Series([int(message.retained) for message in arrived], dtype=pl.Int64),
        }
        for name, level in self._levels.items():
            told[name] = topics.str.split("/").list.get(level, null_on_oob=True)
        return {name: column for name, column in told.items() if name in self._asked}


def _level(name: str) -> int:
    """The place of a level in a topic: #topic[1] is the first, #topic[-1] the last."""
    found = LEVEL.fullmatch(name)
    if found is None or int(found[1]) == 0:
        raise SourceError(
            f"columns: '{name}': expected a level of the topic, #topic[1] being the first, #topic[-1] the last"
        )
    return int(found[1]) - (int(found[1]) > 0)
