"""A Kafka cluster on loopback: librdkafka's own mock brokers, which come with its client, and what can befall them.

`confluent-kafka` does not wrap the calls that take brokers down or delete records; they are in the library it loads.
"""

import ctypes
import json
from pathlib import Path

import confluent_kafka
import polars as pl
import yaml
from confluent_kafka import Producer

from rnnforecast.config import parse
from rnnforecast.sources import open_source

COLUMNS = {"timestamp": "time", "target": "value", "series_id": "who"}
MINUTE = "2024-01-01T00:{:02d}:00Z"


def _library():
    folder = Path(confluent_kafka.__file__).parents[1]
    found = [*folder.glob("confluent_kafka.libs/librdkafka*.so*"), *folder.glob("confluent_kafka/.dylibs/librdkafka*")]
    library = ctypes.CDLL(str(found[0]))
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    signatures = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_broker_set_down": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_up": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_rtt": (number, [pointer, ctypes.c_int32, number]),
        "rd_kafka_mock_partition_set_leader": (number, [pointer, text, ctypes.c_int32, ctypes.c_int32]),
        "rd_kafka_mock_partition_delete_records": (number, [pointer, text, ctypes.c_int32, ctypes.c_int64]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        call = getattr(library, name)
        call.restype, call.argtypes = result, arguments
    return library


class MockKafka:
    """Brokers 1 to `brokers`, with topics of which each partition keeps at most 5 MB (as it came: compressed)."""

    def __init__(self, brokers=3):
        self._library = _library()
        error = ctypes.create_string_buffer(512)
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", error, 512)
        self._handle = self._library.rd_kafka_new(0, settings, error, 512)
        assert self._handle, error.value.decode()
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, brokers)
        self.wait_for_members(100)
        self.brokers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._producer = None

    def topic(self, name, partitions=1, replicas=3):
        assert not self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, replicas)
        return name

    def send(self, topic, *values, partition=0, key=None, time=0, headers=None):
        """Values in their order into one partition: bytes, text, None, or what becomes JSON."""
        producer = self.producer()
        for value in values:
            data = value if value is None or isinstance(value, bytes | str) else json.dumps(value)
            while True:
                try:
                    producer.produce(topic, data, key, partition, timestamp=time)
                    break
                except BufferError:
                    producer.poll(0.05)
        assert producer.flush(20) == 0

    def producer(self):
        if self._producer is None:
            settings = {
                "bootstrap.servers": self.brokers,
                "log_level": 0,
                "linger.ms": 1,
                "batch.num.messages": 20,
                "compression.codec": "lz4",
            }
            settings["message.max.bytes"] = 16 * 1024 * 1024
            self._producer = Producer(settings | {"queue.buffering.max.messages": 1_000_000})
        return self._producer

    def down(self, broker):
        assert not self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def up(self, broker):
        assert not self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def delay(self, broker, milliseconds):
        assert not self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, milliseconds)

    def lead(self, topic, partition, broker):
        assert not self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, broker)

    def wait_for_members(self, milliseconds):
        """How long a new group waits for others before it hands out partitions."""
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, milliseconds)

    def delete_before(self, topic, partition, offset):
        code = self._library.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), partition, offset)
        assert not code, code

    def close(self):
        self._producer = None
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)


def message(number, who="x", value=None):
    return {"who": who, "time": MINUTE.format(number), "value": number if value is None else value}


def pipeline(cluster, *topics, folder=Path("/nowhere"), columns=COLUMNS, extra=None, **keys):
    brokers = cluster if isinstance(cluster, str) else cluster.brokers
    source = {"kind": "kafka", "brokers": brokers, "topics": list(topics), "columns": columns, "timeout": 10, **keys}
    text = yaml.safe_dump({"name": "p", "horizon": 1, "sources": [source], **(extra or {})})
    return parse(text, file=folder / "p.yaml")


def reader(*args, **keys):
    built = pipeline(*args, **keys)
    return open_source(built, built.sources[0])


def read(source, cursor=None, **keys):
    """All batches of one reading, ended as an ingest ends it."""
    try:
        batches = list(source.read(json.loads(json.dumps(cursor)), **keys))
        source.stored()
        return batches
    finally:
        source.close()


def rows(batches):
    return sorted(row for batch in batches for row in batch.frame.select("series_id", "timestamp", "target").rows())


def values(batches):
    return sorted(value for batch in batches for value in batch.frame["target"])


def rejected(batches):
    return pl.concat([batch.rejected for batch in batches])


def notes(batches):
    return [note for batch in batches for note in batch.notes]


def offsets(batches):
    (parts,) = batches[-1].cursor["offsets"].values()
    return list(parts.values())
