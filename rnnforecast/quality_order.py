"""New readings in the two orders that the report looks at them in, as arrays."""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from rnnforecast.columns import SERIES_ID, TIMESTAMP
from rnnforecast.quality_findings import Array, Spots

MOST: Final = 200_000  # rows that are looked at; of more, whole series by chance (a report is not to cost a load)


@dataclass(frozen=True)
class Ordered:
    """Rows sorted by series and time, those of one time in the order of reading.

    names: of the series by code; code, time: of each row (microseconds or steps); frame: the rows; is_time: whether
    timestamps are times; read: time and code in the order of reading.
    """

    names: list[str]
    code: Array
    time: Array
    frame: pl.DataFrame
    is_time: bool
    read: tuple[Array, Array]

    def spots(self, at: Array) -> Spots:
        """Some of the rows, as places of findings."""
        return Spots(self.names, self.code[at], self.time[at])

    def values(self, column: str) -> Array:
        """A column as floats, NaN where there is no reading."""
        return self.frame[column].to_numpy()

    def say(self, time: Any) -> str:
        """A timestamp as people read it."""
        return moment(int(time)) if self.is_time else str(int(time))

    def span(self, length: float) -> str:
        """A length of time as people read it."""
        return duration(length) if self.is_time else f"{int(length):,} steps"


def ordered(frame: pl.DataFrame) -> Ordered:
    """Sort new readings, a sample of their series where they are many."""
    if len(frame) > MOST:
        frame = _sample(frame)
    names = frame[SERIES_ID].unique(maintain_order=True)
    code = frame[SERIES_ID].cast(pl.Enum(names)).to_physical().cast(pl.Int64)
    rows = frame.with_columns(code.alias("#code"), pl.col(TIMESTAMP).to_physical().alias("#time"))
    read = rows["#time"].to_numpy(), rows["#code"].to_numpy()
    same = read[1][1:] == read[1][:-1]
    if not ((read[1][1:] > read[1][:-1]) | (same & (read[0][1:] >= read[0][:-1]))).all():
        rows = rows.sort("#code", "#time", maintain_order=True)
    is_time = frame.schema[TIMESTAMP].is_temporal()
    return Ordered(names.to_list(), rows["#code"].to_numpy(), rows["#time"].to_numpy(), rows, is_time, read)


def moment(microseconds: int) -> str:
    """2024-01-31 12:00, in UTC."""
    said = datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return said.removesuffix(":00").removesuffix(" 00:00")


def duration(microseconds: float) -> str:
    """3d, 2h, 15m or 1s: the largest unit that leaves a short number."""
    seconds = microseconds / 1e6
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g}{unit}"
    return f"{seconds:.3g}s"


def _sample(frame: pl.DataFrame) -> pl.DataFrame:
    """Whole series, always the same ones, up to the rows that are looked at; of one long series its first rows."""
    counts = frame[SERIES_ID].value_counts()
    chosen: list[str] = []
    rows = 0
    for name, count in sorted(counts.rows(), key=lambda row: (zlib.crc32(row[0].encode()), row[0])):
        if not chosen or rows + count <= MOST:
            chosen.append(name)
            rows += count
    return frame.filter(pl.col(SERIES_ID).is_in(chosen)).head(MOST)
