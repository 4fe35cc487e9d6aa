"""Kafka topics as a source: every message once, wherever a reading ends, and whatever befalls the brokers."""

import io
import json
import zlib
from datetime import UTC, datetime

import fastavro
import pytest
from kafka_cluster import COLUMNS, MINUTE, MockKafka, message, notes, offsets, read, reader, rejected, rows, values

from rnnforecast.sources import SourceError
from rnnforecast.sources.messages import KEPT, LONGEST


@pytest.fixture(scope="module")
def kafka():
    cluster = MockKafka(brokers=1)
    yield cluster
    cluster.close()


@pytest.fixture
def topic(kafka, request):
    """A topic of two partitions for one test."""
    return kafka.topic(f"t{len(request.node.name)}-{zlib.crc32(request.node.name.encode())}", partitions=2, replicas=1)


# What is read


def test_messages_become_rows_that_know_their_partition_and_offset(kafka, topic):
    kafka.send(topic, message(1), message(2), partition=0)
    kafka.send(topic, message(3, "y"), partition=1)
    first, second = read(reader(kafka, topic))
    assert (first.name, second.name) == (f"{topic}[0]", f"{topic}[1]")
    assert first.frame.rows() == [
        (0, "x", datetime(2024, 1, 1, 0, 1, tzinfo=UTC), 1.0),
        (1, "x", datetime(2024, 1, 1, 0, 2, tzinfo=UTC), 2.0),
    ]
    assert second.frame["#row"].to_list() == [0]
    assert offsets([first, second]) == [2, 1]


def test_a_reading_goes_on_where_the_last_one_was_stored(kafka, topic):
    kafka.send(topic, message(1), message(2))
    batches = read(reader(kafka, topic))
    cursor = batches[-1].cursor
    assert read(reader(kafka, topic), cursor) == []
    kafka.send(topic, message(3), partition=1)
    assert values(read(reader(kafka, topic), cursor)) == [3]


@pytest.mark.parametrize("most", [1, 3, 7, 1000])
def test_wherever_a_reading_is_cut_the_next_one_has_the_rest(kafka, topic, most):
    kafka.send(topic, *(message(n) for n in range(10)), partition=0)
    kafka.send(topic, *(message(n, "y") for n in range(10, 16)), partition=1)
    batches = read(reader(kafka, topic, batch_messages=most))
    assert values(batches) == list(range(16))
    assert all(len(batch.frame) <= most for batch in batches)
    for cut in range(len(batches)):
        rest = read(reader(kafka, topic, batch_messages=most), batches[cut].cursor)
        assert values([*batches[: cut + 1], *rest]) == list(range(16))


def test_a_reading_ends_where_the_topic_ended_when_it_began(kafka, topic):
    kafka.send(topic, message(1), message(2))
    source = reader(kafka, topic, batch_messages=1)
    batches = source.read(None)
    first = next(batches)
    kafka.send(topic, message(3), message(4))
    kafka.send(topic, message(5), partition=1)
    rest = list(batches)
    source.close()
    assert values([first, *rest]) == [1, 2]
    assert values(read(reader(kafka, topic), rest[-1].cursor)) == [3, 4, 5]


@pytest.mark.parametrize(
    ("column", "expected"),
    [("#key", "machine 7"), ("#topic", None), ("#partition", "1"), ("#offset", "0")],
)
def test_what_the_broker_tells_of_a_message_may_name_its_series(kafka, topic, column, expected):
    kafka.send(topic, message(1), partition=1, key="machine 7")
    (batch,) = read(reader(kafka, topic, columns={**COLUMNS, "series_id": column}))
    assert batch.frame["series_id"].to_list() == [expected or topic]


def test_the_brokers_time_of_a_message_may_be_its_time(kafka, topic):
    stamp = datetime(2024, 5, 6, 7, 8, 9, 125_000, tzinfo=UTC)
    kafka.send(topic, {"who": "x", "value": 1}, time=int(stamp.timestamp() * 1000))
    (batch,) = read(reader(kafka, topic, columns={**COLUMNS, "timestamp": "#time"}))
    assert batch.frame["timestamp"].to_list() == [stamp]


def test_a_fresh_source_may_begin_with_what_comes_next_and_then_misses_nothing(kafka, topic):
    kafka.send(topic, message(1))
    batches = read(reader(kafka, topic, start="latest"))
    assert (values(batches), offsets(batches)) == ([], [1, 0])
    kafka.send(topic, message(2), partition=0)
    kafka.send(topic, message(3), partition=1)
    cursor = batches[-1].cursor
    assert values(read(reader(kafka, topic, start="latest"), cursor)) == [2, 3]
    # A partition that the cursor does not know was added since: all of it is new.
    cursor["offsets"] = {topic: {"0": 1}}
    assert values(read(reader(kafka, topic, start="latest"), cursor)) == [2, 3]


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_an_hour_that_the_clock_repeats_is_read_alike_wherever_it_is_cut(kafka, topic, most):
    twice = [{"who": who, "time": "2024-10-27 02:30:00", "value": value} for value, who in enumerate("abba")]
    kafka.send(topic, *twice)
    batches = read(reader(kafka, topic, batch_messages=most, timezone="Europe/Berlin"))
    hours = [(series, stamp.hour, value) for series, stamp, value in rows(batches)]
    assert hours == [("a", 0, 0), ("a", 1, 3), ("b", 0, 1), ("b", 1, 2)]


