"""A REST endpoint as a source: what is read of it, from where on, and into the table."""

import json
import random
from datetime import timedelta

import pytest
from http_reading import ROWS, START, by_number, numbered, record, records
from http_server import Reply, serving
from reading import read, values

from rnnforecast import table
from rnnforecast.ingest import ingest
from rnnforecast.sources import SourceError

# What is read


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (records(0, 3), {}),
        ({"data": {"items": records(0, 3)}}, {"records": "data.items"}),
        ({"sets": [{"rows": records(0, 3)}]}, {"records": "sets.0.rows"}),
        (
            {"hourly": {"time": [row["time"] for row in records(0, 3)], "value": [0.5, 1.5, 2.5]}},
            {"records": "hourly"},
        ),
        (b"\n".join(json.dumps(row).encode() for row in records(0, 3)), {"format": "jsonl"}),
        (b"time;value\n2024-01-01 00:00;0.5\n2024-01-01 01:00;1.5\n2024-01-01 02:00;2.5\n", {"format": "csv"}),
    ],
    ids=["list", "path", "path with a number", "a list for each column", "json lines", "csv"],
)
def test_an_answer_is_read_however_its_rows_stand_in_it(opened, body, keys):
    with serving(lambda asked: body) as endpoint:
        [batch] = read(opened(endpoint.url, **keys, **({"separator": ";"} if "format" in keys else {})))
    assert batch.frame.select("timestamp", "target").rows() == [
        (START + timedelta(hours=hour), hour + 0.5) for hour in range(3)
    ]
    assert batch.rejected.is_empty()


def test_a_single_object_at_the_path_is_one_row(opened):
    with serving(lambda asked: {"current": record(7)}) as endpoint:
        assert values(read(opened(endpoint.url, records="current"))) == [7.5]


def test_numbers_keep_their_digits_into_the_quarantine(opened):
    body = (
        b'[{"time": "2024-01-01", "value": 1, "id": 12345678901234567890.10}, {"time": "x", "value": 1, "id": 1e400}]'
    )
    with serving(lambda asked: body) as endpoint:
        [batch] = read(opened(endpoint.url, columns={"timestamp": "time", "target": "value", "series_id": "id"}))
    assert batch.frame["series_id"].to_list() == ["12345678901234567890.10"]
    assert json.loads(batch.rejected["content"][0])["id"] == "1e400"


def test_a_record_that_is_no_object_goes_to_quarantine_with_its_number(opened):
    rows = [*records(0, 10), 5, *records(10, 12), ["x"], {"time": "\ud800"}]
    with serving(lambda asked: numbered(asked, rows)) as endpoint:
        batches = read(opened(endpoint.url, paging={"kind": "page"}))
    assert values(batches) == [hour + 0.5 for hour in range(12)]
    rejected = batches[1].rejected
    assert rejected["row"].to_list() == [11, 14, 15]
    assert rejected["content"].to_list()[:2] == ['"5"', '["x"]']
    assert rejected["reason"].str.starts_with("the record is not a JSON object").all()


@pytest.mark.parametrize("body", [[], {"items": []}, {"items": None}, b"time,value\n", b"", Reply(status=204)])
def test_an_answer_without_rows_is_no_failure(opened, body):
    keys = {"format": "csv"} if isinstance(body, bytes) else {"records": "items"} if isinstance(body, dict) else {}
    with serving(lambda asked: body) as endpoint:
        assert values(read(opened(endpoint.url, **keys))) == []


@pytest.mark.parametrize(
    ("body", "keys", "message"),
    [
        (b"<html>", {}, "page 1: expected JSON; found '<html>'.*set `format:`"),
        (b'{"a": [', {}, "page 1: expected JSON"),
        (b"[" * 200_000, {}, "nested too deep"),
        ({"items": [], "more": 1}, {}, "expected a list of rows at the top; found an object; set `records:`.*items"),
        ({"items": []}, {"records": "item"}, "at `records: item`; found nothing; .*such as items"),
        ({"items": 5}, {"records": "items"}, "found a single value .'5'.; check `records:`"),
        ({"h": {"time": ["2024"], "value": [1, 2]}}, {"records": "h"}, "lists of one length"),
        ([{"time": "2024-01-01"}], {}, "no column 'value'"),
    ],
)
def test_an_answer_that_is_not_as_described_is_refused_by_name(opened, body, keys, message):
    with serving(lambda asked: body) as endpoint, pytest.raises(SourceError, match=message) as error:
        read(opened(endpoint.url, **keys))
    assert "\n" not in str(error.value)


# From where on


def test_the_next_reading_asks_from_the_newest_time_that_came(opened):
    rows = records(0, 10)

    def answer(asked):
        since = asked.query.get("from", "")
        return [row for row in rows if row["time"].replace("+00:00", "Z") >= since]

    with serving(answer) as endpoint:
        reader = opened(endpoint.url, since="from")
        first = read(reader)
        rows += records(10, 12)
        second = read(reader, first[-1].cursor)
        assert endpoint.asked[1].query == {"from": "2024-01-01T09:00:00Z"}
    assert values(second) == [9.5, 10.5, 11.5]
    assert second[-1].cursor["since"] == "2024-01-01T11:00:00+00:00"


