"""A query as a source: SQLite and PostgreSQL read alike, from a watermark on, with nothing lost."""

import math
import random
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from reading import read, values
from sql_reading import START, insert, row

from rnnforecast import ingest as ingest_room
from rnnforecast import table
from rnnforecast.ingest import ingest
from rnnforecast.sources import SourceError

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