def test_until_leaves_later_rows_and_the_cursor(kafka, topic):
    kafka.send(topic, *(message(n) for n in range(5)))
    batches = read(reader(kafka, topic), until=datetime(2024, 1, 1, 0, 2))
    assert values(batches) == [0, 1, 2]
    assert {json.dumps(batch.cursor) for batch in batches} == {"{}"}


def test_the_key_stays_with_other_brokers_and_changes_with_the_topics():
    one, other = reader("a:1", "t"), reader("b:2", "t", batch_messages=5, options={"client.rack": "r"})
    assert one.key == other.key
    assert one.key != reader("a:1", "t", "u").key
    assert one.key != reader("a:1", "t", columns={**COLUMNS, "target": "other"}).key


# What is no reading


def test_a_message_that_cannot_be_read_is_refused_and_the_reading_goes_on(kafka, topic):
    kafka.send(topic, message(1), "rubbish", b"\xff\x00", message(2, value="warm"), "[1]", "x" * (KEPT + 1), message(3))
    batches = read(reader(kafka, topic))
    assert values(batches) == [1, 3]
    assert offsets(batches) == [7, 0]
    refused = rejected(batches)
    assert refused["row"].to_list() == [1, 2, 3, 4, 5]
    assert refused["content"].to_list()[:2] == ['"rubbish"', '"base64:/wA="']
    assert json.loads(refused["content"][2]) == {"who": "x", "time": MINUTE.format(2), "value": "warm"}
    assert refused["reason"].to_list()[1:4] == [
        "expected text; found bytes that are no UTF-8",
        "'warm' is not a number",
        "expected a JSON object; found a list",
    ]
    kept = json.loads(refused["content"][4])
    assert kept.startswith("x" * KEPT + f"... ({KEPT + 1} bytes, sha256 ")
    assert set(refused["file"]) == {f"{topic}[0]"}


def test_a_message_too_long_for_a_reading_is_refused_with_its_length(kafka, topic):
    big = json.dumps({**message(1), "note": "é" * (LONGEST // 2)}, ensure_ascii=False).encode()
    kafka.send(topic, big, message(2))
    batches = read(reader(kafka, topic))
    assert values(batches) == [2]
    assert rejected(batches)["reason"].to_list() == [f"a message of {len(big)} bytes, where {LONGEST} are the most"]
    assert len(rejected(batches)["content"][0]) < KEPT + 100


def test_tombstones_are_skipped_and_counted(kafka, topic):
    kafka.send(topic, message(1), None, None, message(2), None)
    batches = read(reader(kafka, topic))
    assert (values(batches), offsets(batches)) == ([1, 2], [5, 0])
    assert len(rejected(batches)) == 0
    assert notes(batches) == [f"{topic}[0]: 3 messages without a value (tombstones) skipped"]


def test_a_description_that_fits_no_message_is_an_error(kafka, topic):
    kafka.send(topic, {"who": "x", "when": MINUTE.format(1), "value": 1})
    with pytest.raises(SourceError, match=rf"{topic}\[0\]: .*no column 'time'; found 'who', 'when', 'value'"):
        read(reader(kafka, topic))


def test_other_messages_among_the_readings_are_refused_even_where_a_partition_has_no_others(kafka, topic):
    kafka.send(topic, {"ping": 1}, {"ping": 2}, partition=0)
    kafka.send(topic, message(1), {"ping": 3}, partition=1)
    batches = read(reader(kafka, topic))
    assert values(batches) == [1]
    assert len(rejected(batches)) == 3
    kafka.send(topic, {"ping": 4}, message(2), partition=0)
    again = read(reader(kafka, topic), batches[-1].cursor)
    assert (values(again), len(rejected(again))) == ([2], 1)


# Avro

SCHEMA = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "who", "type": "string"},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "value", "type": ["null", "double"]},
        {"name": "tags", "type": {"type": "map", "values": "string"}, "default": {}},
    ],
}


def datum(number, value=1.5, schema=SCHEMA):
    stream = io.BytesIO()
    record = {"who": "x", "time": datetime(2024, 1, 1, 0, number, tzinfo=UTC), "value": value, "tags": {"a": "b"}}
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), record)
    return stream.getvalue()


