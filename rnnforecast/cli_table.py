"""The newest rows of a pipeline's tables."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from rnnforecast import cli_show, config, ingest
from rnnforecast import table as tables
from rnnforecast.columns import SERIES_ID, TIMESTAMP
from rnnforecast.ingest_record import COUNTS

TABLES = ("observations", "quarantine", "forecasts", "ingests", "stale")
AsOf = datetime | int | None


def newest(
    pipeline: config.Pipeline, name: str, *, rows: int, series: str | None = None, as_of: AsOf = None
) -> tuple[str, list[dict[str, Any]]]:
    """A title, and so many of the newest rows of the table `name`, of one series or of all, now or as it was."""
    if name not in TABLES:
        raise config.ConfigError(
            f"table: expected one of {', '.join(TABLES)}; found {name!r}{config.nearest(name, TABLES)}"
        )
    title = f"{pipeline.name}: {name}"
    frame = _stale(pipeline) if name == "stale" else _read(pipeline, name, as_of)
    if frame is None:
        return title, []
    if series is not None and SERIES_ID in frame.columns:
        frame = frame.filter(frame[SERIES_ID] == series)
    title += f", {len(frame):,} rows" + (f", as of {as_of}" if as_of is not None else "")
    if TIMESTAMP in frame.columns:
        frame = frame.sort(TIMESTAMP, maintain_order=True)
    return title, frame.tail(rows).to_dicts()


def _stale(pipeline: config.Pipeline) -> pl.DataFrame | None:
    from rnnforecast import ledger  # torch, which no other table needs

    return ledger.stale(pipeline)


def _read(pipeline: config.Pipeline, name: str, as_of: AsOf) -> pl.DataFrame | None:
    place, storage = pipeline.table(name), pipeline.storage.options
    if tables.version(place, storage) is None:
        return None
    if isinstance(as_of, datetime) and as_of.tzinfo is None:
        as_of = as_of.replace(tzinfo=UTC)
    return tables.read(place, version=as_of, options=storage)


def history(pipeline: config.Pipeline, *, rows: int) -> tuple[str, list[dict[str, Any]]]:
    """A title, and the newest ingests: when, what version of the table came of it, what became of the rows read."""
    found = ingest.history(pipeline)
    shown = found.select("version", "at", *COUNTS).with_columns(
        pl.Series("refused for", [reasons(text) for text in found["reasons"]], dtype=pl.String)
    )
    return (
        f"{pipeline.name}: {len(found):,} ingests (read = inserted + updated + unchanged + duplicates + quarantined)",
        (shown.tail(rows).to_dicts()),
    )


def reasons(text: str) -> str:
    """Counts by reason, in words."""
    return ", ".join(f"{count:,} {reason}" for reason, count in json.loads(text or "{}").items())


def ingested(done: Mapping[str, Any]) -> None:
    """What an ingest did: its counts, what was refused and why, what changed, what looks odd."""
    cli_show.table([{name: done[name] for name in (*COUNTS, "version", "watermark")}], title="ingest")
    cli_show.table([{"source": key, "rows read": value} for key, value in done["sources"].items()], title="sources")
    if done["reasons"]:
        cli_show.table([{"reason": key, "rows": value} for key, value in done["reasons"].items()], title="quarantine")
    if done["changes"]:
        cli_show.table(done["changes"], title="columns that changed")
    if done["findings"]:
        cli_show.table(done["findings"], title="quality")
    for note in done["notes"]:
        cli_show.say(note)
