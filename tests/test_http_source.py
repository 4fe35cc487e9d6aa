"""A REST endpoint as a source: every way to page, every way to fail, and nobody else sees the token."""

import json
import logging
import random
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import yaml
from http_server import Reply, serving

from rnnforecast import table
from rnnforecast.config import ConfigError, parse
from rnnforecast.ingest import ingest
from rnnforecast.sources import SourceError, open_source

START = datetime(2024, 1, 1, tzinfo=UTC)
QUICK = {"backoff": 0.01}


def record(hour, value=None):
    return {"time": (START + timedelta(hours=hour)).isoformat(), "value": hour + 0.5 if value is None else value}


def records(first, last):
    return [record(hour) for hour in range(first, last)]


def numbered(asked, rows, size=10):
    """A page by its number."""
    page = int(asked.query["page"])
    return rows[(page - 1) * size : page * size]


@pytest.fixture
def built(tmp_path):
    """A function from a source's keys to a pipeline that has it."""

    def make(url, pipeline=None, **keys):
        source = {"kind": "http", "url": url, "columns": {"timestamp": "time", "target": "value"}, **QUICK, **keys}
        mapping = {"name": "p", "horizon": 1, "sources": [source]} | (pipeline or {})
        return parse(yaml.safe_dump(mapping), file=tmp_path / "p.yaml")

    return make


@pytest.fixture
def opened(built):
    """A function from a source's keys to its reader."""

    def make(url, **keys):
        pipeline = built(url, **keys)
        return open_source(pipeline, pipeline.sources[0])

    return make


def read(reader, cursor=None, until=None):
    return list(reader.read(json.loads(json.dumps(cursor)), until=until))


def values(batches):
    return [value for batch in batches for value in batch.frame["target"].to_list()]


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


# Paging

ROWS = records(0, 25)


def by_number(asked):
    return numbered(asked, ROWS)


def by_offset(asked):
    first = int(asked.query["offset"])
    return ROWS[first : first + 10]  # ten, whatever was asked for


def by_token(asked):
    first = int(asked.query.get("after", 0))
    following = first + 10 if first + 10 < len(ROWS) else None
    return {"rows": ROWS[first : first + 10], "meta": {"next": following}}


def by_link(asked):
    first = int(asked.query.get("p", 0))
    following = f"/rows?p={first + 10}" if first + 10 < len(ROWS) else None
    return {"rows": ROWS[first : first + 10], "next": following}


def by_header(asked):
    first = int(asked.query.get("p", 0))
    link = {"Link": f'</rows?p={first + 10}>; rel="next", </rows>; rel="first"'} if first + 10 < len(ROWS) else {}
    return Reply(ROWS[first : first + 10], headers=link)


PAGINGS = {
    "page": (by_number, {"paging": {"kind": "page"}}, 4),
    "offset": (by_offset, {"paging": {"kind": "offset", "size": 1000, "size_parameter": "limit"}}, 4),
    "token": (
        by_token,
        {"records": "rows", "paging": {"kind": "token", "token": "meta.next", "parameter": "after"}},
        3,
    ),
    "link": (by_link, {"records": "rows", "paging": {"kind": "link", "token": "next"}}, 3),
    "header": (by_header, {"paging": {"kind": "link"}}, 3),
}


@pytest.mark.parametrize("kind", PAGINGS)
def test_every_kind_of_paging_reads_all_rows_once(opened, kind):
    answer, keys, requests = PAGINGS[kind]
    with serving(answer) as endpoint:
        batches = read(opened(endpoint.url + "/rows", parameters={"station": 7}, **keys))
        assert [asked.query["station"] for asked in endpoint.asked] == ["7"] * requests
    assert values(batches) == [hour + 0.5 for hour in range(25)]
    assert [row for batch in batches for row in batch.frame["#row"]] == list(range(1, 26))


def test_a_page_after_the_last_may_be_not_found(opened):
    def answer(asked):
        rows = numbered(asked, ROWS)
        return rows or Reply(status=404)

    with serving(answer) as endpoint:
        assert len(values(read(opened(endpoint.url, paging={"kind": "page"})))) == 25


