"""MQTT topics as a source: no message is lost, whatever happens between its arrival and its row in the table."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from mqtt_brokers import PASSWORD, USER, Amqtt, Publisher, certified, free_port, mosquitto

from rnnforecast.config import parse
from rnnforecast.sources import SourceError, open_source

COLUMNS = {"timestamp": "time", "target": "value", "series_id": "#topic"}


@pytest.fixture(params=["amqtt", "mosquitto"])
def broker(request, tmp_path):
    started = Amqtt() if request.param == "amqtt" else mosquitto(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def strict(tmp_path):
    """A broker that keeps to QoS 1 when its receiver leaves."""
    started = mosquitto(tmp_path)
    yield started
    started.stop()


def reading(number, **more):
    stamp = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return json.dumps({"time": stamp.isoformat(), "value": number, **more})


def reader(broker, *topics, columns=COLUMNS, **keys):
    source = {"kind": "mqtt", "broker": f"127.0.0.1:{broker.port}", "topics": list(topics or ["plant/#"])}
    source |= {"columns": columns, "username": USER, "password": PASSWORD, "listen": 0.15, "timeout": 5, **keys}
    source["version"] = keys.get("version", broker.version)
    built = parse(yaml.safe_dump({"name": "p", "horizon": 1, "sources": [source]}), file=Path("/nowhere/p.yaml"))
    return open_source(built, built.sources[0])


def read(source, cursor=None, **keys):
    """All batches of one reading, each stored when it comes, as an ingest does."""
    batches = []
    try:
        for batch in source.read(json.loads(json.dumps(cursor)), **keys):
            batches.append(batch)
            source.stored()
    finally:
        source.close()
    return batches


def subscribed(broker, *topics, **keys):
    """The session begins: from now on the broker keeps what comes."""
    assert read(reader(broker, *topics, **keys)) == []


def values(batches):
    return sorted(value for batch in batches for value in batch.frame["target"])


def rejected(batches):
    return pl.concat([batch.rejected for batch in batches])


def test_what_came_while_nobody_listened_is_read_once(broker):
    subscribed(broker)
    broker.publish("plant/a", *(reading(n) for n in range(30)))
    broker.publish("plant/b/c", reading(30))
    broker.publish("elsewhere", reading(31))
    batches = read(reader(broker))
    assert values(batches) == list(range(31))
    assert {series for batch in batches for series in batch.frame["series_id"]} == {"plant/a", "plant/b/c"}
    assert read(reader(broker), batches[-1].cursor) == []


def test_what_comes_while_it_listens_is_read(broker):
    threading.Timer(0.5, broker.publish, ["plant/a", reading(1)]).start()
    assert values(read(reader(broker, listen=3, most=1))) == [1]


def test_a_series_is_a_topic_a_level_of_it_or_a_field(broker):
    expected = {"#topic": "plant/7/heat", "#topic[1]": "plant", "#topic[2]": "7", "#topic[-1]": "heat", "who": "x"}
    sources = {column: {"columns": {**COLUMNS, "series_id": column}} for column in expected}
    for keys in sources.values():
        subscribed(broker, **keys)
    broker.publish("plant/7/heat", reading(1, who="x"))
    found = {column: read(reader(broker, **keys))[0].frame["series_id"].to_list() for column, keys in sources.items()}
    assert found == {column: [series] for column, series in expected.items()}


def test_a_broker_of_the_older_version_is_found_to_be_one():
    old = Amqtt()
    subscribed(old, version="3.1.1")
    old.publish("plant/a", reading(1))
    assert values(read(reader(old, version="auto", timeout=1))) == [1]
    old.stop()


def test_a_level_that_topics_cannot_have_is_an_error():
    with pytest.raises(SourceError, match=r"columns: '#topic\[0\]': expected a level of the topic, #topic\[1\] being"):
        reader(Publisher_at(1), columns={**COLUMNS, "series_id": "#topic[0]"})


def test_a_bare_number_has_the_time_of_its_arrival(broker):
    keys = {"payload": "number", "columns": {"series_id": "#topic"}}
    before = datetime.now(UTC)
    threading.Timer(0.3, broker.publish, ["plant/a", "21.50", " -3 ", "warm", "NaN", b"\xff"]).start()
    (batch,) = read(reader(broker, **keys, most=5, listen=3))
    assert batch.frame["target"].to_list() == [21.5, -3.0, None]
    assert all(before <= stamp <= datetime.now(UTC) for stamp in batch.frame["timestamp"])
    assert batch.rejected.select("reason", "content").rows() == [
        ("expected a number", '"warm"'),
        ("expected a number", '"base64:/w=="'),
    ]


def test_a_payload_that_cannot_be_read_is_refused_once_and_the_reading_goes_on(broker):
    subscribed(broker)
    broker.publish("plant/a", "rubbish", reading(1), b"\xff", '{"time": "soon", "value": 1}', reading(2))
    batches = read(reader(broker))
    assert values(batches) == [1, 2]
    assert rejected(batches)["row"].to_list() == [1, 3, 4]
    assert rejected(batches)["content"].to_list()[0] == '"rubbish"'
    assert read(reader(broker), batches[-1].cursor) == []


def test_a_retained_message_is_read_with_a_new_subscription_only(strict):
    strict.publish("plant/a", reading(1), retain=True)
    batches = read(reader(strict))
    assert values(batches) == [1]
    assert read(reader(strict), batches[-1].cursor) == []


def test_a_retained_number_has_no_time_and_is_refused(strict):
    strict.publish("plant/a", "21.5", retain=True)
    batches = read(reader(strict, payload="number", columns={"series_id": "#topic"}))
    assert rejected(batches)["reason"].to_list() == ["retained: it has no time of its own"]


def test_topics_are_asked_for_and_given_up_as_the_description_changes(strict):
    keys = {"client_id": "one"}
    subscribed(strict, "plant/a", **keys)
    strict.publish("plant/a", reading(1))
    cursor = read(reader(strict, "plant/a", **keys))[-1].cursor
    assert read(reader(strict, "plant/b", **keys), cursor) == []
    strict.publish("plant/a", reading(2))
    strict.publish("plant/b", reading(3))
    assert values(read(reader(strict, "plant/b", **keys), cursor)) == [3]


# Nothing is lost


def test_what_was_read_and_not_stored_comes_again(strict):
    subscribed(strict)
    strict.publish("plant/a", *(reading(n) for n in range(300)))
    source = reader(strict)
    first = next(source.read(None))
    assert len(first.frame) == 300
    source.close()
    assert values(read(reader(strict))) == list(range(300))
    assert read(reader(strict)) == []


@pytest.mark.parametrize(("version", "window"), [("5", 20), ("5", 7), ("3.1.1", 20), ("3.1.1", 7)])
def test_a_broker_that_waits_for_acknowledgements_gets_them_and_sends_the_rest(tmp_path, version, window):
    started = mosquitto(tmp_path, f"max_inflight_messages {window}")
    try:
        subscribed(started)
        started.publish("plant/a", *(reading(n) for n in range(100)))
        batches = read(reader(started, version=version))
        assert values(batches) == list(range(100))
        assert all(batch.flush for batch in batches)
    finally:
        started.stop()


def test_until_acknowledges_nothing_and_leaves_the_cursor(strict):
    subscribed(strict)
    strict.publish("plant/a", *(reading(n) for n in range(5)))
    batches = read(reader(strict), until=datetime(2024, 1, 1, 0, 2))
    assert values(batches) == [0, 1, 2]
    assert batches[-1].cursor == {}
    assert values(read(reader(strict))) == [0, 1, 2, 3, 4]


def test_most_ends_a_reading_and_the_rest_is_for_the_next(strict):
    subscribed(strict)
    strict.publish("plant/a", *(reading(n) for n in range(50)))
    first = read(reader(strict, most=20))
    assert len(values(first)) == 20
    assert values([*first, *read(reader(strict), first[-1].cursor)]) == list(range(50))


def test_a_stream_that_never_pauses_ends_after_its_time(strict):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            strict.publish("plant/a", reading(1))
            time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    began = time.monotonic()
    assert read(reader(strict, lasts=0.8, listen=0.7))
    assert time.monotonic() - began < 3
    stop.set()
    thread.join()


def test_a_kill_between_receiving_and_storing_loses_nothing(strict):
    subscribed(strict)
    strict.publish("plant/a", *(reading(n) for n in range(40)))
    code = (
        f"import sys, time; sys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
        "import test_mqtt_source as t\n"
        f"source = t.reader(t.Publisher_at({strict.port}))\n"
        "print(len(next(source.read(None)).frame), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "40\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert values(read(reader(strict))) == list(range(40))


def Publisher_at(port):  # noqa: N802
    known = Publisher()
    known.port = port
    return known


# Brokers that are not there, or refuse


def test_a_broker_that_is_not_there_is_an_error_of_one_line():
    with pytest.raises(SourceError, match=r"mqtt 127.0.0.1:\d+: connection: Connection refused; check `broker:`"):
        read(reader(Publisher_at(free_port())))


def test_a_broker_that_does_not_answer_is_an_error_after_the_timeout():
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(SourceError, match="connection: no answer"):
            read(reader(Publisher_at(silent.getsockname()[1]), timeout=0.5))


def test_a_wrong_password_is_an_error_that_does_not_say_it(broker):
    with pytest.raises(SourceError, match=r"refused by the broker: .*; check `username:`, `password:`") as caught:
        read(reader(broker, password="wr0ng-word"))
    assert "wr0ng" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encrypted_connection_checks_the_brokers_certificate(tmp_path):
    certificate, key = certified(tmp_path)
    started = mosquitto(tmp_path, f"certfile {certificate}", f"keyfile {key}")
    try:
        assert read(reader(started, tls=True, ca_file=str(certificate))) == []
        with pytest.raises(SourceError, match=r"connection: .*certificate"):
            read(reader(started, tls=True))
    finally:
        started.stop()


def test_a_filter_that_is_none_is_an_error(broker):
    with pytest.raises(SourceError, match="topics: 'plant/#/x' is no topic filter"):
        read(reader(broker, "plant/#/x"))


def test_a_lost_connection_is_an_error_and_what_was_not_stored_comes_again(tmp_path):
    started = mosquitto(tmp_path, "persistence true", f"persistence_location {tmp_path}/")
    subscribed(started)
    started.publish("plant/a", *(reading(n) for n in range(12)))
    source = reader(started, listen=5)
    batches = source.read(None)
    assert len(next(batches).frame) == 12
    started.stop()
    with pytest.raises(SourceError, match=r"connection: lost \(.*\); what was not stored yet comes again"):
        next(batches)
    source.close()
    started.start()
    try:
        assert values(read(reader(started))) == list(range(12))
    finally:
        started.stop()


def test_two_readers_of_one_session_do_not_fight_for_it(strict):
    subscribed(strict)
    first = reader(strict, listen=5)
    failed = []

    def work():
        try:
            list(first.read(None))
        except SourceError as error:
            failed.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.2)
    strict.publish("plant/a", reading(1))
    assert values(read(reader(strict))) == [1]
    thread.join(5)
    first.close()
    assert re.search(r"connection: lost \(.*no other client is called 'rnnforecast-p-", failed[0])
