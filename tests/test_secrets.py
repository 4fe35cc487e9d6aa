"""What the environment gave is used and never shown: not in errors, logs, records or the digest of a pipeline."""

import sqlite3
import sys

import pytest
import yaml

from rnnforecast import cli, config, ingest, secrets, table
from rnnforecast.config import ConfigError, parse
from rnnforecast.sources import SourceError, open_source
from rnnforecast.table import TableError

SECRET = "corr3ct-horse!battery"


@pytest.fixture(autouse=True)
def plant(monkeypatch):
    monkeypatch.setenv("PLANT_SECRET", SECRET)


def pipeline(folder, *sources, **keys):
    text = yaml.safe_dump({"name": "p", "horizon": 1, "sources": list(sources)} | keys)
    return parse(text, file=folder / "p.yaml")


SOURCES = {
    "sql": {"kind": "sql", "uri": "postgresql://me:${PLANT_SECRET}@127.0.0.1:9/plant", "query": "SELECT 1"},
    "http": {"kind": "http", "url": "http://127.0.0.1:9/rows", "attempts": 1, "timeout": 1.0}
    | {"headers": {"Authorization": "Bearer ${PLANT_SECRET}"}},
    "kafka": {"kind": "kafka", "brokers": "127.0.0.1:9", "topics": ["t"], "timeout": 1.0}
    | {"options": {"sasl.password": "${PLANT_SECRET}", "sasl.username": "me", "sasl.mechanism": "PLAIN"}}
    | {},
    "mqtt": {"kind": "mqtt", "broker": "127.0.0.1:9", "topics": ["t"], "timeout": 1.0}
    | {"username": "me", "password": "${PLANT_SECRET}"},
    "file": {"kind": "file", "path": "s3://bucket/a.csv"}
    | {"options": {"aws_secret_access_key": "${PLANT_SECRET}", "aws_endpoint": "http://127.0.0.1:9"}},
}


@pytest.mark.parametrize("kind", SOURCES)
def test_no_source_shows_its_secret(kind, tmp_path, caplog):
    built = pipeline(tmp_path, SOURCES[kind])
    reader = open_source(built, built.sources[0])
    shown = [repr(built), built.model_dump_json(), built.text, reader.key, reader.label, repr(reader)]
    with pytest.raises(SourceError) as error:
        ingest.ingest(built)
    shown += [str(error.value), repr(error.value), caplog.text]
    assert not [text for text in shown if SECRET in text]
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind", SOURCES)
def test_a_new_secret_is_no_other_source(kind, tmp_path, monkeypatch):
    keys = []
    for value in (SECRET, "another-one"):
        monkeypatch.setenv("PLANT_SECRET", value)
        built = pipeline(tmp_path, SOURCES[kind])
        keys.append((open_source(built, built.sources[0]).key, built.digest))
    assert keys[0] == keys[1]


def test_a_secret_in_a_wrong_place_is_not_told(tmp_path):
    with pytest.raises(ConfigError, match=r"horizon: expected a.*\$\{PLANT_SECRET\}") as error:
        parse("{name: p, horizon: '${PLANT_SECRET}', sources: [{kind: dataset, name: co2}]}", file=tmp_path / "p.yaml")
    assert SECRET not in str(error.value)


def test_errors_of_tables_and_the_command_hide_it(tmp_path, capsys):
    (tmp_path / "p.yaml").write_text(
        "{name: p, horizon: 1, sources: [{kind: dataset, name: co2}], storage: {lake: 'lake/${PLANT_SECRET}'}}"
    )
    built = config.load(tmp_path / "p.yaml")
    with pytest.raises(TableError, match=r"lake/\$\{PLANT_SECRET\}/p/observations: there is no table") as error:
        table.read(built.table("observations"))
    assert SECRET not in str(error.value)
    assert cli.main(["table", str(tmp_path / "p.yaml"), "--as-of", "3"]) == 0
    assert SECRET not in "".join(capsys.readouterr())


def test_what_is_stored_of_an_ingest_has_no_secret_in_it(tmp_path):
    with sqlite3.connect(tmp_path / "plant.db") as database:
        database.execute("CREATE TABLE r (timestamp INTEGER, target REAL)")
        database.execute("INSERT INTO r VALUES (1, 2.0), (2, NULL)")
    query = "SELECT * FROM r WHERE '${PLANT_SECRET}' <> ''"
    source = {"kind": "sql", "uri": "sqlite:///plant.db", "query": query}
    built = pipeline(tmp_path, source)
    assert ingest.ingest(built).inserted == 2
    stored = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(path.suffix == ".json" for path in stored)
    assert not [path for path in stored if SECRET.encode() in path.read_bytes()]


def test_short_values_and_those_within_others_are_hidden_as_well_as_they_can_be(monkeypatch):
    monkeypatch.setattr(secrets, "_known", {})
    secrets.remember("SHORT", "abc")
    secrets.remember("USER", "plant")
    secrets.remember("PASSWORD", "plant-7")
    assert secrets.hidden("abc plant plant-7") == "abc ${USER} ${PASSWORD}"


@pytest.mark.parametrize("kind", ["sql", "kafka", "mqtt"])
def test_a_source_whose_client_is_not_installed_says_what_to_install(kind, tmp_path, monkeypatch):
    missing = {"sql": "adbc_driver_manager", "kafka": "confluent_kafka", "mqtt": "paho"}[kind]
    for name in list(sys.modules):
        if name.startswith("rnnforecast.sources.") or name.split(".")[0] == missing:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    built = pipeline(tmp_path, SOURCES[kind])
    with pytest.raises(ValueError, match=rf"source {kind}: needs a package .*pip install 'rnnforecast\[{kind}\]'"):
        open_source(built, built.sources[0])
