"""Topics of a Kafka cluster as a source; how far they were read is kept with the rows, not by the broker.

An ingest reads to the offsets that the topics had when it began. With `group:` set, several ingests at once share the
partitions; what one of them gives up or loses is read by the next, from where the table stands.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import polars as pl
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from rnnforecast.config import KafkaSource, Pipeline
from rnnforecast.sources.avro import AvroValues
from rnnforecast.sources.base import REJECTED, Batch, Cursor, SourceError, Until, empty_long, identity
from rnnforecast.sources.kafka_cluster import Cluster, Place, shown
from rnnforecast.sources.kafka_reading import Reading, Round, within
from rnnforecast.sources.layout import Mapping
from rnnforecast.sources.messages import Decode, asked_for, from_json, rows, texts_of
from rnnforecast.sources.parse import Long, Memory, to_long
from rnnforecast.sources.rows import Rows
from rnnforecast.sources.spans import up_to

Folds = frozenset[tuple[str, str]]


@dataclass
class Progress:
    """What the cursor holds: the cluster, the offset of every partition to read next, and what rows have shown."""

    cluster: str | None = None
    offsets: dict[Place, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    folds: dict[Place, Folds] = field(default_factory=dict)  # a partition has its own course of time
    schema: int | None = None  # the number of the Avro schema

    @classmethod
    def of(cls, cursor: Cursor | None) -> "Progress":
        kept = cursor or {}
        offsets = {(topic, int(p)): at for topic, parts in kept.get("offsets", {}).items() for p, at in parts.items()}
        folds = {(topic, p): Memory.of({"folds": some}).folds for topic, p, some in kept.get("folds", ())}
        return cls(kept.get("cluster"), offsets, Memory.of(kept.get("memory")), folds, kept.get("schema"))

    def as_cursor(self) -> Cursor:
        offsets: dict[str, dict[str, int]] = {}
        for (topic, number), offset in sorted(self.offsets.items()):
            offsets.setdefault(topic, {})[str(number)] = offset
        folds = [[*place, sorted(some)] for place, some in sorted(self.folds.items()) if some]
        memory = replace(self.memory, folds=frozenset()).as_cursor()
        return {"cluster": self.cluster, "offsets": offsets, "memory": memory, "folds": folds, "schema": self.schema}


@dataclass(frozen=True)
class Taken:
    """The rows of some messages, and lines for the log."""

    rows: Rows
    notes: list[str]


class KafkaReader:
    """Reads the topics of one source; a batch is what came of one partition in one round."""

    def __init__(self, pipeline: Pipeline, source: KafkaSource) -> None:
        self._source = source
        self.label = ", ".join(source.topics)
        self._mapping = Mapping.of(pipeline, source, self.label)
        self._asked = asked_for(self._mapping)
        self._group = source.group or f"rnnforecast-{pipeline.name}"
        decisive: list[Any] = [sorted(source.topics), source.format, self._mapping.decisive]
        if source.format == "avro":
            self._avro: AvroValues | None = AvroValues(pipeline, source)
            decisive.append(self._avro.decisive)
        else:
            self._avro = None
        self._decode: Decode = self._avro or partial(from_json, wanted=self._asked)
        self.key = identity("kafka", self.label, decisive)
        self._cluster: Cluster | None = None
        self._told: dict[Place, int] = {}
        self._read: dict[Place, int] = {}

    def read(self, cursor: Cursor | None, *, until: Until = None) -> Iterator[Batch]:
        """Yield what the topics hold behind the cursor; with `until` all is read and the cursor stays.

        Raises SourceError for a topic that is not there, a cluster that does not answer, or refuses.
        """
        self.close()
        self._cluster = Cluster(self._source, group=self._group)
        progress = Progress.of(cursor)
        if self._avro:
            self._avro.known = progress.schema
        reading, notes = self._begin(self._cluster, progress, begun=bool(cursor))
        for batch in self._all(reading, progress, cursor, notes):
            if until is None:
                self._read = dict(progress.offsets)
                yield batch
            else:
                yield replace(batch, frame=up_to(batch.frame, until, self.label), cursor=cursor or {})

    def stored(self) -> None:
        """The broker is told how far the table is, so that monitors of the group see what is left."""
        news = {place: offset for place, offset in self._read.items() if self._told.get(place) != offset}
        if self._cluster is not None and news:
            self._cluster.tell(news)
            self._told |= news

    def close(self) -> None:
        """The connection goes, and the group is left."""
        if self._cluster is not None:
            self._cluster.close()
        self._cluster, self._read, self._told = None, {}, {}

    def _all(self, reading: Reading, progress: Progress, cursor: Cursor | None, notes: list[str]) -> Iterator[Batch]:
        """The batches of a reading; a line on offsets that are gone is in the first that goes on behind them."""
        last = cursor
        for found in reading.rounds(self._source.batch_messages, shared=self._source.group is not None):
            for batch in self._batches(found, progress, reading):
                notes += reading.new_notes()
                last = batch.cursor
                yield replace(batch, notes=(*notes, *batch.notes))
                notes.clear()
        progress.offsets = dict(reading.offsets)
        notes += [*reading.new_notes(), *self._others(reading)]
        if progress.as_cursor() != last or notes:
            yield self._batch(None, progress, name=self.label, notes=notes)

    def _begin(self, cluster: Cluster, progress: Progress, *, begun: bool) -> tuple[Reading, list[str]]:
        """Where to read from and to, with a line for whatever is not as the cursor says."""
        notes = []
        spans = {place: cluster.span(place) for place in cluster.partitions()}
        if begun and None not in (progress.cluster, cluster.id) and progress.cluster != cluster.id:
            notes.append(
                f"{self.label}: another cluster ({cluster.id}, before: {progress.cluster}); read from its beginning"
            )
            progress.offsets = {}
        progress.cluster = cluster.id
        offsets = {}
        for place, (low, high) in spans.items():
            if place in progress.offsets:
                offsets[place], note = within(place, progress.offsets[place], low, high)
                notes += note
            else:  # a partition that is new since the first ingest is read whole
                offsets[place] = high if self._source.start == "latest" and not begun else low
        progress.offsets = dict(offsets)
        ends = {place: high for place, (_, high) in spans.items()}
        return Reading(cluster, offsets, ends, timeout=self._source.timeout), notes

    def _batches(self, found: Round, progress: Progress, reading: Reading) -> Iterator[Batch]:
        """The messages of a round, partition by partition.

        While no row of this source was ever taken, one that is not as described is a wrong description. But it takes
        all partitions to tell: a topic may have other messages, too.
        """
        waiting, first = sorted(found), None
        while waiting:
            apart = []
            for place in waiting:
                before = progress.memory
                taken = self._taken(found[place], place, progress.offsets[place], reading.offsets[place])
                try:
                    long = self._long(taken.rows, place, progress)
                except SourceError as error:
                    if before.proven:
                        raise
                    apart.append(place)
                    first = first or error
                    continue
                progress.offsets[place] = reading.offsets[place]
                progress.schema = self._avro.known if self._avro else None
                yield self._batch(long, progress, name=shown(place), notes=taken.notes)
            if first is not None and apart and not progress.memory.proven:
                raise first
            waiting = apart

    def _taken(self, messages: list[Message], place: Place, start: int, end: int) -> Taken:
        """The rows of a partition's messages from offset `start` to `end`."""
        offsets = pl.Series([message.offset() for message in messages], dtype=pl.Int64)
        values = pl.Series([message.value() for message in messages], dtype=pl.Binary)
        here = offsets.is_between(start, end, closed="left")
        full = here & values.is_not_null()
        tombstones = int((here & values.is_null()).sum())
        notes = [f"{shown(place)}: {tombstones} messages without a value (tombstones) skipped"] if tombstones else []
        told = {name: column.filter(full) for name, column in self._beside(messages, place, offsets).items()}
        return Taken(rows(values.filter(full), offsets.filter(full), told, decode=self._decode), notes)

    def _beside(self, messages: list[Message], place: Place, offsets: pl.Series) -> dict[str, pl.Series]:
        """What the broker tells of messages, as far as the columns ask for it."""
        count = len(messages)
        columns: dict[str, Callable[[], pl.Series]] = {
            "#key": lambda: texts_of(pl.Series([m.key() for m in messages], dtype=pl.Binary)),
            "#topic": lambda: pl.repeat(place[0], count, dtype=pl.String, eager=True),
            "#partition": lambda: pl.repeat(place[1], count, dtype=pl.Int64, eager=True),
            "#offset": lambda: offsets,
            "#time": lambda: _times(messages),
        }
        return {name: make() for name, make in columns.items() if name in self._asked}

    def _long(self, read: Rows, place: Place, progress: Progress) -> Long:
        """The rows of a partition, read as those before them were."""
        memory = progress.memory
        memory = replace(memory, folds=progress.folds.get(place, frozenset()), resumed=memory.proven)
        long = to_long(read, self._mapping, name=shown(place), memory=memory)
        progress.memory = long.memory
        progress.folds[place] = long.memory.folds
        return long

    def _batch(self, long: Long | None, progress: Progress, *, name: str, notes: list[str]) -> Batch:
        if long is None:
            long = Long(empty_long(self._mapping.covariates), pl.DataFrame(schema=REJECTED), progress.memory)
        return Batch(long.frame, long.rejected, progress.as_cursor(), name, long.changes, tuple(notes))

    def _others(self, reading: Reading) -> list[str]:
        """A line on partitions that were left to others."""
        left = [shown(place) for place in sorted(reading.left)]
        return [f"group {self._group}: {', '.join(left)}: read by other members, or by the next ingest"] if left else []


def _times(messages: list[Message]) -> pl.Series:
    """The broker's times of messages (or their producers', as the topic is set); null where there is none."""
    kinds = [message.timestamp() for message in messages]
    millis = pl.Series([at if kind != TIMESTAMP_NOT_AVAILABLE else None for kind, at in kinds], dtype=pl.Int64)
    return millis.cast(pl.Datetime("ms")).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
