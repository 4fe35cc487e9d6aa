"""Event time: how far behind the newest reading of its series a row may come."""

from datetime import timedelta

import polars as pl

from rnnforecast.columns import KEY, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.frequency import span
from rnnforecast.ingest_known import PLACES


class LatenessError(ValueError):
    """The allowed lateness does not go with the timestamps; the message says what to write."""


def too_late(frame: pl.DataFrame, watermarks: pl.DataFrame, lateness: str | int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The readings of `frame`, in the order of reading, that come in time, and those that come too late, with a reason.

    A reading is too late if it stands more than `lateness` before the watermark: the newest timestamp that its series
    had when it came, be it in the table (`watermarks`: series_id, watermark) or before it in `frame`. The repeat of
    a reading that came in time is no late reading. Raises LatenessError.
    """
    allowed = _allowed(lateness, frame.schema[TIMESTAMP])
    seen = pl.when(pl.col(TARGET).is_not_null()).then(pl.col(TIMESTAMP))
    newest = seen.cum_max().forward_fill().shift(1).over(SERIES_ID)
    marked = frame.join(watermarks, on=SERIES_ID, how="left", maintain_order="left")
    marked = marked.with_columns(pl.max_horizontal("watermark", newest).alias("watermark"))
    late = (pl.col(TIMESTAMP) < pl.col("watermark") - pl.lit(allowed)).fill_null(False)
    flagged = marked.select(late).to_series()
    if not flagged.any():
        return frame, frame.head(0).with_columns(column=pl.lit(None, pl.String), reason=pl.lit(None, pl.String))
    values = [name for name in frame.columns if name not in PLACES]
    repeat = marked.with_row_index("#place").filter(flagged)
    stands = frame.filter(~flagged).unique(KEY, keep="last")
    repeat = repeat.join(stands, on=values, how="semi", nulls_equal=True)
    flagged = flagged & ~pl.int_range(len(frame), eager=True).is_in(repeat["#place"].implode())
    newest = pl.col("watermark")
    shown = (
        newest.cast(pl.String) if frame.schema[TIMESTAMP] == pl.Int64 else newest.dt.strftime("%Y-%m-%d %H:%M:%S UTC")
    )
    reason = pl.format(f"too late: more than {lateness} before {{}}, the newest reading then", shown)
    refused = marked.filter(flagged).with_columns(pl.lit(TIMESTAMP).alias("column"), reason.alias("reason"))
    return frame.filter(~flagged), refused.drop("watermark")


def _allowed(lateness: str | int, dtype: pl.DataType) -> timedelta | int:
    """The lateness as a span of the timestamps' own kind."""
    steps = dtype == pl.Int64
    if isinstance(lateness, int) and steps:
        return lateness
    length = span(lateness) if isinstance(lateness, str) else None
    if steps or length is None:
        kind = "whole steps, such as 24" if steps else "a span of time, such as 7d or 6h"
        raise LatenessError(f"allowed_lateness: expected {kind}, as the timestamps are; found {lateness!r}")
    return length
