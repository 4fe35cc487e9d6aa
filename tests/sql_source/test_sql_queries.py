"""A query as a source: one SELECT, which writes nothing, and what cells hold."""

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from reading import read, values
from sql_reading import COLUMNS, insert, row

from rnnforecast.sources import SourceError

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
