"""A query as a source: SQLite and PostgreSQL read alike, from a watermark on, with nothing lost and nothing written."""

import json
import math
import random
import time
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
import yaml
from databases import PASSWORD, PostgresLab, SqliteLab, postgres

from rnnforecast import ingest as ingest_room
from rnnforecast import table
from rnnforecast.config import parse
from rnnforecast.ingest import ingest
from rnnforecast.sources import SourceError, open_source

START = datetime(2024, 1, 1)
COLUMNS = {"timestamp": "at", "target": "v", "series_id": "who"}
MAKE = "CREATE TABLE readings (id bigint, who text, at timestamp, v double precision)"


@pytest.fixture(scope="module")
def server():
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request, tmp_path):
    """A database with an empty table `readings`: SQLite, then PostgreSQL."""
    is_sqlite = request.param == "sqlite"
    with closing(SqliteLab(tmp_path) if is_sqlite else PostgresLab(request.getfixturevalue("server"))) as made:
        made.run(MAKE)
        yield made


@pytest.fixture
def sqlite(tmp_path):
    with closing(SqliteLab(tmp_path)) as made:
        made.run(MAKE)
        yield made


@pytest.fixture
def pg(server):
    made = PostgresLab(server)
    made.run(MAKE)
    return made


@pytest.fixture
def built(tmp_path):
    """A function from a uri and a source's keys to a pipeline that has it."""

    def make(uri, pipeline=None, **keys):
        source = {"kind": "sql", "uri": uri, "query": "SELECT * FROM readings", "columns": COLUMNS, **keys}
        mapping = {"name": "p", "horizon": 1, "sources": [source]} | (pipeline or {})
        return parse(yaml.safe_dump(mapping), file=tmp_path / "p.yaml")

    return make


@pytest.fixture
def opened(built):
    """A function from a uri and a source's keys to its reader."""

    def make(uri, **keys):
        pipeline = built(uri, **keys)
        return open_source(pipeline, pipeline.sources[0])

    return make


def row(number, *, v=None, hour=None, who="a"):
    at = START + timedelta(hours=number if hour is None else hour)
    return f"({number}, '{who}', '{at}', {number + 0.5 if v is None else v})"


def insert(*rows):
    return f"INSERT INTO readings (id, who, at, v) VALUES {', '.join(rows)}"


def read(reader, cursor=None, until=None):
    return list(reader.read(json.loads(json.dumps(cursor)), until=until))


def values(batches):
    return [value for batch in batches for value in batch.frame["target"].to_list()]


# From the watermark on


def test_a_second_reading_has_only_what_is_new(lab, opened):
    lab.run(insert(*(row(number) for number in range(25))))
    reader = opened(lab.uri, watermark="id", batch_rows=10)
    first = read(reader)
    assert values(first) == [number + 0.5 for number in range(25)]
    assert [place for batch in first for place in batch.frame["#row"]] == list(range(1, 26))
    assert max(len(batch.frame) for batch in first) <= 10
    assert first[0].frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert read(reader, first[-1].cursor) == []
    lab.run(insert(row(30)))
    second = read(reader, first[-1].cursor)
    assert values(second) == [24.5, 30.5]  # the last one may have been one of several
    assert read(reader, second[-1].cursor) == []


