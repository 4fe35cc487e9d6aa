"""How many messages a second come from a Kafka broker on loopback into the table, and where the time goes."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from rnnforecast import table
from rnnforecast.config import Pipeline, load
from rnnforecast.ingest import ingest
from rnnforecast.sources import open_source
from rnnforecast.sources.kafka_cluster import PREFETCHED

TOPIC: Final = "readings"
SERIES: Final = 200
PARTITIONS: Final = 4  # what the mock brokers give a topic
ROUNDS: Final = 3


def kafka(given: list[str]) -> dict[str, Any]:
    """`measure`, with the options of a command line."""
    parser = argparse.ArgumentParser(prog="benchmarks kafka", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    return measure(parser.parse_args(given).messages)


def measure(messages: int) -> dict[str, Any]:
    """Messages per second of three ways over the same topic, the best of some rounds each, taken in turn.

    `consume` takes messages from the client and looks at their values; `read` is the source's batches; `ingest` is
    all, into a new table. The brokers are librdkafka's mock ones in a process of their own (on the same cores).
    """
    rates: dict[str, list[float]] = {"consume": [], "read": [], "ingest": []}
    folder = Path(tempfile.mkdtemp(prefix="rnnforecast-kafka-"))
    try:
        with _brokers(messages) as brokers:
            pipeline = _pipeline(folder, brokers)
            for _ in range(ROUNDS):
                rates["consume"].append(messages / _timed(lambda: _consume(brokers), messages))
                rates["read"].append(messages / _timed(lambda: _read(pipeline), messages))
                shutil.rmtree(folder / "lake", ignore_errors=True)
                rates["ingest"].append(messages / _timed(lambda: ingest(pipeline).inserted, messages))
            files = table.files(pipeline.table("observations"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    best = {name: max(some) for name, some in rates.items()}
    return {
        "messages": messages,
        "series": SERIES,
        "bytes of a message": len(_value(0)),
        "messages per second": {name: round(rate) for name, rate in best.items()},
        "share of the time of an ingest": {
            "consume": round(best["ingest"] / best["consume"], 2),
            "parse": round(best["ingest"] / best["read"] - best["ingest"] / best["consume"], 2),
            "store": round(1 - best["ingest"] / best["read"], 2),
        },
        "files": 0 if files is None else len(files),
    }


def _timed(work: Any, expected: int) -> float:
    start = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - start
    assert found == expected, f"{found} of {expected} messages"
    return seconds


def _consume(brokers: str) -> int:
    settings = {"bootstrap.servers": brokers, "group.id": "raw", "enable.partition.eof": True, **PREFETCHED}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
    count = ended = 0
    while ended < PARTITIONS:
        found = consumer.consume(10_000, timeout=0.05)
        ends = [one for one in found if (error := one.error()) and error.code() == KafkaError._PARTITION_EOF]
        values = [one.value() for one in found]
        ended += len(ends)
        count += len(values) - len(ends)
    consumer.close()
    return count


def _read(pipeline: Pipeline) -> int:
    reader = open_source(pipeline, pipeline.sources[0])
    count = sum(len(batch.frame) for batch in reader.read(None))
    reader.close()
    return count


def _pipeline(folder: Path, brokers: str) -> Pipeline:
    columns = {"timestamp": "time", "target": "value", "series_id": "sensor"}
    source = {"kind": "kafka", "brokers": brokers, "topics": [TOPIC], "columns": columns}
    keys = {"name": "bench", "horizon": 1, "sources": [source], "storage": {"lake": str(folder / "lake")}}
    (folder / "bench.yaml").write_text(yaml.safe_dump(keys))
    return load(folder / "bench.yaml")


@contextmanager
def _brokers(messages: int) -> Iterator[str]:
    """The address of brokers that hold so many messages."""
    command = [sys.executable, __file__, "--serve", str(messages)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(20)


def _serve(messages: int) -> None:
    """Hold a topic of readings until the other end goes; a partition keeps 5 MB, hence the compression."""
    settings = {"test.mock.num.brokers": 1, "log_level": 0, "compression.codec": "zstd", "linger.ms": 100}
    settings |= {"batch.num.messages": 50_000, "batch.size": 8_000_000, "queue.buffering.max.messages": 1_000_000}
    producer = Producer(settings)
    for number in range(messages):
        while True:
            try:
                producer.produce(TOPIC, _value(number), f"sensor-{number % SERIES:03}", number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
    brokers = producer.list_topics(timeout=10).brokers.values()
    print(json.dumps(",".join(f"{broker.host}:{broker.port}" for broker in brokers)), flush=True)
    sys.stdin.read()


def _value(number: int) -> str:
    series, step = number % SERIES, number // SERIES
    clock = f"2024-01-{1 + step // 86_400:02}T{step // 3_600 % 24:02}:{step // 60 % 60:02}:{step % 60:02}Z"
    return f'{{"sensor": "sensor-{series:03}", "time": "{clock}", "value": {20 + (number * 7919 % 10_007) / 1000:.3f}}}'


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(int(sys.argv[2]))
    else:
        print(json.dumps(kafka(sys.argv[1:]), indent=2))
