"""Requests that try again, wait as they are told, and take no more than they can hold.

What the pipeline file gives for an endpoint (headers, fixed parameters) is for that endpoint: no other host gets it.
"""

import logging
import random
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from rnnforecast.config import HttpSource
from rnnforecast.sources.base import SourceError
from rnnforecast.sources.rows import one_line

REDIRECTS: Final = 5
LONGEST_DELAY: Final = 30.0  # seconds between two tries of our own
LONGEST_WAIT: Final = 120.0  # seconds that a server may make us wait
PATIENCE: Final = 20  # an answer that drips may take so many times the timeout
CHUNK: Final = 64 * 1024
PASSING: Final = (408, 425, 429)  # and all from 500
EITHER_HEADER: Final = 47  # zlib: a gzip or a zlib header, whichever there is


@dataclass(frozen=True)
class Answer:
    """What came: the bytes unpacked, where the header `Link` leads next, and the address that answered."""

    body: bytes
    link: str | None
    url: httpx.URL
    is_empty: bool  # says so itself (204)


class NoSuchPageError(SourceError):
    """The endpoint answers 404."""


class _PassingError(Exception):
    """A failure that may be gone at the next try; `wait`: seconds the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def http_address(make: Callable[[str], httpx.URL], text: str) -> httpx.URL | None:
    """The address that `make` gives for a text; None where that is none of http or https."""
    try:
        found = make(text)
    except (httpx.InvalidURL, ValueError):
        return None
    return found if found.scheme in ("http", "https") and found.host else None


class Client:
    """Asks one endpoint; messages call it `label`, which has no query and no user."""

    def __init__(self, source: HttpSource, home: httpx.URL, label: str) -> None:
        self._source = source
        self._home = home
        self._label = label
        self._headers = {name: value.get_secret_value() for name, value in source.headers.items()}
        for name, value in self._headers.items():
            if not (name.isascii() and name.isprintable() and value.isascii() and value.isprintable()):
                raise SourceError(
                    f"{label}: headers: '{name}': expected printable ASCII; check the value for line ends"
                )
        logging.getLogger("httpx").addFilter(_without_query)
        self._http = httpx.Client(timeout=source.timeout, headers={"accept-encoding": "gzip"})

    def get(self, url: httpx.URL, place: str) -> Answer:
        """The answer to a request; `place` says in messages which it is.

        Raises SourceError once all `attempts` have failed, or at once where another try would not help.
        """
        attempts = self._source.attempts
        for attempt in range(1, attempts + 1):
            try:
                return self._once(url, place)
            except _PassingError as error:
                delay = min(self._source.backoff * 2 ** (attempt - 1), LONGEST_DELAY) * random.uniform(0.5, 1.0)
                wait = delay if error.wait is None else error.wait
                if attempt == attempts or wait > LONGEST_WAIT:
                    asked = f", which asks to wait {wait:.0f} s" if wait > LONGEST_WAIT else ""
                    times = "once" if attempt == 1 else f"{attempt} times"
                    raise SourceError(
                        f"{self._label}: {place}: failed temporarily, tried {times}: {error}{asked}; try again later"
                    ) from None
            time.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def is_home(self, url: httpx.URL) -> bool:
        """Whether an address is of the endpoint's own server, which may see what is meant for it."""
        if (url.scheme, url.host, url.port) == (self._home.scheme, self._home.host, self._home.port):
            return True
        upgraded = (self._home.scheme, self._home.port, url.scheme, url.port) == ("http", None, "https", None)
        return upgraded and url.host == self._home.host

    def _once(self, url: httpx.URL, place: str) -> Answer:
        for _ in range(REDIRECTS + 1):
            headers = self._headers if self.is_home(url) else {}
            try:
                with self._http.stream("GET", url, headers=headers) as response:
                    if not response.has_redirect_location:
                        self._check(response, place)
                        link = response.links.get("next", {}).get("url")
                        return Answer(self._body(response, place), link, url, response.status_code == 204)
                    url = self.joined(url, response.headers["location"], place)
            except httpx.TimeoutException:
                raise _PassingError(f"timed out after {self._source.timeout:g} s") from None
            except httpx.LocalProtocolError:
                raise SourceError(f"{self._label}: {place}: no valid request; check `url:` and `headers:`") from None
            except httpx.TransportError as error:
                raise _PassingError(f"the connection failed ({one_line(error)})") from None
        raise SourceError(f"{self._label}: {place}: more than {REDIRECTS} redirects; set `url:` to where they lead")

    def joined(self, url: httpx.URL, target: str, place: str) -> httpx.URL:
        """Where `target`, in an answer of `url`, leads to; raises SourceError for what is no http address."""
        found = http_address(url.join, target)
        if found is None:
            raise SourceError(f"{self._label}: {place}: expected a link to an http address; found {target[:60]!r}")
        return found

    def _check(self, response: httpx.Response, place: str) -> None:
        """Raise for an answer that is none."""
        status = f"{response.status_code} {response.reason_phrase}".strip()
        where = f"{self._label}: {place}"
        if response.status_code in PASSING or response.status_code >= 500:
            raise _PassingError(f"status {status}", _wait(response.headers.get("retry-after")))
        if response.status_code in (401, 403):
            raise SourceError(f"{where}: status {status}; check `headers:`, such as Authorization, and its token")
        if response.status_code == 404:
            raise NoSuchPageError(f"{where}: status {status}; check `url:` and `parameters:`")
        if response.status_code not in range(200, 300):
            raise SourceError(f"{where}: status {status}, where rows were expected; check `url:` and `parameters:`")

    def _body(self, response: httpx.Response, place: str) -> bytes:
        """The answer's bytes, unpacked piece by piece up to the limit."""
        encoding, most = response.headers.get("content-encoding", "identity").strip().lower(), self._source.most_bytes
        if encoding not in ("identity", "", "gzip", "deflate"):
            raise SourceError(f"{self._label}: {place}: expected gzip or no packing; found {encoding[:40]!r}")
        unpack = _Unpacker() if encoding in ("gzip", "deflate") else None
        late, parts, size = time.monotonic() + PATIENCE * self._source.timeout, list[bytes](), 0
        try:
            for chunk in response.iter_raw(CHUNK):
                part = unpack.feed(chunk, most - size + 1) if unpack else chunk
                parts.append(part)
                size += len(part)
                if size > most:
                    raise SourceError(
                        f"{self._label}: {place}: the answer has more than {most:,} bytes; ask for less by "
                        f"`paging: size:`, or raise `most_bytes:`"
                    )
                if time.monotonic() > late:
                    raise _PassingError(f"timed out after {PATIENCE * self._source.timeout:g} s, within the answer")
        except zlib.error:
            raise SourceError(f"{self._label}: {place}: the answer says it is {encoding}, and is not") from None
        if unpack and not unpack.ended:
            raise _PassingError("the connection ended within the answer")
        return b"".join(parts)


class _Unpacker:
    """Unpacks gzip (one part or several) or zlib, never more at a time than it is asked for."""

    def __init__(self) -> None:
        self._part = zlib.decompressobj(EITHER_HEADER)

    def feed(self, data: bytes, most: int) -> bytes:
        found = self._part.decompress(data, most)
        while self._part.eof and self._part.unused_data and len(found) < most:
            rest, self._part = self._part.unused_data, zlib.decompressobj(EITHER_HEADER)
            found += self._part.decompress(rest, most - len(found))
        return found

    @property
    def ended(self) -> bool:
        return self._part.eof


def _wait(header: str | None) -> float | None:
    """The seconds that `Retry-After` asks for: a number, or a date."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def _without_query(record: logging.LogRecord) -> bool:
    """A filter of httpx's own log lines: addresses without query and user, as both may hold secrets."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            str(part.copy_with(query=None, userinfo=b"")) if isinstance(part, httpx.URL) else part
            for part in record.args
        )
    return True
