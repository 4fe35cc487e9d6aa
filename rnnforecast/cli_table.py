"""The newest rows of a pipeline's tables."""

from typing import Any

from rnnforecast import config
from rnnforecast import table as tables
from rnnforecast.columns import SERIES_ID, TIMESTAMP

TABLES = ("observations", "quarantine", "forecasts")


def newest(pipeline: config.Pipeline, name: str, *, rows: int, series: str | None) -> tuple[str, list[dict[str, Any]]]:
    """A title, and so many of the newest rows of the table `name`, of one series or of all."""
    if name not in TABLES:
        raise config.ConfigError(
            f"table: expected observations, quarantine or forecasts; found {name!r}{config.nearest(name, TABLES)}"
        )
    place, storage = pipeline.table(name), pipeline.storage.options
    title = f"{pipeline.name}: {name}"
    if tables.version(place, storage) is None:
        return title, []
    frame = tables.read(place, options=storage)
    if series is not None and SERIES_ID in frame.columns:
        frame = frame.filter(frame[SERIES_ID] == series)
    title += f", {len(frame):,} rows"
    if TIMESTAMP in frame.columns:
        frame = frame.sort(TIMESTAMP, maintain_order=True)
    return title, frame.tail(rows).to_dicts()
