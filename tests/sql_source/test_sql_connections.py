"""A query as a source: one snapshot, locks, connections and secrets."""

from contextlib import closing

import pytest
from databases import PASSWORD
from reading import read, values
from sql_reading import insert, row

from rnnforecast.sources import SourceError

# One snapshot


def test_rows_that_are_written_during_a_reading_come_with_the_next(lab, opened):
    lab.run(insert(*(row(number) for number in range(9))))
    reader = opened(lab.uri, watermark="id", batch_rows=2)
    seen, cursor = [], None
    for batch in reader.read(None):
        lab.run(insert(row(100 + len(seen))), "UPDATE readings SET v = -1 WHERE id = 8")
        seen += values([batch])
        cursor = batch.cursor
    assert seen == [number + 0.5 for number in range(9)]
    later = values(read(reader, cursor))
    assert later[0] == -1.0
    assert later[1:] == [100.5 + count for count in range(0, 9, 1) if 100.5 + count in later]
    assert len(later) > 2


def test_a_sqlite_writer_is_neither_waited_for_nor_read_before_it_commits(sqlite, opened):
    sqlite.run(insert(row(0), row(1)))
    reader = opened(sqlite.uri, watermark="id")
    sqlite.run("BEGIN IMMEDIATE", insert(row(2)))
    first = read(reader)
    assert values(first) == [0.5, 1.5]
    sqlite.run("COMMIT")
    assert values(read(reader, first[-1].cursor)) == [1.5, 2.5]


def test_a_locked_sqlite_file_is_a_failure_that_passes(sqlite, opened, monkeypatch):
    monkeypatch.setattr("rnnforecast.sources.sql_sqlite.WAIT_MS", 50)
    sqlite.run("PRAGMA journal_mode = delete", "BEGIN EXCLUSIVE")
    with pytest.raises(SourceError, match="locked"):
        read(opened(sqlite.uri))
    sqlite.run("COMMIT")
    assert read(opened(sqlite.uri)) == []


def test_a_locked_postgres_table_is_a_failure_that_passes(pg, opened, monkeypatch):
    monkeypatch.setattr("rnnforecast.sources.sql_postgresql.LOCK_MS", 50)
    with closing(pg.server.connection("plant", autocommit=False)) as other, closing(other.cursor()) as cursor:
        cursor.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceError, match=r"the database failed temporarily: .*lock timeout"):
            read(opened(pg.uri))


def test_a_reading_that_is_left_half_way_gives_its_connection_back(lab, opened):
    lab.run(insert(*(row(number) for number in range(9))))
    reader = opened(lab.uri, watermark="id", batch_rows=2)
    batches = reader.read(None)
    next(batches)
    reader.close()
    lab.run("DROP TABLE readings")  # waits for ever in PostgreSQL while a reading is open
    batches.close()


# Connections and secrets


def test_an_absent_sqlite_file_is_refused_and_not_made(opened, tmp_path):
    with pytest.raises(SourceError, match=r"uri: data/no.db: no such file .*; relative paths count from the project"):
        read(opened("sqlite:///data/no.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_sqlite_file_is_found_by_either_path(sqlite, opened, tmp_path):
    sqlite.run(insert(row(1)))
    odd = tmp_path / "50% of?me#.db"
    sqlite.run(f"VACUUM INTO '{odd}'")
    for path in ("plant.db", str(sqlite.path), f"{tmp_path}/50%25 of?me#.db"):
        assert values(read(opened(f"sqlite:///{path}"))) == [1.5]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mysql://root:pass@host/x", "uri: expected sqlite:///path or postgresql://.*; found 'mysql'"),
        ("plant.db", "found 'no kind of database'"),
        ("postgresql://host", "uri: expected"),
        ("sqlite:///folder", "it is a folder"),
        ("sqlite:///text.db", "text.db cannot be opened: file is not a database"),
    ],
)
def test_a_uri_that_leads_to_no_database_is_refused(opened, tmp_path, uri, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("time,value\n" * 1000)
    with pytest.raises(SourceError, match=message) as error:
        read(opened(uri))
    assert "pass" not in str(error.value)


def test_a_server_that_is_not_there_is_a_failure_that_passes(server, opened):
    with pytest.raises(SourceError, match=r"no connection to 127.0.0.1:1: .*refused; check the host and port"):
        read(opened(server.uri("plant", port=1)))


@pytest.mark.parametrize(
    ("database", "password", "message"),
    [
        ("plant", "wrong-pw", "password authentication failed"),
        ("nowhere", "pg-pass%2Fword", "nowhere.* does not exist"),
    ],
)
def test_a_login_that_is_refused_is_no_failure_that_passes(pg, opened, database, password, message):
    with pytest.raises(SourceError, match=f"127.0.0.1:{pg.server.port} refuses the login: .*{message}") as error:
        read(opened(pg.server.uri(database, password=password)))
    assert "wrong-pw" not in str(error.value)
    assert not any(word in str(error.value) for word in ("connection", "temporarily", "timeout"))


def test_a_connection_that_is_cut_during_a_reading_is_a_failure_that_passes(pg, opened, monkeypatch):
    small = {"adbc.postgresql.batch_size_hint_bytes": "100000"}
    monkeypatch.setattr("rnnforecast.sources.sql_postgresql.Postgresql.batch_option", small)
    pg.run(f"INSERT INTO readings SELECT n, '{'a' * 200}', '2020-01-01', n FROM generate_series(1, 100000) n")
    reader = opened(pg.uri, watermark="id", batch_rows=1000)
    batches = reader.read(None)
    next(batches)
    pg.server.run("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'plant'")
    with pytest.raises(SourceError, match=r"the database failed temporarily: .*connection"):
        list(batches)


def test_no_password_is_in_a_name_or_an_error(pg, opened, monkeypatch):
    monkeypatch.setenv("PG_PASSWORD", "pg-pass%2Fword")
    reader = opened(pg.uri.replace("pg-pass%2Fword", "${PG_PASSWORD}"))
    assert read(reader) == []
    assert reader.label == "postgresql:plant/readings"
    again = opened(pg.uri.replace("postgres:pg-pass%2Fword", "other:${PG_PASSWORD}"))
    assert again.key == reader.key
    assert opened(pg.uri, watermark="id").key != reader.key
    assert opened(pg.uri, query="SELECT * FROM readings WHERE v > 0").key != reader.key
    for uri in (f"{pg.uri}?nonsense={PASSWORD}", pg.uri.replace("%2F", "%zz")):
        with pytest.raises(SourceError) as error:
            read(opened(uri))
        assert "pass" not in str(error.value)