def single_object_mark(schema):
    """The standard's CRC-64-AVRO over the schema's canonical form, computed as the standard spells it."""
    table_ = []
    for index in range(256):
        entry = index
        for _ in range(8):
            entry = (entry >> 1) ^ (0xC15D213AA4D7A795 & -(entry & 1))
        table_.append(entry)
    state = 0xC15D213AA4D7A795
    for byte in fastavro.schema.to_parsing_canonical_form(schema).encode():
        state = (state >> 8) ^ table_[(state ^ byte) & 0xFF]
    return b"\xc3\x01" + state.to_bytes(8, "little")


def confluent(number):
    return b"\x00" + number.to_bytes(4, "big")


@pytest.fixture
def avro(tmp_path):
    (tmp_path / "reading.avsc").write_text(json.dumps(SCHEMA))
    return {"folder": tmp_path, "format": "avro", "avro_schema": "reading.avsc"}


@pytest.mark.parametrize("framing", ["confluent", "single_object", "none"])
def test_avro_values_are_read_in_each_of_their_framings(kafka, topic, avro, framing):
    mark = {"confluent": confluent(7), "single_object": single_object_mark(SCHEMA), "none": b""}[framing]
    kafka.send(topic, mark + datum(1), mark + datum(2, None), mark + datum(3)[:-1], mark + datum(4) + b"\x00", b"")
    batches = read(reader(kafka, topic, **avro, avro_framing=framing))
    assert rows(batches) == [
        ("x", datetime(2024, 1, 1, 0, 1, tzinfo=UTC), 1.5),
        ("x", datetime(2024, 1, 1, 0, 2, tzinfo=UTC), None),
    ]
    assert rejected(batches)["row"].to_list() == [2, 3, 4]


def test_avro_of_another_schema_is_never_read_by_this_one(kafka, topic, avro):
    other = {**SCHEMA, "fields": [*SCHEMA["fields"][:3], {"name": "labels", "type": SCHEMA["fields"][3]["type"]}]}
    (avro["folder"] / "other.avsc").write_text(json.dumps({**other, "name": "Other"}))
    kafka.send(topic, confluent(7) + datum(1), confluent(8) + datum(2))
    batches = read(reader(kafka, topic, **avro))
    assert rejected(batches)["reason"].to_list() == [
        "written with schema 8; reading.avsc is taken for 7, the first there was; "
        "give each its file, as `avro_schema: {7: reading.avsc, 8: ...}`"
    ]
    kafka.send(topic, confluent(8) + datum(3), confluent(7) + datum(4))
    again = read(reader(kafka, topic, **avro), batches[-1].cursor)  # the cursor knows which came first
    assert (len(rejected(again)), [row[1].minute for row in rows(again)]) == (1, [4])
    both = read(reader(kafka, topic, **{**avro, "avro_schema": {7: "reading.avsc", 8: "other.avsc"}}))
    assert [row[1].minute for row in rows(both)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "keys", "error"),
    [
        (None, {"avro_schema": None}, "needs the schema; name its file"),
        (None, {"avro_schema": "none.avsc"}, r"none.avsc: the Avro schema cannot be read \(No such file"),
        ("{", {}, "reading.avsc: not an Avro schema"),
        ('"double"', {}, "expected the schema of a record"),
        (None, {"avro_schema": {1: "reading.avsc"}, "avro_framing": "none"}, "framing `none` has no schema numbers"),
    ],
)
def test_an_avro_schema_that_is_of_no_use_is_an_error_of_one_line(avro, text, keys, error):
    if text:
        (avro["folder"] / "reading.avsc").write_text(text)
    with pytest.raises(SourceError, match=error) as caught:
        reader("a:1", "t", **{**avro, **keys})
    assert "\n" not in str(caught.value)


# Offsets that are gone


def test_messages_deleted_before_they_were_read_are_told_by_their_number(kafka, topic):
    kafka.send(topic, message(1), message(2))
    cursor = read(reader(kafka, topic))[-1].cursor
    for n in range(3, 9):
        kafka.send(topic, message(n))
    kafka.delete_before(topic, 0, 6)
    batches = read(reader(kafka, topic), cursor)
    assert values(batches) == [7, 8]
    gone = f"{topic}[0]: 4 offsets, 2 to 5, are gone: the cluster deleted them before they were read"
    assert notes(batches) == [gone]
    assert read(reader(kafka, topic), batches[-1].cursor) == []


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(kafka, topic):
    kafka.send(topic, message(1))
    cursor = read(reader(kafka, topic))[-1].cursor
    cursor["offsets"][topic]["0"] = 50
    batches = read(reader(kafka, topic), cursor)
    assert values(batches) == [1]
    expected = f"{topic}[0]: ends at offset 1 and was read to 50: it was made anew, and is read from 0 on"
    assert notes(batches) == [expected]


def test_offsets_of_another_cluster_mean_nothing_here(kafka, topic):
    kafka.send(topic, message(1))
    cursor = read(reader(kafka, topic))[-1].cursor
    batches = read(reader(kafka, topic), {**cursor, "cluster": "elsewhere"})
    assert values(batches) == [1]
    assert "another cluster" in notes(batches)[0]
