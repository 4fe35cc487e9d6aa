"""One page after the other, until there is none: by number, offset, token or link.

What an endpoint says of its next page is not trusted to end: a page that repeats, a link that leads back and a page
after `MOST_PAGES` others end the reading, or are refused where rows would be lost by that.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import polars as pl

from rnnforecast.config import HttpSource
from rnnforecast.sources.base import ROW, SourceError
from rnnforecast.sources.http_client import Answer, Client, NoSuchPageError
from rnnforecast.sources.http_rows import at, json_rows, parsed, shifted, text_rows
from rnnforecast.sources.rows import Rows

MOST_PAGES: Final = 100_000


@dataclass(frozen=True)
class Page:
    """A page: its rows, numbered on from the page before, how many they are, and what messages call it."""

    rows: Rows
    count: int
    name: str


class Pages:
    """The pages of one reading of an endpoint."""

    def __init__(self, client: Client, source: HttpSource, home: httpx.URL, label: str) -> None:
        self._client = client
        self._source = source
        self._paging = source.paging
        self._home = home
        self._label = label
        self._parameter = source.paging.parameter or source.paging.kind

    def read(self, since: dict[str, str]) -> Iterator[Page]:
        """Yield the pages with rows; `since`: the query parameter that asks for later rows, if any.

        Raises SourceError for a page that cannot be had or read, and for pages that go in circles.
        """
        url: httpx.URL | None = self._first(since)
        seen, before, count, number = set[str](), "", 0, 0
        while url is not None:
            number += 1
            seen.add(str(url))
            if number > MOST_PAGES:
                raise SourceError(f"{self._label}: more than {MOST_PAGES:,} pages; raise the size of a page")
            place = f"page {number}"
            try:
                answer = self._client.get(url, place)
            except NoSuchPageError:
                if number == 1 or self._paging.kind not in ("page", "offset"):
                    raise
                return  # that is how some endpoints say that there is no further page
            page, document = self._page(answer, place, count)
            if page.count == 0 and self._paging.kind in ("page", "offset"):
                return
            digest = _digest(page.rows)
            if page.count and digest == before:
                self._check_repeat(page, number)
                return
            yield page
            before, count = digest, count + page.count
            url = self._next(answer, document, url, number=number, count=count)
            if url is not None and str(url) in seen:
                if str(url) == str(answer.url):
                    return  # a last page whose link is to itself
                raise SourceError(
                    f"{self._label}: {place}: its next page is one read before: the pages go in circles; check "
                    f"`paging:` against the endpoint's description"
                )

    def _first(self, since: dict[str, str]) -> httpx.URL:
        fixed = {name: str(value) for name, value in self._source.parameters.items()}
        paging = self._paging
        if paging.size is not None and paging.size_parameter is not None:
            fixed[paging.size_parameter] = str(paging.size)
        first = {"page": {self._parameter: str(paging.start)}, "offset": {self._parameter: "0"}}.get(paging.kind, {})
        return self._home.copy_merge_params({**fixed, **since, **first})

    def _page(self, answer: Answer, place: str, before: int) -> tuple[Page, Any]:
        """The page in an answer; also the JSON document that it is."""
        name, document = f"{self._label}: {place}", None
        if answer.is_empty:
            rows = Rows(pl.DataFrame(schema={ROW: pl.Int64()}))
        elif self._source.format == "json":
            document = parsed(answer.body, name)
            rows = json_rows(document, self._source.records, name=name)
        else:
            rows = text_rows(answer.body, self._source, name=name)
        count = len(rows.frame) + len(rows.misfits)
        return Page(shifted(rows, before), count, name), document

    def _next(self, answer: Answer, document: Any, url: httpx.URL, *, number: int, count: int) -> httpx.URL | None:
        """The address of the next page, after `number` pages and `count` rows; None where the endpoint names none."""
        paging = self._paging
        if paging.kind == "none":
            return None
        if paging.kind == "page":
            return url.copy_set_param(self._parameter, str(paging.start + number))
        if paging.kind == "offset":
            return url.copy_set_param(self._parameter, str(count))
        found = at(document, paging.token) if paging.token else answer.link
        if not found or not isinstance(found, str):
            return None
        if paging.kind == "token":
            return url.copy_set_param(self._parameter, found)
        place = f"page {number}"
        target = self._client.joined(answer.url, found, place)
        if not self._client.is_home(target):
            raise SourceError(
                f"{self._label}: {place}: its link leads to another server ({target.host}), which may not see what is "
                f"meant for this one; make it the `url:` if it is the endpoint"
            )
        missing = {k: str(v) for k, v in self._source.parameters.items() if k not in target.params}
        return target.copy_merge_params(missing)

    def _check_repeat(self, page: Page, number: int) -> None:
        """Raise for a second page that is the first, unless that is a short one: the endpoint does not page so."""
        short = self._paging.size is not None and page.count < self._paging.size
        if number == 2 and not short:
            raise SourceError(
                f"{page.name} is page 1 again: the endpoint does not heed `{self._parameter}`; correct `paging:`, or "
                f"set `paging: size:`, so that a page with fewer rows is known to be the last"
            )


def _digest(rows: Rows) -> str:
    """What a page holds, wherever its rows are counted from."""
    seen = hashlib.sha256(rows.frame.drop(ROW).hash_rows().to_numpy().tobytes() if rows.frame.width > 1 else b"")
    seen.update("\0".join(content for _, _, content in rows.misfits).encode())
    return seen.hexdigest()