def test_a_last_page_that_repeats_for_ever_ends_the_reading(opened):
    with serving(lambda asked: numbered(asked, ROWS) or ROWS[20:]) as endpoint:
        assert len(values(read(opened(endpoint.url, paging={"kind": "page"})))) == 25
        assert len(endpoint.asked) == 4


def test_one_short_page_that_repeats_is_all_there_is(opened):
    with serving(lambda asked: ROWS[:3]) as endpoint:
        assert len(values(read(opened(endpoint.url, paging={"kind": "page", "size": 10})))) == 3


@pytest.mark.parametrize("kind", ["page", "offset", "token"])
def test_an_endpoint_that_does_not_heed_the_paging_is_found_out(opened, kind):
    paging = {"kind": kind, "parameter": "cursor"} | ({"token": "next"} if kind == "token" else {})

    def answer(asked):
        return {"rows": ROWS[:10], "next": "abc", "asked": asked.number}

    with serving(answer) as endpoint, pytest.raises(SourceError, match=r"page 2 is page 1 again.*`cursor`"):
        read(opened(endpoint.url, records="rows", paging=paging))


def test_links_that_go_in_circles_are_found_out(opened):
    def answer(asked):
        page = int(asked.query.get("p", 0))
        return {"rows": ROWS[page * 5 : page * 5 + 5], "next": f"/?p={(page + 1) % 3}"}

    with serving(answer) as endpoint, pytest.raises(SourceError, match=r"page 3: its next page.*go in circles"):
        read(opened(endpoint.url + "/?p=0", records="rows", paging={"kind": "link", "token": "next"}))


def test_a_last_page_that_links_to_itself_ends_the_reading(opened):
    def answer(asked):
        page = int(asked.query.get("p", 0))
        return {"rows": ROWS[page * 10 : page * 10 + 10], "next": f"/?p={min(page + 1, 2)}"}

    with serving(answer) as endpoint:
        reader = opened(endpoint.url, records="rows", paging={"kind": "link", "token": "next"})
        assert len(values(read(reader))) == 25


def test_pages_without_end_are_refused(opened, monkeypatch):
    monkeypatch.setattr("rnnforecast.sources.http_pages.MOST_PAGES", 5)
    with (
        serving(lambda asked: {"rows": [], "next": str(asked.number)}) as endpoint,
        pytest.raises(SourceError, match="more than 5 pages"),
    ):
        read(opened(endpoint.url, records="rows", paging={"kind": "token", "token": "next"}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"paging": {"kind": "token"}}, "kind token needs `token:`"),
        ({"paging": {"kind": "page", "size_parameter": "limit"}}, "size_parameter needs `size:`"),
        ({"format": "csv", "records": "data"}, "format csv has no paths"),
        ({"url": "file:///etc/passwd"}, "expected an address such as https://"),
        ({"url": "ftp://host/x"}, "expected an address such as https://"),
        ({"url": "http://"}, "expected an address such as https://"),
    ],
)
def test_a_description_that_cannot_be_is_refused(opened, keys, message):
    with pytest.raises((ConfigError, SourceError), match=message):
        opened(**({"url": "http://127.0.0.1"} | keys))


# Failures that pass


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(status=500),
        Reply(status=503, headers={"Retry-After": "0"}),
        Reply(status=429, headers={"Retry-After": format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)}),
        Reply(records(0, 10), cut=30),
        Reply(records(0, 10), cut=30, packed=True),
        Reply(records(0, 10), hold=9),
    ],
    ids=["500", "503", "429", "dropped", "dropped while packed", "hangs"],
)
def test_a_failure_that_passes_is_tried_again_and_no_row_comes_twice(opened, trouble):
    def answer(asked):
        return trouble if asked.number in (2, 3) else numbered(asked, ROWS)

    with serving(answer) as endpoint:
        batches = read(opened(endpoint.url, timeout=0.5 if trouble.hold else 9, paging={"kind": "page"}))
        assert [asked.query["page"] for asked in endpoint.asked] == ["1", "2", "2", "2", "3", "4"]
    assert values(batches) == [hour + 0.5 for hour in range(25)]


