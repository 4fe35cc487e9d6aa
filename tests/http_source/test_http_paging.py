"""A REST endpoint as a source: every way to page."""

import pytest
from http_reading import ROWS, by_number, numbered
from http_server import Reply, serving
from reading import read, values

from rnnforecast.config import ConfigError
from rnnforecast.sources import SourceError


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
