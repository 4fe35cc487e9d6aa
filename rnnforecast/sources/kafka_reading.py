"""One reading of a cluster: from given offsets to what the topics held when it began, whatever happens meanwhile."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from confluent_kafka import KafkaError, Message

from rnnforecast.sources.kafka_cluster import Cluster, Place, shown

CHUNK: Final = 10_000  # messages taken from the client at once
BYTES: Final = 64 * 1024 * 1024  # of one round: some large messages must not fill the memory
WAIT: Final = 0.05  # seconds, for a chunk to fill

Round = dict[Place, list[Message]]


class Reading:
    """Receives the messages of some partitions in rounds.

    offsets: where each partition is read from, and then how far it was; ends: where it is enough. Offsets may have
    gaps (compaction, transactions), so that only a later offset or the broker's word tells that an end is reached.
    """

    def __init__(self, cluster: Cluster, offsets: dict[Place, int], ends: dict[Place, int], *, timeout: float) -> None:
        self._cluster, self._ends, self._timeout = cluster, ends, timeout
        self.offsets = offsets
        self._notes: list[str] = []
        self._open = {place for place, end in ends.items() if offsets[place] < end}
        self._moved = time.monotonic()

    def rounds(self, most: int, *, shared: bool) -> Iterator[Round]:
        """Yield messages in the order of their partitions, `most` at a time; `offsets` has moved behind them.

        Raises SourceError when the cluster is silent for too long, or refuses.
        """
        if not self._open:
            return
        self._cluster.follow(self._starts, shared=shared)
        self._moved = time.monotonic()
        while not self._over():
            yield self._round(most)
            self._moved = time.monotonic()  # the time that the rows took to be stored is not the cluster's

    def new_notes(self) -> list[str]:
        """Lines for the log since the last call."""
        notes, self._notes = self._notes, []
        return notes

    @property
    def left(self) -> set[Place]:
        """Partitions that were not read to their end, as other members of the group have them."""
        return set(self._open)

    def _starts(self) -> dict[Place, int]:
        return {place: self.offsets[place] for place in sorted(self._open)}

    def _over(self) -> bool:
        granted = self._cluster.assigned
        return granted is not None and not granted & self._open

    def _round(self, most: int) -> Round:
        found: Round = defaultdict(list)
        count = size = 0
        while count < most and size < BYTES and not self._over():
            chunk: Round = defaultdict(list)
            messages = self._cluster.messages(min(CHUNK, most - count), WAIT)
            for message in messages:
                error = message.error()
                if error is None:
                    chunk[message.topic(), message.partition()].append(message)  # type: ignore[index]
                else:
                    self._happened(message, error)
            for place, some in chunk.items():
                found[place] += some
                count += len(some)
                size += sum(map(len, some))
                self._reached(place, some[-1].offset() + 1)  # type: ignore[operator]
            if messages:
                self._moved = time.monotonic()
            elif time.monotonic() - self._moved > self._timeout:
                places = ", ".join(shown(place) for place in sorted(self._open))
                raise self._cluster.unreachable(f"messages of {places}")
        return found

    def _reached(self, place: Place, offset: int) -> None:
        """A partition was read up to here; what lies behind its end is left for another time."""
        self.offsets[place] = max(self.offsets[place], min(offset, self._ends[place]))
        if place in self._open and offset >= self._ends[place]:
            self._close(place)

    def _close(self, place: Place) -> None:
        self._open.discard(place)
        self._cluster.leave(place)

    def _happened(self, message: Message, error: KafkaError) -> None:
        """Something that is not a message: an end, offsets that are gone, or a failure that may pass."""
        topic, partition = message.topic(), message.partition()
        if topic is None or partition is None:
            self._cluster.check(error)
            return
        place = (topic, partition)
        if error.code() == KafkaError._PARTITION_EOF:
            self._reached(place, message.offset() or 0)
            self._close(place)  # an unfinished transaction may hold back what lies before the end
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            low, high = self._cluster.span(place)
            self.offsets[place], note = within(place, self.offsets[place], low, high)
            self._notes += note
            self._cluster.again(self._starts())
        else:
            self._cluster.check(error)


def within(place: Place, offset: int, low: int, high: int) -> tuple[int, list[str]]:
    """Where to read on in a partition that holds low to high, with a line for the log where that is not `offset`."""
    if offset < low:
        gone = (
            f"{low - offset} offsets, {offset} to {low - 1}, are gone: the cluster deleted them before they were read"
        )
        return low, [f"{shown(place)}: {gone}"]
    if offset > high:
        anew = f"ends at offset {high} and was read to {offset}: it was made anew, and is read from {low} on"
        return low, [f"{shown(place)}: {anew}"]
    return offset, []
