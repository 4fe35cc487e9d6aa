"""A REST endpoint as a source: a batch per page, asked again from the newest time that came whole.

Pages come in any order, so that the time to ask from moves on only with the last of them: a reading that was
interrupted asks again from where it began.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

import httpx
import polars as pl

from rnnforecast.columns import TARGET, TIMESTAMP
from rnnforecast.config import HttpSource, Pipeline
from rnnforecast.frequency import span
from rnnforecast.secrets import hidden
from rnnforecast.sources.base import REJECTED, Batch, Cursor, SourceError, Until, empty_long, identity
from rnnforecast.sources.http_client import Client, http_address
from rnnforecast.sources.http_pages import Pages
from rnnforecast.sources.layout import Mapping
from rnnforecast.sources.parse import Memory, to_long
from rnnforecast.sources.spans import up_to

EPOCHS: Final = {"epoch_s": timedelta(seconds=1), "epoch_ms": timedelta(milliseconds=1)}
REPEATED: Final = timedelta(hours=2)  # before a time in the repeated hour of a clock change, that hour has not begun
Newest = datetime | int | None


class HttpReader:
    """Reads an endpoint's pages, from the newest time of the last reading on where it can be asked for that."""

    def __init__(self, pipeline: Pipeline, source: HttpSource) -> None:
        self._source = source
        self._home, self.label = _endpoint(source.url)
        self._mapping = Mapping.of(pipeline, source, self.label)
        asked = {name: hidden(str(value)) for name, value in source.parameters.items()}
        place = [hidden(source.url.rpartition("@")[2]), source.format, source.records, source.since]
        self.key = identity("http", self.label, [place, asked, self._mapping.decisive])
        self._client: Client | None = None

    def read(self, cursor: Cursor | None, *, until: Until = None) -> Iterator[Batch]:
        """Yield the endpoint's pages; with `until` the cursor stays, and all rows since it are looked at.

        Raises SourceError for an endpoint that cannot be reached, refuses, or gives what was not described.
        """
        before = cursor or {}
        memory, newest = Memory.of(before.get("memory")), _newest_of(before)
        self._client = Client(self._source, self._home, self.label)
        try:
            for page in Pages(self._client, self._source, self._home, self.label).read(self._since(newest)):
                read = to_long(page.rows, self._mapping, name=page.name, memory=memory)
                memory, newest = read.memory, _newer(newest, read.frame)
                batch = Batch(read.frame, read.rejected, before, page.name, read.changes)
                if until is None:
                    yield replace(batch, cursor=_cursor(memory, _newest_of(before)))
                else:
                    yield replace(batch, frame=up_to(batch.frame, until, self.label))
        finally:
            self.close()
        ended = _cursor(memory, newest)
        if until is None and self._source.since is not None and newest != _newest_of(before):
            yield Batch(empty_long(self._mapping.covariates), pl.DataFrame(schema=REJECTED), ended, self.label)

    def stored(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """The connections go."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _since(self, newest: Newest) -> dict[str, str]:
        """The query parameter that asks for rows from the newest time on, `lookback` before it."""
        if self._source.since is None or newest is None:
            return {}
        back, form = self._source.lookback, self._source.since_format
        if isinstance(newest, int):
            if not str(back or 0).isdigit():
                raise SourceError(f"{self.label}: lookback: expected integer steps, as timestamps are; found {back!r}")
            return {self._source.since: str(newest - int(back or 0))}
        length = span(str(back)) if back is not None else timedelta(0)
        if length is None:
            raise SourceError(f"{self.label}: lookback: expected a length of time such as 2d or 6h; found {back!r}")
        moment = newest - length
        zone = ZoneInfo(self._source.timezone) if self._source.timezone in available_timezones() else UTC
        local = moment.astimezone(zone)
        if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
            # Stamps without a zone are told apart there by their order, so the hour is read from its start.
            moment = moment - REPEATED
            local = moment.astimezone(zone)
        if form in EPOCHS:
            return {self._source.since: str((moment - datetime(1970, 1, 1, tzinfo=UTC)) // EPOCHS[form])}
        text = moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if form == "iso" else local.strftime(form)
        return {self._source.since: text}


def _endpoint(url: str) -> tuple[httpx.URL, str]:
    """The address, and how messages call it: without user, query and fragment."""
    home = http_address(httpx.URL, url)
    if home is None:
        raise SourceError(f"url: expected an address such as https://host/path; found {url.split('?')[0][:80]!r}")
    return home.copy_with(fragment=None), hidden(str(home.copy_with(query=None, fragment=None, userinfo=b"")))


def _cursor(memory: Memory, newest: Newest) -> Cursor:
    """The next reading begins before these rows: repeated hours among them begin anew."""
    since = newest.isoformat() if isinstance(newest, datetime) else newest
    return {"since": since, "memory": replace(memory, folds=frozenset()).as_cursor()}


def _newest_of(cursor: Cursor) -> Newest:
    since: Any = cursor.get("since")
    return datetime.fromisoformat(since) if isinstance(since, str) else since


def _newer(newest: Newest, frame: pl.DataFrame) -> Newest:
    """The newest time that has a reading: rows that hold only what is known ahead do not count."""
    found: Any = frame.filter(pl.col(TARGET).is_not_null())[TIMESTAMP].max()
    if found is None or (newest is not None and isinstance(found, datetime) != isinstance(newest, datetime)):
        return newest if found is None else found
    return found if newest is None else max(found, newest)