def test_a_server_that_asks_to_wait_is_heeded(opened):
    times = []

    def answer(asked):
        times.append(time.monotonic())
        return Reply(status=429, headers={"Retry-After": "1"}) if asked.number == 1 else ROWS

    with serving(answer) as endpoint:
        read(opened(endpoint.url))
    assert 1.0 <= times[1] - times[0] < 3.0


def test_a_server_that_asks_to_wait_for_long_is_left_alone(opened):
    with (
        serving(lambda asked: Reply(status=429, headers={"Retry-After": "3600"})) as endpoint,
        pytest.raises(SourceError, match=r"status 429.*asks to wait 3600 s; try again later"),
    ):
        read(opened(endpoint.url))
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (Reply(status=502), "tried 3 times: status 502 Bad Gateway"),
        (Reply(hold=9), "tried 3 times: timed out after 0.3 s"),
        (Reply(records(0, 9), cut=5), "tried 3 times: the connection failed"),
    ],
)
def test_a_failure_that_does_not_pass_names_the_page_and_can_be_retried_later(opened, trouble, message):
    with serving(lambda asked: trouble) as endpoint:
        with pytest.raises(SourceError, match=f"{endpoint.url}/x: page 1: failed temporarily, {message}") as error:
            read(opened(endpoint.url + "/x?key=abcdef", attempts=3, timeout=0.3 if trouble.hold else 9))
        assert len(endpoint.asked) == 3
    assert "abcdef" not in str(error.value)


def test_an_endpoint_that_is_not_there_is_named(opened):
    with serving(lambda asked: []) as endpoint:
        pass
    with pytest.raises(SourceError, match=r"page 1: failed temporarily, tried 2 times: the connection failed"):
        read(opened(endpoint.url, attempts=2))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "check `headers:`"),
        (403, "check `headers:`"),
        (404, "check `url:`"),
        (400, "check `url:`"),
        (304, "check"),
    ],
)
def test_a_refusal_is_not_tried_again(opened, status, message):
    with serving(lambda asked: Reply(status=status)) as endpoint:
        with pytest.raises(SourceError, match=f"page 1: status {status}.*{message}"):
            read(opened(endpoint.url, paging={"kind": "page"}))
        assert len(endpoint.asked) == 1


def test_an_answer_that_drips_does_not_hold_the_reading_for_ever(opened, monkeypatch):
    monkeypatch.setattr("rnnforecast.sources.http_client.PATIENCE", 0)
    with serving(lambda asked: records(0, 9)) as endpoint, pytest.raises(SourceError, match="within the answer"):
        read(opened(endpoint.url, attempts=1))


# Hostile and careless endpoints


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_an_answer_too_large_is_refused_before_it_is_held(opened, packed):
    body = b"[" + b" " * 50_000_000 + b"]"  # 50 kB once packed
    with (
        serving(lambda asked: Reply(body, packed=packed)) as endpoint,
        pytest.raises(SourceError, match=r"page 1: the answer has more than 1,000,000 bytes.*most_bytes"),
    ):
        read(opened(endpoint.url, most_bytes=1_000_000))


def test_an_answer_of_the_largest_size_is_taken(opened):
    body = json.dumps(ROWS).encode()
    with serving(lambda asked: Reply(body, packed=True)) as endpoint:
        assert len(values(read(opened(endpoint.url, most_bytes=len(body))))) == 25
        with pytest.raises(SourceError, match="more than"):
            read(opened(endpoint.url, most_bytes=len(body) - 1))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[" + b"{}," * 2_000_000 + b"{}]", "more than 2,000,000 lists and objects"),
        (b"[" + b"1," * 1_000_000 + b"1]", "1,000,001 rows in one answer"),
        (b"[{" + b",".join(b'"%d":1' % key for key in range(100_001)) + b"}]", "more than 100,000 different keys"),
    ],
    ids=["objects", "rows", "columns"],
)
def test_an_answer_that_would_grow_beyond_memory_is_refused(opened, body, message):
    with serving(lambda asked: body) as endpoint, pytest.raises(SourceError, match=message):
        read(opened(endpoint.url))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_answer_of_too_many_lines_is_refused(opened, kind):
    with serving(lambda asked: b"1\n" * 1_000_001) as endpoint, pytest.raises(SourceError, match="1,000,000 lines"):
        read(opened(endpoint.url, format=kind))


