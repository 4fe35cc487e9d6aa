"""Exactly once, whatever happens: ingests killed at 200 random points end with the table of one that was not."""

import json
import os
import random
import signal
import sqlite3
from datetime import UTC, datetime, timedelta

import killed
import polars as pl
import pytest
import yaml

from rnnforecast import ingest, table
from rnnforecast.config import load

KILLS = {"file": 80, "sql": 60, "kafka": 60}  # 200
ROWS = 2_400
START = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = {"timestamp": "time", "target": "value", "series_id": "who"}


def readings():
    """Rows of four series: some twice, some revised, some that cannot be read, some far too late."""
    generator = random.Random(11)
    rows = []
    for step in range(ROWS):
        stamp = START + timedelta(hours=step // 4)
        value = f"{generator.gauss(0, 1):.3f}"
        if step % 97 == 5:
            value = "broken"
        if step % 89 == 7:
            stamp -= timedelta(days=30)  # beyond the allowed lateness, once there are 30 days
        rows.append({"id": step, "time": stamp.strftime("%Y-%m-%dT%H:%M:%SZ"), "who": f"s{step % 4}", "value": value})
        if step % 50 == 9:
            rows.append({**rows[-1], "id": step, "value": "7.5"})  # a revision
        if step % 60 == 3:
            rows.append(dict(rows[-40 if step > 40 else -1]))  # delivered again
    return [{**row, "id": number} for number, row in enumerate(rows)]


def file_source(folder):
    (folder / "in").mkdir()
    rows = readings()
    for number in range(0, len(rows), 100):
        part = pl.DataFrame(rows[number : number + 100])
        part.write_csv(folder / "in" / f"{number:05d}.csv")
    return {"kind": "file", "path": "in/*.csv", "columns": COLUMNS}


def sql_source(folder):
    with sqlite3.connect(folder / "plant.db") as database:
        database.execute("CREATE TABLE readings (id INTEGER PRIMARY KEY, time TEXT, who TEXT, value TEXT)")
        database.executemany("INSERT INTO readings VALUES (:id, :time, :who, :value)", readings())
    query = "SELECT id, time, who, value FROM readings"
    source = {"kind": "sql", "uri": "sqlite:///plant.db", "query": query, "watermark": "id", "batch_rows": 90}
    return {**source, "columns": COLUMNS}


@pytest.fixture(scope="module")
def brokers():
    """A Kafka cluster of librdkafka's own, in this process."""
    from confluent_kafka import Producer

    cluster = Producer({"test.mock.num.brokers": 3})
    addresses = ",".join(f"{each.host}:{each.port}" for each in cluster.list_topics(timeout=10).brokers.values())
    producer = Producer({"bootstrap.servers": addresses})
    for row in readings():
        producer.produce("plant", json.dumps(row).encode(), partition=0)
    assert producer.flush(20) == 0
    yield addresses
    del cluster


def kafka_source(brokers):
    def source(folder):
        kafka = {"kind": "kafka", "brokers": brokers, "topics": ["plant"], "batch_messages": 90}
        return {**kafka, "columns": COLUMNS}

    return source


@pytest.fixture(scope="module")
def forks():
    return killed.forks()


def project(folder, source):
    folder.mkdir(parents=True)
    checks = [{"check": "range", "max": 3.0}]
    keys = {"name": "p", "horizon": 1, "sources": [source(folder)], "allowed_lateness": "5d", "checks": checks}
    (folder / "p.yaml").write_text(yaml.safe_dump(keys))
    return folder / "p.yaml"


def outcome(file):
    """What may depend on the input only: the rows, what is in quarantine and why, and the sums of all ingests."""
    pipeline = load(file)
    refused = table.read(pipeline.table("quarantine")).select("source", "column", "reason", "content", "stage")
    history = ingest.history(pipeline)
    return {
        "rows": table.digest(table.read(pipeline.table("observations"))),
        "refused": table.digest(refused),
        "quarantined": len(refused),
        "inserted": history["inserted"].sum(),
        "updated": history["updated"].sum(),
    }


def killed_at_random(forks, file, generator):
    """Start an ingest and kill it somewhere: before, while or after it stores for the n-th time. Whether it was."""
    here, there = forks.Pipe(duplex=False)
    process = forks.Process(target=killed.ingest, args=(file, there))
    process.start()
    there.close()
    try:
        for _ in range(generator.randint(0, 2)):
            here.recv_bytes()
        process.join(generator.uniform(0, 0.06))
    except EOFError:  # it has come to its end
        process.join()
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.parametrize("kind", KILLS)
def test_ingests_that_are_killed_again_and_again_end_as_one_that_is_not(kind, tmp_path, forks, request):
    source = kafka_source(request.getfixturevalue("brokers")) if kind == "kafka" else globals()[f"{kind}_source"]
    clean = project(tmp_path / "clean", source)
    killed.ingest(clean)
    expected = outcome(clean)
    assert expected["quarantined"] > 30
    generator, kills, stored, chain = random.Random(5), 0, set(), 0
    while kills < KILLS[kind]:
        file = project(tmp_path / f"chain{chain}", source)
        while kills < KILLS[kind] and killed_at_random(forks, file, generator):
            kills += 1
            stored.add((chain, table.version(load(file).table("observations"))))
        killed.ingest(file)
        assert outcome(file) == expected
        chain += 1
    assert len(stored) > KILLS[kind] / 6, "the kills did not fall between the commits"