KINDS = {
    "int": ("bigint", lambda n: 2**60 + n // 3, lambda value: value + 1),
    "float": ("double precision", lambda n: 0.1 * (n // 3), lambda value: math.nextafter(value, math.inf)),
    "text": ("text", lambda n: f"it's {n // 3:04d}", lambda value: value + "!"),
    "timestamp": (
        "timestamp",
        lambda n: datetime(2024, 1, 1, 0, 0, 0, 123456) + timedelta(microseconds=n // 3),
        lambda value: value + timedelta(microseconds=1),
    ),
    "date": ("date", lambda n: date(2024, 1, 1) + timedelta(days=n // 3), lambda value: value + timedelta(days=1)),
}
POSTGRES_KINDS = {
    "timestamptz": (
        "timestamptz",
        lambda n: datetime(2024, 1, 1, 0, 0, 0, 123456, UTC) + timedelta(microseconds=n // 3),
        lambda value: value + timedelta(microseconds=1),
    ),
    "numeric": ("numeric", lambda n: 10**30 + n // 3, lambda value: f"{value}.00000000000000000001"),
    "real": ("real", lambda n: n // 3 + 0.7, lambda value: value + 1),
    "padded": ("char(9)", lambda n: f"n {n // 3:04d}", lambda value: value + "!"),
    "enum": ("uuid", lambda n: f"{n // 3:032x}", lambda value: f"{int(value, 16) + 1:032x}"),
}


def literal(value):
    return repr(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"


def check_kind(lab, opened, type_, value, following):
    lab.run(f"CREATE TABLE marked (w {type_}, v double precision, at timestamp)")
    rows = [f"({literal(value(n))}, {n}, '{START + timedelta(hours=n)}')" for n in range(24)]
    random.Random(1).shuffle(rows)
    lab.run(f"INSERT INTO marked VALUES {', '.join(rows)}")
    columns = {"timestamp": "at", "target": "v"}
    reader = opened(lab.uri, query="SELECT * FROM marked", columns=columns, watermark="w", batch_rows=7)
    batches = read(reader)
    assert sorted(values(batches)) == list(range(24))
    for place, batch in enumerate(batches):
        rest = read(reader, batch.cursor)
        stored = values(batches[: place + 1]) + values(rest)
        assert set(stored) == set(range(24)), f"lost after batch {place}"
    assert read(reader, batches[-1].cursor) == []
    next_ = following(value(23))
    lab.run(f"INSERT INTO marked VALUES ({literal(next_)}, 24, '2024-02-01')")
    assert set(values(read(reader, batches[-1].cursor))) == {21.0, 22.0, 23.0, 24.0}


@pytest.mark.parametrize("kind", KINDS)
def test_a_watermark_of_any_type_is_kept_exactly_and_no_tie_is_lost_at_a_cut(lab, opened, kind):
    check_kind(lab, opened, *KINDS[kind])


@pytest.mark.parametrize("kind", POSTGRES_KINDS)
def test_a_watermark_of_postgres_own_types_is_kept_exactly(pg, opened, kind):
    check_kind(pg, opened, *POSTGRES_KINDS[kind])


def test_more_rows_of_one_watermark_than_a_batch_holds_are_read_and_end(lab, opened):
    lab.run(insert(row(0), *(row(1, v=place, hour=place) for place in range(1, 23)), row(2, hour=40)))
    reader = opened(lab.uri, watermark="id", batch_rows=5)
    batches = read(reader)
    assert sorted(values(batches)) == sorted([0.5, *range(1, 23), 2.5])
    for place, batch in enumerate(batches):
        rest = read(reader, batch.cursor)
        assert {*values(batches[: place + 1]), *values(rest)} == {0.5, 2.5, *range(1, 23)}


def test_rows_without_a_watermark_are_read_each_time_and_told(lab, opened):
    lab.run(insert(*(row(number) for number in range(5))))
    lab.run("INSERT INTO readings VALUES (NULL, 'a', '2024-02-01', 99)")
    reader = opened(lab.uri, watermark="id")
    first = read(reader)
    assert sorted(values(first)) == [0.5, 1.5, 2.5, 3.5, 4.5, 99.0]
    lab.run("INSERT INTO readings VALUES (NULL, 'a', '2024-02-02', 100)")
    second = read(reader, first[-1].cursor)
    assert sorted(values(second)) == [4.5, 99.0, 100.0]
    assert [note for batch in second for note in batch.notes] == [
        f"{reader.label}: 2 rows have no value in 'id' and are read again each time"
    ]


def test_a_table_with_nothing_but_nulls_in_the_watermark_is_read(lab, opened):
    lab.run("INSERT INTO readings VALUES (NULL, 'a', '2024-02-01', 99)")
    reader = opened(lab.uri, watermark="id", batch_rows=1)
    cursor = read(reader)[-1].cursor
    lab.run(insert(row(1)))
    assert sorted(values(read(reader, cursor))) == [1.5, 99.0]


def test_an_empty_table_has_nothing_and_is_no_failure(lab, opened):
    assert read(opened(lab.uri, watermark="id")) == []
    assert read(opened(lab.uri)) == []


@pytest.mark.parametrize(
    ("watermark", "lookback", "late"),
    [("id", 5, 96), ("id", "5", 96), ("at", "5h", 96), ("at", "1d", 90), ("v", 5.5, 95)],
)
def test_a_lookback_finds_rows_that_were_committed_late(lab, opened, watermark, lookback, late):
    lab.run(insert(*(row(number) for number in range(0, 102, 2))))
    lab.run("UPDATE readings SET at = at || '.000001' WHERE 1 = 0" if lab.kind == "sqlite" else "SELECT 1")
    without, reader = opened(lab.uri, watermark=watermark), opened(lab.uri, watermark=watermark, lookback=lookback)
    cursor = read(reader)[-1].cursor
    lab.run(insert(row(late + 1)))
    assert values(read(without, cursor)) == []
    found = values(read(reader, cursor))
    assert late + 1.5 in found
    assert len(found) < 30


@pytest.mark.parametrize(
    ("watermark", "lookback", "message"),
    [
        ("id", "10m", "lookback: expected a number, such as 1000; found '10m', the watermark being '3' .int."),
        ("at", 10, "lookback: expected a length of time, such as 10m, 6h or 2d.*found '10'"),
        ("who", "1d", "whose text begins like 2024-01-31; found '1d', the watermark being 'a' .text."),
    ],
)
def test_a_lookback_that_does_not_fit_the_watermark_is_refused(lab, opened, watermark, lookback, message):
    lab.run(insert(*(row(number) for number in range(4))))
    reader = opened(lab.uri, watermark=watermark, lookback=lookback)
    cursor = read(reader)[-1].cursor
    with pytest.raises(SourceError, match=message):
        read(reader, cursor)


def test_a_lookback_past_all_times_reads_from_the_first_row(lab, opened):
    lab.run(insert(row(1), row(2)))
    reader = opened(lab.uri, watermark="at", lookback="3000000d")
    assert values(read(reader, read(reader)[-1].cursor)) == [1.5, 2.5]


# The whole answer


def test_an_answer_without_a_watermark_is_read_again_only_if_it_changed(lab, opened):
    lab.run(insert(*(row(number) for number in range(7))))
    reader = opened(lab.uri, batch_rows=3)
    first = read(reader)
    assert [len(batch.frame) for batch in first] == [3, 3, 1]
    assert read(reader, first[-1].cursor) == []
    assert len(values(read(reader, first[0].cursor))) == 7  # an interrupted reading begins anew
    lab.run("UPDATE readings SET v = -1 WHERE id = 0")
    assert sorted(values(read(reader, first[-1].cursor))) == [-1.0, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]


def test_the_querys_own_order_is_kept_without_a_watermark(lab, opened):
    lab.run(insert(*(row(number) for number in range(50))))
    reader = opened(lab.uri, query="SELECT * FROM readings ORDER BY id DESC")
    assert values(read(reader)) == [number + 0.5 for number in reversed(range(50))]


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


# Queries


@pytest.mark.parametrize(
    "query",
    [
        "select * from readings;",
        "SELECT * FROM readings -- all of them; really",
        "SELECT * FROM readings ;\n -- the end",
        "/* ; ) */ SELECT * FROM readings WHERE who <> ';)' AND who <> 'it''s'",
        "WITH r AS (SELECT * FROM readings) SELECT * FROM r",
        "SELECT * FROM (SELECT * FROM readings ORDER BY id LIMIT 1000) x",
        'SELECT id, who AS "who", at, v FROM "readings"',
    ],
)
def test_one_select_is_taken_however_it_is_written(lab, opened, query):
    lab.run(insert(row(1)))
    assert values(read(opened(lab.uri, query=query, watermark="id"))) == [1.5]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DELETE FROM readings", "expected one SELECT .*; found 'DELETE'"),
        ("", "found 'nothing' at its start"),
        ("-- nothing", "found 'nothing'"),
        ("PRAGMA user_version = 5", "found 'PRAGMA'"),
        ("SELECT 1; DROP TABLE readings", "a second statement after ';'"),
        ("SELECT * FROM readings) AS q; DROP TABLE readings; --", "parentheses do not match|second statement"),
        ("SELECT * FROM readings) AS q UNION SELECT * FROM (SELECT 1", "parentheses do not match"),
        ("SELECT * FROM readings WHERE who = 'x", "a ' that is not closed"),
        ("SELECT * FROM readings LIMIT 10", "LIMIT together with `watermark:` would leave rows out"),
        ("SELECT * FROM readings FETCH FIRST 10 ROWS ONLY", "FETCH together with"),
    ],
)
def test_what_is_not_one_select_is_refused_before_a_database_sees_it(opened, query, message):
    with pytest.raises(SourceError, match=message):
        opened("sqlite:///absent.db", query=query, watermark="id")


@pytest.mark.parametrize(
    "query",
    [
        "WITH gone AS (DELETE FROM readings RETURNING *) SELECT * FROM gone",
        "SELECT *, set_config('transaction_read_only', 'off', false) FROM readings",
        "SELECT *, lo_create(12345) FROM readings",
        "SELECT *, nextval('counter') FROM readings",
    ],
)
def test_a_select_cannot_write_in_postgres_either(pg, opened, query):
    pg.run(insert(row(1)), "CREATE SEQUENCE counter")
    with pytest.raises(SourceError, match="the database refuses the query"):
        read(opened(pg.uri, query=query))
    assert values(read(opened(pg.uri))) == [1.5]


def test_two_columns_of_one_name_are_refused(pg, opened):
    with pytest.raises(SourceError, match="a second column 'v'; name each of its own with AS"):
        read(opened(pg.uri, query="SELECT *, id AS v FROM readings"))


def test_sqlite_is_opened_so_that_nothing_can_be_written(sqlite, opened):
    reader = opened(sqlite.uri)
    with closing(reader._database.connect()) as connection, closing(connection.cursor()) as cursor:
        for statement in ("DELETE FROM readings", "CREATE TABLE x (a)", "PRAGMA user_version = 5"):
            with pytest.raises(Exception, match=r"readonly|read-only"):
                cursor.execute(statement).fetchall()


def test_a_watermark_of_any_name_is_quoted(lab, opened):
    name = 'we"ird; DROP TABLE readings; --'
    quoted = '"' + name.replace('"', '""') + '"'
    lab.run(insert(row(1), row(2)))
    reader = opened(lab.uri, query=f"SELECT id AS {quoted}, who, at, v FROM readings", watermark=name)
    first = read(reader)
    lab.run(insert(row(3)))
    assert values(read(reader, first[-1].cursor)) == [2.5, 3.5]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"watermark": "idd"}, "watermark: the query has no column 'idd'; found 'id', 'who', 'at', 'v'; did you mean"),
        ({"query": "SELECT * FROM absent"}, "refuses the query: .*absent.*correct `query:`"),
        ({"query": "SELECT nope FROM readings"}, "refuses the query: .*nope"),
        ({"query": "SELECT FROM WHERE"}, "refuses the query: .*syntax"),
        ({"query": "SELECT *, $1 AS x FROM readings"}, "refuses the query"),
        ({"columns": COLUMNS | {"target": "w"}}, "no column 'w'"),
    ],
)
def test_a_query_that_does_not_work_is_told_in_one_line(lab, opened, keys, message):
    lab.run(insert(row(1)))
    with pytest.raises(SourceError, match=message) as error:
        read(opened(lab.uri, **keys))
    assert "\n" not in str(error.value)


# What cells hold


def test_a_sqlite_column_may_hold_anything(sqlite, opened):
    sqlite.run("CREATE TABLE loose (n INTEGER PRIMARY KEY, at, v, who)")
    nulls = "SELECT NULL, datetime(946684800 + 3600 * value, 'unixepoch'), NULL, 12345678901234567 FROM numbers"
    numbers = "WITH RECURSIVE numbers(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM numbers LIMIT 70000)"
    sqlite.run(f"INSERT INTO loose {numbers} {nulls}")
    cells = ["1.5", "'2.5'", "3", "'bad, it''s'", "x'00ff'", "0.1", "9e999", "''"]
    for place, cell in enumerate(cells):
        sqlite.run(f"INSERT INTO loose VALUES (NULL, '2010-01-01 {place:02d}:00', {cell}, 'it''s')")
    columns = {"timestamp": "at", "target": "v", "series_id": "who"}
    batches = read(opened(sqlite.uri, query="SELECT * FROM loose", columns=columns, watermark="n"))
    frame = pl.concat(batch.frame for batch in batches)
    assert frame["series_id"].unique().sort().to_list() == ["12345678901234567", "it's"]
    assert frame.filter(pl.col("series_id") == "it's")["target"].to_list() == [1.5, 2.5, 3.0, 0.1, None]
    reasons = [reason for batch in batches for reason in batch.rejected["reason"]]
    assert reasons == [
        "'bad, it's' is not a number",
        "'X'00FF'' is not a number",
        "infinite: a reading is a finite number",
    ]


def test_postgres_types_become_readings(pg, opened):
    pg.run(
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TABLE typed (at timestamptz, v numeric, who mood, r real, u uuid, j jsonb, i interval, a int[], b bytea"
        ")",
        "INSERT INTO typed SELECT '2024-01-01 02:00+02'::timestamptz + n * interval '1 hour', n + 0.1, 'glad', 0.5, "
        "gen_random_uuid(), '{\"a\": 1}', '1 day', '{1}', 'x' FROM generate_series(0, 2) n",
        "INSERT INTO typed (at, v, who) VALUES ('2024-01-02', 'NaN', 'sad'), ('2024-01-03', NULL, 'sad'), "
        "('infinity', 1, 'sad'), (NULL, 2, 'sad'), ('2024-01-04', 3, NULL), ('12024-01-04', 3, 'sad')",
    )
    keys = {"pipeline": {"past_covariates": ["r"]}, "query": "SELECT * FROM typed ORDER BY at"}
    [batch] = read(opened(pg.uri, **keys))
    assert batch.frame.drop("#row").rows() == [
        *(("glad", datetime(2024, 1, 1, n, tzinfo=UTC), n + 0.1, 0.5) for n in range(3)),
        ("sad", datetime(2024, 1, 2, tzinfo=UTC), None, None),
        ("sad", datetime(2024, 1, 3, tzinfo=UTC), None, None),
    ]
    assert sorted(batch.rejected["reason"]) == ["no series: the cell is empty"] + 3 * [
        "unreadable timestamp: the cell is empty"
    ]


@pytest.mark.parametrize(("value", "type_"), [("infinity", "timestamp"), ("NaN", "float8"), ("NaN", "numeric")])
def test_a_watermark_that_nothing_comes_after_is_refused(pg, opened, value, type_):
    pg.run(insert(row(1)))
    query = f"SELECT *, '{value}'::{type_} AS w FROM readings"
    with pytest.raises(SourceError, match=r"watermark: 'w' holds .*no row could be new"):
        read(opened(pg.uri, query=query, watermark="w"))


def test_rows_with_the_same_watermark_come_in_one_order_whatever_the_table_does(pg, opened):
    pg.run(insert(*(row(1, v=place, hour=0) for place in range(5))))
    before = values(read(opened(pg.uri, watermark="id")))
    pg.run("UPDATE readings SET v = v WHERE v < 3")  # moves these rows behind the others
    assert values(read(opened(pg.uri, watermark="id"))) == before


def test_stamps_of_a_zone_wide_rows_and_covariates_come_as_from_a_file(lab, opened):
    lab.run("CREATE TABLE wide (at text, north text, south double precision, wind double precision)")
    lab.run("INSERT INTO wide VALUES ('01.07.2024 12:00', '1,5', 2.5, 7), ('01.07.2024 13:00', '3.5', 4.5, 8)")
    [batch] = read(
        opened(
            lab.uri,
            query="SELECT * FROM wide",
            columns={"timestamp": "at", "target": ["north", "south"]},
            timezone="Europe/Berlin",
            timestamp_format="%d.%m.%Y %H:%M",
            rename={"wind": "breeze"},
            pipeline={"past_covariates": ["breeze"]},
        )
    )
    assert sorted(batch.frame.drop("#row").rows()) == [
        ("north", datetime(2024, 7, 1, 11, tzinfo=UTC), 3.5, 8.0),
        ("south", datetime(2024, 7, 1, 10, tzinfo=UTC), 2.5, 7.0),
        ("south", datetime(2024, 7, 1, 11, tzinfo=UTC), 4.5, 8.0),
    ]
    assert batch.rejected["row"].to_list() == [1]


def test_a_repeated_hour_is_told_apart_across_readings(lab, opened):
    lab.run("CREATE TABLE local (id bigint, at text, v double precision)")
    hours = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]  # Berlin, 27 October 2024

    def add(place):
        lab.run(f"INSERT INTO local VALUES ({place}, '2024-10-27 {hours[place]}', {place})")

    reader = opened(
        lab.uri, query="SELECT * FROM local", columns={"timestamp": "at", "target": "v"}, watermark="id",
        timezone="Europe/Berlin",
    )  # fmt: skip
    found, cursor = {}, None
    for place in range(len(hours)):
        add(place)
        for batch in read(reader, cursor):
            found |= dict(batch.frame.select("timestamp", "target").iter_rows())
            cursor = batch.cursor
    stamps = [datetime(2024, 10, 26, 23, 30, tzinfo=UTC) + timedelta(minutes=30 * place) for place in range(6)]
    assert found == {stamp: float(place) for place, stamp in enumerate(stamps)}


def test_a_row_of_the_future_is_read_again_once_it_is_past(lab, opened):
    soon = datetime.now(UTC) + timedelta(seconds=1)
    lab.run(insert(row(1), f"(2, 'a', '{soon.replace(tzinfo=None)}', 2.5)", row(3)))
    reader = opened(lab.uri, watermark="id", batch_rows=1)
    first = read(reader)
    assert values(first) == [1.5, 3.5]
    assert "dated after now" in first[1].rejected["reason"][0]
    time.sleep(max((soon - datetime.now(UTC)).total_seconds(), 0) + 0.01)
    assert 2.5 in values(read(reader, first[-1].cursor))


def test_until_leaves_later_rows_and_the_cursor(lab, opened):
    lab.run(insert(*(row(number) for number in range(9))))
    reader = opened(lab.uri, watermark="id", batch_rows=2)
    batches = read(reader, until=datetime(2024, 1, 1, 3))
    assert values(batches) == [0.5, 1.5, 2.5, 3.5]
    assert all(batch.cursor == {} for batch in batches)


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


# Into the table


def observations(pipeline):
    return table.read(pipeline.table("observations"))


class CrashError(Exception):
    pass


def test_crashes_between_commits_leave_the_table_of_one_clean_run(lab, built, monkeypatch):
    monkeypatch.setattr(ingest_room, "ROWS_PER_COMMIT", 1)
    rng, store, left = random.Random(lab.kind), ingest_room.store, [0]

    def failing(*args, **keys):
        if left[0] == 0:
            raise CrashError
        left[0] -= 1
        return store(*args, **keys)

    monkeypatch.setattr(ingest_room, "store", failing)
    crashing, clean = (
        built(lab.uri, pipeline={"name": name}, series="s", watermark="id", batch_rows=rows)
        for name, rows in (("crashing", 3), ("clean", 1000))
    )
    number = 0
    for _ in range(3):
        rows = []
        for _ in range(12):
            number += rng.random() < 0.6
            rows.append(row(number, v=rng.randrange(100), hour=rng.randrange(40), who=rng.choice("ab")))
        lab.run(insert(*rows), f"INSERT INTO readings VALUES ({number}, NULL, '2024-01-01', {number})")
        left[0] = rng.randrange(4)
        with suppress(CrashError):
            ingest(crashing)
        left[0] = 1000
        ingest(crashing)
    ingest(clean)
    assert observations(crashing).equals(observations(clean))
    quarantined = [sorted(table.read(each.table("quarantine"))["content"]) for each in (crashing, clean)]
    assert quarantined[0] == quarantined[1]
    assert len(quarantined[0]) == 3
    version = table.version(crashing.table("observations"), {})
    monkeypatch.setattr(ingest_room, "ROWS_PER_COMMIT", 1_000_000)
    again = ingest(crashing)
    assert (again.inserted, again.updated, again.version) == (0, 0, version)
