"""A Kafka cluster as its reader sees it: what its topics hold, and messages from given offsets on.

The offsets are the reader's own. The group is for those who share a topic (`group:` set: partitions are handed out
and may be taken away at any time), and for monitors, which are told what is stored.
"""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from rnnforecast.config import KafkaSource
from rnnforecast.secrets import SHORTEST
from rnnforecast.sources.base import SourceError, nearest

Place = tuple[str, int]  # topic and partition
Found = TypeVar("Found")

# What the reader's promises rest on.
OWN: Final = {
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "partition.assignment.strategy",
    "group.protocol",
}
# Fetching pauses when so many wait; the default of 100,000 halts it most of the time. Bytes bound it as well.
PREFETCHED: Final = {"queued.min.messages": 1_000_000, "queued.max.messages.kbytes": 65_536}
# A member that was killed holds its partitions for so long: less than a reader waits for the cluster.
SESSION: Final = {"session.timeout.ms": 10_000}
# What waiting does not cure.
LASTING: Final = {
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError._UNSUPPORTED_FEATURE,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}


class Cluster:
    """A consumer; every failure that lasts longer than the source's `timeout` is a SourceError."""

    def __init__(self, source: KafkaSource, *, group: str) -> None:
        self._source, self._group = source, group
        self._place = f"kafka {source.brokers}"
        self._said = ""  # the last complaint of the client
        self._refused: KafkaError | None = None
        self._consumer = self._open()
        self.assigned: set[Place] | None = None  # None while the group hands out partitions
        self.id: str | None = None

    def _open(self) -> Consumer:
        options = {name: value.get_secret_value() for name, value in self._source.options.items()}
        for name in sorted(OWN & set(options)):
            raise SourceError(f"{self._place}: options: '{name}' is set by the reader itself; take it out")
        settings: dict[str, Any] = {
            **PREFETCHED,
            **SESSION,
            "log_level": 2,  # what goes wrong is told by `error_cb`, not on stderr
            **options,
            "bootstrap.servers": self._source.brokers,
            "group.id": self._group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "partition.assignment.strategy": "range",
            "error_cb": self._complain,
        }
        try:
            return Consumer(settings)
        except KafkaException as error:
            raise SourceError(f"{self._place}: options: {self._shown(error.args[0])}; correct `options:`") from None

    def _complain(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self._said:  # it hides the reason, told before
            self._said = self._shown(error)
        if error.code() in LASTING:
            self._refused = error

    def _shown(self, error: KafkaError) -> str:
        """An error of the client in one line, without the values of options."""
        text = " ".join(error.str().split())
        for name, value in self._source.options.items():
            secret = value.get_secret_value()
            plain = secret.isdigit() and not any(word in name for word in ("password", "secret", "key", "token"))
            text = text if plain or len(secret) < SHORTEST else text.replace(secret, "***")
        return text

    def _patiently(self, ask: Callable[[float], Found], what: str) -> Found:
        """Ask the cluster, again and again while the failure may pass."""
        end = time.monotonic() + self._source.timeout
        while True:
            try:
                return ask(max(0.1, min(5.0, end - time.monotonic())))
            except KafkaException as failure:
                error = failure.args[0]
                self._consumer.poll(0)  # lets the client complain
                self.check(error)
                if time.monotonic() >= end:
                    raise self.unreachable(what, error) from None
                time.sleep(0.05)

    def check(self, error: KafkaError) -> None:
        """Raise SourceError for an error that waiting does not cure."""
        error = self._refused or error
        if error.code() in LASTING:
            raise SourceError(
                f"{self._place}: the cluster refuses: {self._shown(error)}; "
                f"check `options:` (security.protocol, sasl.*)"
            )
        if error.fatal():
            raise SourceError(f"{self._place}: {self._shown(error)}")

    def unreachable(self, what: str, error: KafkaError | None = None) -> SourceError:
        """What to raise when nothing came for `timeout` seconds."""
        why = self._said or (self._shown(error) if error else "no broker answers")
        return SourceError(
            f"{self._place}: connection: {what} not answered within {self._source.timeout:g} s ({why}); "
            f"check `brokers:` and `options:`"
        )

    def partitions(self) -> list[Place]:
        """All partitions of the source's topics; raises SourceError for a topic that is not there."""
        found = self._patiently(lambda seconds: self._consumer.list_topics(timeout=seconds), "the list of topics")
        self.id = found.cluster_id
        for topic in self._source.topics:
            if topic not in found.topics:
                known = sorted(name for name in found.topics if not name.startswith("__"))
                shown = ", ".join(map(repr, known[:12])) + (", ..." if len(known) > 12 else "") or "none"
                hint = nearest(topic, known) or "; correct `topics:`"
                raise SourceError(f"{self._place}: no topic '{topic}'; found {shown}{hint}")
        return [(topic, number) for topic in self._source.topics for number in sorted(found.topics[topic].partitions)]

    def span(self, place: Place) -> tuple[int, int]:
        """The first offset that a partition still has, and the one that its next message will get."""

        def ask(seconds: float) -> tuple[int, int]:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=seconds)
            return low, high

        return self._patiently(ask, f"the offsets of {shown(place)}")

    def follow(self, starts: Callable[[], dict[Place, int]], *, shared: bool) -> None:
        """Begin to receive partitions from the offsets that `starts` says; `shared`: those that the group grants.

        It is asked again whenever the group hands out partitions anew: one may go to another member and come back.
        """
        if not shared:
            offsets = starts()
            self.assigned = set(offsets)
            self._consumer.assign(_from(offsets))
            return
        first: set[Place] = set()

        def granted(consumer: Consumer, parts: list[TopicPartition]) -> None:
            mine = {(part.topic, part.partition) for part in parts}
            # What another member gives up is for the next ingest: how far that member came, the table knows then.
            first.update(mine if not first else ())
            self.assigned = mine & first
            consumer.assign(_from({place: offset for place, offset in starts().items() if place in self.assigned}))

        def taken(consumer: Consumer, parts: list[TopicPartition]) -> None:
            self.assigned = None
            consumer.unassign()

        self._consumer.subscribe(list(self._source.topics), on_assign=granted, on_revoke=taken, on_lost=taken)

    def messages(self, most: int, seconds: float) -> list[Message]:
        """What has come, at most so many messages and after so many seconds; among them errors and ends."""
        try:
            return self._consumer.consume(most, timeout=seconds)
        except KafkaException as failure:
            self.check(failure.args[0])
            return []

    def leave(self, place: Place) -> None:
        """Receive no more of a partition."""
        if self.assigned and place in self.assigned:
            self._consumer.pause([TopicPartition(*place)])

    def again(self, offsets: dict[Place, int]) -> None:
        """Receive what is assigned from these offsets on."""
        mine = self.assigned or set()
        self._consumer.assign(_from({place: offset for place, offset in offsets.items() if place in mine}))

    def tell(self, offsets: dict[Place, int]) -> None:
        """Note the offsets at the group, for monitors; nothing hangs on whether it succeeds."""
        try:
            self._consumer.commit(offsets=_from(offsets), asynchronous=True)
        except KafkaException:
            return

    def close(self) -> None:
        """Leave the group and the cluster."""
        self._consumer.close()


def shown(place: Place) -> str:
    """A partition as people write it."""
    return f"{place[0]}[{place[1]}]"


def _from(offsets: dict[Place, int]) -> list[TopicPartition]:
    return [TopicPartition(*place, offset) for place, offset in offsets.items()]
