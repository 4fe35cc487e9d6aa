"""Kafka brokers that go away, refuse, hand partitions to others: a reading waits, goes on, or says why not."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from confluent_kafka import Consumer, TopicPartition
from kafka_cluster import MockKafka, message, notes, offsets, read, reader, values

from rnnforecast.sources import SourceError

# Little is fetched ahead, so that what happens to the brokers meets a reading that still needs them.
SLOW = {
    "queued.min.messages": "1",
    "fetch.message.max.bytes": "1000",
    "message.max.bytes": "1000",
    "fetch.queue.backoff.ms": "10",
}
GROUP = {"session.timeout.ms": "2000", "heartbeat.interval.ms": "200", "topic.metadata.refresh.interval.ms": "500"}


@pytest.fixture
def kafka():
    """Three brokers that a test may take down."""
    cluster = MockKafka(brokers=3)
    yield cluster
    cluster.close()


def filled(cluster, name="t", partitions=3, each=400):
    """A topic whose values count through all partitions, one after the other."""
    cluster.topic(name, partitions)
    for partition in range(partitions):
        cluster.send(name, *(message(0, f"{partition}/{n}", n) for n in range(each)), partition=partition)
    return name


def keys(batches):
    return sorted(series for batch in batches for series in batch.frame["series_id"])


def everything(partitions=3, each=400):
    return sorted(f"{partition}/{n}" for partition in range(partitions) for n in range(each))


# Brokers


@pytest.mark.parametrize("moved", [False, True], ids=["down", "moved"])
def test_a_broker_that_goes_away_while_it_is_read_from_loses_nothing(kafka, moved):
    filled(kafka)
    for partition in range(3):
        kafka.lead("t", partition, partition + 1)
    source = reader(kafka, "t", batch_messages=20, options=SLOW)
    batches = source.read(None)
    seen = [next(batches)]
    kafka.down(2)
    if moved:
        kafka.lead("t", 1, 3)
    else:
        threading.Timer(0.5, kafka.up, [2]).start()
    seen += list(batches)
    source.close()
    assert keys(seen) == everything()
    assert offsets(seen) == [400, 400, 400]


def test_brokers_that_stay_away_are_an_error_after_the_timeout(kafka):
    filled(kafka)
    source = reader(kafka, "t", batch_messages=20, timeout=1, options=SLOW)
    batches = source.read(None)
    first = [next(batches)]
    while len(keys(first)) < 20:  # what came of several partitions at once is a batch of each
        first.append(next(batches))
    for broker in (1, 2, 3):
        kafka.down(broker)
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"connection: messages of t\[.* not answered within 1 s") as caught:
        for _ in batches:
            pass
    source.close()
    assert time.monotonic() - began < 5
    assert "\n" not in str(caught.value)
    for broker in (1, 2, 3):
        kafka.up(broker)
    assert len(keys(first)) == 20
    assert keys([*first, *read(reader(kafka, "t"), first[-1].cursor)]) == everything()


def test_a_cluster_that_cannot_be_reached_is_an_error_within_the_timeout():
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"kafka 127.0.0.1:1: connection: .*refused.*check `brokers:`") as caught:
        read(reader("127.0.0.1:1", "t", timeout=0.5, options={"sasl.password": "s3cret-word"}))
    assert time.monotonic() - began < 3
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_topic_that_is_not_there_is_named_with_the_nearest(kafka):
    kafka.topic("plant.readings")
    with pytest.raises(
        SourceError, match=r"no topic 'plant.reading'; found 'plant.readings'; did you mean 'plant.read"
    ):
        read(reader(kafka, "plant.reading"))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"enable.auto.commit": "true"}, "'enable.auto.commit' is set by the reader itself; take it out"),
        ({"sasl.passwort": "s3cret-word"}, 'No such configuration property: "sasl.passwort"'),
        (
            {"security.protocol": "s3cret-word"},
            r'Invalid value "\*\*\*" for configuration property "security.protocol"',
        ),
    ],
)
def test_options_that_the_client_does_not_take_are_an_error_without_their_values(kafka, options, error):
    with pytest.raises(SourceError, match=error) as caught:
        read(reader(kafka, "t", options=options))
    assert "s3cret" not in str(caught.value)


def test_messages_deleted_while_they_are_read_are_told_by_their_number(kafka):
    kafka.topic("t")
    for n in range(40):
        kafka.send("t", message(n, value=n))
    source = reader(kafka, "t", batch_messages=1, options=SLOW)
    batches = source.read(None)
    seen = [next(batches)]
    kafka.delete_before("t", 0, 35)
    seen += list(batches)
    source.close()
    (told,) = notes(seen)
    lost = int(told.split()[1])
    assert lost > 0
    assert "are gone: the cluster deleted them before they were read" in told
    assert len(values(seen)) + lost == 40
    assert values(seen)[-5:] == [35, 36, 37, 38, 39]


# The group


def committed(cluster, group, topic, partitions):
    consumer = Consumer({"bootstrap.servers": cluster.brokers, "group.id": group, "log_level": 0})
    found = consumer.committed([TopicPartition(topic, n) for n in range(partitions)], timeout=5)
    consumer.close()
    return [part.offset for part in found]


def test_the_group_is_told_what_is_stored_and_never_asked(kafka):
    filled(kafka, partitions=2, each=5)
    batches = read(reader(kafka, "t"))
    assert committed(kafka, "rnnforecast-p", "t", 2) == [5, 5]
    assert len(keys(batches)) == 10
    assert len(keys(read(reader(kafka, "t")))) == 10  # the broker's offsets are for monitors only


def test_nothing_is_told_of_what_is_not_stored(kafka):
    filled(kafka, partitions=1, each=5)
    source = reader(kafka, "t", group="g")
    assert len(keys(source.read(None))) == 5
    source.close()
    assert committed(kafka, "g", "t", 1) == [-1001]


def test_two_readers_of_a_group_at_once_lose_none(kafka):
    filled(kafka, partitions=4)
    kafka.wait_for_members(500)
    seen, errors = {}, []

    def work(name):
        source = reader(kafka, "t", group="g", batch_messages=50, options=GROUP)
        try:
            seen[name] = list(source.read(None))
        except Exception as error:
            errors.append(error)
        finally:
            source.close()

    threads = [threading.Thread(target=work, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    read_by = {name: set(keys(batches)) for name, batches in seen.items()}
    assert sorted(read_by["a"] | read_by["b"]) == everything(4)
    # Each cursor says exactly what its reader has yielded.
    for name, batches in seen.items():
        for partition, offset in enumerate(offsets(batches)):
            assert {f"{partition}/{n}" for n in range(offset)} <= read_by[name]


def test_partitions_taken_away_are_kept_as_far_as_they_were_read(kafka):
    filled(kafka, partitions=2, each=3000)
    source = reader(kafka, "t", group="g", batch_messages=100, options=GROUP)
    batches = source.read(None)
    seen = [next(batches)]
    other = Consumer({"bootstrap.servers": kafka.brokers, "group.id": "g", "log_level": 0, **GROUP})
    other.subscribe(["t"])
    end = time.monotonic() + 20
    while not other.assignment() and time.monotonic() < end:
        other.poll(0.05)
        if (batch := next(batches, None)) is not None:
            seen.append(batch)
    assert len(other.assignment()) == 1
    (taken,) = [part.partition for part in other.assignment()]
    seen += list(batches)
    other.close()
    source.close()
    cursor = seen[-1].cursor
    done = offsets(seen)
    assert done[1 - taken] == 3000
    assert done[taken] < 3000
    assert f"group g: t[{taken}]: read by other members, or by the next ingest" in notes(seen)
    assert len(keys(seen)) == len(set(keys(seen))) == sum(done)
    rest = read(reader(kafka, "t", group="g", options=GROUP), cursor)
    assert keys([*seen, *rest]) == everything(2, 3000)


def test_a_member_that_was_killed_holds_up_the_next_reading_only_until_its_session_ends(kafka):
    filled(kafka, partitions=2, each=5)
    code = (
        "import sys, time; from confluent_kafka import Consumer\n"
        f"c = Consumer({{'bootstrap.servers': {kafka.brokers!r}, 'group.id': 'g', 'session.timeout.ms': 1000}})\n"
        "c.subscribe(['t'])\n"
        "while not c.assignment(): c.poll(0.05)\n"
        "print('joined', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "joined\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    source = reader(kafka, "t", group="g", options={**GROUP, "session.timeout.ms": "1000"})
    assert keys(read(source)) == everything(2, 5)
