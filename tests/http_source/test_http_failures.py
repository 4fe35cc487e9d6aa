"""A REST endpoint as a source: every way to fail, and nobody else sees the token."""

import json
import logging
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from http_reading import ROWS, numbered, records
from http_server import Reply, serving
from reading import read, values

from rnnforecast.sources import SourceError

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
