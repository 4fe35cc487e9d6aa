"""Kafka and MQTT into the table: repeats, failures and kills leave what one clean run leaves."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from kafka_cluster import MockKafka, message
from mqtt_brokers import PASSWORD, USER, mosquitto

from rnnforecast import ingest as ingesting
from rnnforecast import table
from rnnforecast.config import parse
from rnnforecast.ingest import ingest
from rnnforecast.sources import SourceError

COLUMNS = {"timestamp": "time", "target": "value", "series_id": "who"}
QUICK = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "200"}


@pytest.fixture(scope="module")
def kafka():
    """A cluster whose topic `t` has revisions, repeats, late rows, rubbish and tombstones in two partitions."""
    cluster = MockKafka(brokers=1)
    cluster.topic("t", partitions=2, replicas=1)
    for partition, who in enumerate(["x", "y"]):
        first = [message(n, who) for n in range(50)]
        again = [message(n, who, 100 + n) for n in (3, 49, 7)]
        cluster.send("t", *first, "rubbish", None, *again, *first[10:12], message(59, who, "warm"), partition=partition)
    yield cluster
    cluster.close()


def pipeline(folder, *sources):
    folder.mkdir(exist_ok=True)
    return parse(yaml.safe_dump({"name": "p", "horizon": 1, "sources": list(sources)}), file=folder / "p.yaml")


def topic(cluster, **keys):
    return {"kind": "kafka", "brokers": cluster.brokers, "topics": ["t"], "columns": COLUMNS, "timeout": 10, **keys}


def contents(built):
    """The table's digest and what stands in the quarantine: the same text is there once, wherever it came first."""
    refused = table.read(built.table("quarantine")).select("reason", "content").sort("content")
    return table.digest(table.read(built.table("observations"))), refused.rows()


@pytest.fixture
def clean(kafka, tmp_path):
    built = pipeline(tmp_path / "clean", topic(kafka))
    ingest(built)
    return contents(built)


def test_a_topic_is_in_the_table_once_and_accounted_for(kafka, tmp_path):
    built = pipeline(tmp_path, topic(kafka))
    report = ingest(built)
    assert report.read == 2 * 57
    assert (report.inserted, report.duplicates, report.quarantined) == (100, 10, 4)
    values = table.read(built.table("observations")).sort("series_id", "timestamp")["target"].to_list()
    expected = [n if n not in (3, 49, 7) else 100 + n for n in range(50)]
    assert values == expected * 2
    assert report.notes == [f"t[{n}]: 1 messages without a value (tombstones) skipped" for n in range(2)]
    again = ingest(built)
    assert (again.read, again.version) == (0, report.version)


@pytest.mark.parametrize("most", [1, 7, 40])
def test_however_it_is_cut_into_commits_the_table_is_the_same(kafka, tmp_path, clean, monkeypatch, most):
    monkeypatch.setattr(ingesting, "ROWS_PER_COMMIT", 3 * most)
    built = pipeline(tmp_path / "cut", topic(kafka, batch_messages=most))
    if most == 1:
        monkeypatch.setattr(ingesting, "ROWS_PER_COMMIT", 30)
    ingest(built)
    assert contents(built) == clean


def test_a_failure_after_some_commits_leaves_a_table_that_goes_on_from_there(kafka, tmp_path, clean, monkeypatch):
    monkeypatch.setattr(ingesting, "ROWS_PER_COMMIT", 40)
    other = {"kind": "file", "path": "other.csv", "columns": COLUMNS}
    built = pipeline(tmp_path / "broken", topic(kafka, batch_messages=30), other)
    for _ in range(2):
        with pytest.raises(SourceError, match=r"other\.csv"):
            ingest(built)
    assert 0 < len(table.read(built.table("observations"))) <= 100
    (tmp_path / "broken" / "other.csv").write_text("time,who,value\n2024-01-01T00:03:00Z,x,103\n")
    ingest(built)
    assert contents(built) == clean


@pytest.mark.parametrize("group", [None, "g"])
def test_two_ingests_at_once_leave_what_one_does(kafka, tmp_path, clean, group):
    built = pipeline(tmp_path / "both", topic(kafka, batch_messages=20, group=group, options=QUICK))
    failed = []

    def work():
        try:
            ingest(built)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    ingest(built)
    assert contents(built) == clean


@pytest.mark.parametrize("moment", ["before the commit", "before the acknowledgement"])
def test_a_kill_loses_no_mqtt_message_and_stores_none_twice(tmp_path, moment):
    broker = mosquitto(tmp_path)
    source = {"kind": "mqtt", "broker": f"127.0.0.1:{broker.port}", "topics": ["plant/#"], "listen": 0.2, "timeout": 5}
    source |= {"columns": {**COLUMNS, "series_id": "#topic"}, "username": USER, "password": PASSWORD}
    built = pipeline(tmp_path / "mqtt", source)
    try:
        ingest(built)
        broker.publish("plant/a", *(json.dumps(message(n)) for n in range(40)), "rubbish")
        patched = "ingest.store" if moment == "before the commit" else "sources.mqtt.MqttReader.stored"
        (tmp_path / "mqtt" / "p.yaml").write_text(built.text)
        code = (
            "import os, signal\nfrom unittest import mock\nfrom rnnforecast import config, ingest\n"
            "import rnnforecast.sources.mqtt\n"
            f"with mock.patch('rnnforecast.{patched}', lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)):\n"
            f"    ingest.ingest(config.load({str(tmp_path / 'mqtt' / 'p.yaml')!r}))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, check=False
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        stored = Path(built.table("observations")).exists()
        assert stored == (moment != "before the commit")
        report = ingest(built)
        assert report.inserted == (0 if stored else 40)
        assert table.read(built.table("observations")).sort("timestamp")["target"].to_list() == list(range(40))
        assert len(table.read(built.table("quarantine"))) == 1
        assert ingest(built).read == 0
    finally:
        broker.stop()