@pytest.mark.parametrize(
    ("headers", "message"),
    [({"Content-Encoding": "br"}, "expected gzip or no packing; found 'br'"), ({"Content-Encoding": "gzip"}, "is not")],
)
def test_an_answer_packed_in_another_way_is_refused(opened, headers, message):
    with (
        serving(lambda asked: Reply(ROWS, headers=headers)) as endpoint,
        pytest.raises(SourceError, match=message),
    ):
        read(opened(endpoint.url))


def test_the_token_goes_to_the_endpoint_and_to_nobody_else(opened, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "s3cret-token")
    headers = {"Authorization": "Bearer ${API_TOKEN}", "X-Key": "${API_TOKEN}"}
    with serving(lambda asked: ROWS) as other, serving(lambda asked: Reply(status=302, headers=there)) as endpoint:
        there = {"Location": f"{other.url}/elsewhere"}
        assert len(values(read(opened(endpoint.url, headers=headers)))) == 25
        assert endpoint.asked[0].headers["Authorization"] == "Bearer s3cret-token"
        assert endpoint.asked[0].headers["X-Key"] == "s3cret-token"
        assert not {"Authorization", "X-Key"} & set(other.asked[0].headers)


def test_a_redirect_within_the_server_keeps_the_token(opened):
    def answer(asked):
        return ROWS if asked.path == "/new" else Reply(status=307, headers={"Location": "/new"})

    with serving(answer) as endpoint:
        read(opened(endpoint.url + "/old", headers={"X-Key": "k"}))
        assert [asked.headers["X-Key"] for asked in endpoint.asked] == ["k", "k"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("file:///etc/passwd", "expected a link to an http address; found 'file:///etc/passwd'"),
        ("/again", "more than 5 redirects"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_refused(opened, target, message):
    with (
        serving(lambda asked: Reply(status=302, headers={"Location": target})) as endpoint,
        pytest.raises(SourceError, match=message),
    ):
        read(opened(endpoint.url))


def test_a_link_to_another_server_is_refused(opened):
    with (
        serving(lambda asked: {"rows": ROWS, "next": "http://127.0.0.2:9/x"}) as endpoint,
        pytest.raises(SourceError, match=r"its link leads to another server \(127.0.0.2\)"),
    ):
        read(opened(endpoint.url, records="rows", paging={"kind": "link", "token": "next"}))


def test_no_secret_is_in_a_name_a_log_or_an_error(opened, monkeypatch, caplog):
    monkeypatch.setenv("API_KEY", "abc-secret")
    caplog.set_level(logging.INFO)
    with serving(lambda asked: ROWS if asked.number == 1 else Reply(status=400)) as endpoint:
        url = endpoint.url.replace("http://", "http://user:pass-word@") + "/x?key=${API_KEY}&plain=also-secret"
        reader = opened(url, parameters={"token": "${API_KEY}"})
        read(reader)
        with pytest.raises(SourceError) as error:
            read(reader)
        assert endpoint.asked[0].query == {"key": "abc-secret", "plain": "also-secret", "token": "abc-secret"}
        assert endpoint.asked[0].headers["Authorization"].startswith("Basic ")
        monkeypatch.setenv("API_KEY", "another-secret")
        assert opened(url, parameters={"token": "${API_KEY}"}).key == reader.key
    shown = f"{error.value} {reader.label} {reader.key} {caplog.text}"
    assert "/x" in caplog.text
    assert not any(secret in shown for secret in ("abc-secret", "also-secret", "pass-word"))


def test_a_header_with_a_line_end_is_refused_without_showing_it(opened):
    with pytest.raises(SourceError, match="headers: 'X-Key': expected printable ASCII") as error:
        read(opened("http://127.0.0.1:9", headers={"X-Key": "abc\ndef"}))
    assert "abc" not in str(error.value)


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