def test_the_time_to_ask_from_moves_on_with_the_last_page_only(opened):
    with serving(by_number) as endpoint:
        batches = read(opened(endpoint.url, since="from", paging={"kind": "page"}))
    assert [batch.cursor["since"] for batch in batches] == [None, None, None, "2024-01-02T00:00:00+00:00"]


@pytest.mark.parametrize(
    ("keys", "asked_for"),
    [
        ({}, "2024-01-02T00:00:00Z"),
        ({"lookback": "2h"}, "2024-01-01T22:00:00Z"),
        ({"since_format": "epoch_s"}, "1704153600"),
        ({"since_format": "epoch_ms", "lookback": "1d"}, "1704067200000"),
        ({"since_format": "%Y-%m-%d"}, "2024-01-02"),
        ({"since_format": "%d.%m.%Y %H:%M", "timezone": "America/New_York"}, "01.01.2024 19:00"),
    ],
)
def test_the_time_is_written_as_the_endpoint_wants_it(opened, keys, asked_for):
    with serving(lambda asked: records(0, 25)) as endpoint:
        reader = opened(endpoint.url, since="from", **keys)
        read(reader, read(reader)[-1].cursor)
        assert endpoint.asked[1].query == {"from": asked_for}


def test_integer_steps_are_asked_from_as_well(opened):
    with serving(lambda asked: [{"time": step, "value": step} for step in range(9)]) as endpoint:
        reader = opened(endpoint.url, since="from", lookback=3)
        read(reader, read(reader)[-1].cursor)
        assert endpoint.asked[1].query == {"from": "5"}


def test_a_lookback_of_another_kind_is_refused(opened):
    with serving(lambda asked: ROWS) as endpoint:
        cursor = read(opened(endpoint.url, since="from"))[-1].cursor
        with pytest.raises(SourceError, match="lookback: expected a length of time such as 2d or 6h; found 3"):
            read(opened(endpoint.url, since="from", lookback=3), cursor)


def test_a_repeated_hour_is_asked_from_its_start(opened):
    hours = ["01:30", "02:00", "02:30", "02:00", "02:30"]  # in Berlin, 27 October 2024; the last is 01:30 UTC
    rows = [{"time": f"2024-10-27 {hour}", "value": place} for place, hour in enumerate(hours)]

    def answer(asked):
        return rows if asked.query.get("from", "") <= "2024-10-27T00:00:00Z" else rows[-1:]

    with serving(answer) as endpoint:
        reader = opened(endpoint.url, since="from", timezone="Europe/Berlin")
        first = read(reader)
        assert first[-1].cursor["since"] == "2024-10-27T01:30:00+00:00"
        second = read(reader, first[-1].cursor)
    assert second[0].frame.drop("#row").equals(first[0].frame.drop("#row"))


def test_until_leaves_later_rows_and_the_cursor(opened):
    with serving(by_number) as endpoint:
        batches = read(opened(endpoint.url, since="from", paging={"kind": "page"}), until=START + timedelta(hours=11))
    assert values(batches) == [hour + 0.5 for hour in range(12)]
    assert all(batch.cursor == {} for batch in batches)


# Into the table


def observations(pipeline):
    return table.read(pipeline.table("observations"))


def test_rows_that_shift_while_they_are_paged_are_taken_once(built, tmp_path):
    rows = records(10, 30)

    def answer(asked):
        newest_first = sorted(rows, key=lambda row: row["time"], reverse=True)
        found = numbered(asked, newest_first)
        rows.append(record(30 + asked.number))
        return found

    with serving(answer) as endpoint:
        pipeline = built(endpoint.url, paging={"kind": "page"})
        ingest(pipeline)
        known = list(rows)
        ingest(pipeline)
    frame = observations(pipeline)
    assert frame["timestamp"].n_unique() == len(frame)
    assert {row["value"] for row in known} <= set(frame["target"])


def test_a_reading_that_breaks_off_ends_as_one_that_did_not(built, tmp_path):
    rows = [*records(0, 40), {"time": "broken", "value": 1}, 7]
    random.Random(0).shuffle(rows)
    failing = [2, 3, 5]

    def answer(asked):
        since = asked.query.get("from", "")
        kept = [row for row in rows if not isinstance(row, dict) or row["time"].replace("+00:00", "Z") >= since]
        if failing and asked.number >= failing[0]:
            failing.pop(0)
            return Reply(status=503)
        return numbered(asked, kept, size=7)

    def pipeline(endpoint, name):
        return built(
            endpoint.url, pipeline={"name": name}, series="s", attempts=1, since="from", paging={"kind": "page"}
        )

    with serving(answer) as endpoint:
        broken, clean = pipeline(endpoint, "broken"), pipeline(endpoint, "clean")
        for _ in range(3):
            with pytest.raises(SourceError, match="status 503"):
                ingest(broken)
        for _ in range(2):
            ingest(broken)
        ingest(clean)
        rows += records(40, 50)
        ingest(broken)
        ingest(clean)
    assert observations(broken).equals(observations(clean))
    assert len(observations(clean)) == 50
    quarantined = [table.read(built_.table("quarantine"))["content"].sort() for built_ in (broken, clean)]
    assert quarantined[0].to_list() == quarantined[1].to_list()
    assert len(quarantined[0]) == 2
