"""The long frame: checked once at the door (`validate`), then put on its regular grid (`normalise`).

Each is made of pieces that also take a frame batch by batch; frame_rows.py goes through one of any size with them.
"""

import difflib
from collections.abc import Mapping, Sequence

import polars as pl

from rnnforecast.columns import KEY, ORDINAL, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.frequency import Frequency, infer


class FrameError(ValueError):
    """A long frame that cannot be used; the message names series, timestamp and column, and the remedy."""


def validate(frame: pl.DataFrame, *, covariates: Sequence[str] = (), repeats: bool = True) -> None:
    """Refuse a long frame that the models would misread.

    Checks, in this order:

    - the columns series_id, timestamp, target and every covariate are there, and there is a row;
    - timestamp is a datetime, a date or an integer; target and covariates are numbers;
    - no series_id or timestamp is null; no (series_id, timestamp) stands twice (unless the caller has seen to these
      `repeats`);
    - no target and no covariate is infinite (a missing reading is null or NaN).

    Raises FrameError.
    """
    check_columns(frame.schema, covariates)
    if frame.is_empty():
        raise no_rows()
    check_types(frame.schema, covariates)
    check_keys(frame)
    if repeats:
        check_repeats(frame)
    check_numbers(frame, covariates)


def check_columns(schema: Mapping[str, pl.DataType], covariates: Sequence[str]) -> None:
    """Refuse a frame that lacks a column. Raises FrameError."""
    columns = list(schema)
    for name in (*KEY, TARGET, *covariates):
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1)
            hint = f"rename `{close[0]}`" if close else f"rename one of {columns[:8]}"
            raise FrameError(f"frame: expected a column `{name}`, found {columns[:8]}; {hint} or map it")


def no_rows() -> FrameError:
    """What is said of a frame without rows."""
    return FrameError("frame: expected at least one row, found none; check the source or the filter before it")


def check_types(schema: Mapping[str, pl.DataType], covariates: Sequence[str]) -> None:
    """Refuse times that are none and values that are no numbers. Raises FrameError."""
    time = schema[TIMESTAMP]
    if not (time.is_integer() or time in (pl.Datetime, pl.Date)):
        raise FrameError(
            f"frame: `timestamp` must be a datetime, a date or an integer step, found {time}; "
            "parse it first, e.g. with str.to_datetime()"
        )
    for name in (TARGET, *covariates):
        dtype = schema[name]
        if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)):
            raise FrameError(f"frame: `{name}` must hold numbers, found {dtype}; cast it, texts that mean none to null")


def check_keys(frame: pl.DataFrame, before: int = 0) -> None:
    """Refuse a null key; `before`: rows that came before these. Raises FrameError."""
    for name in KEY:
        if frame[name].null_count():
            row = before + int(frame[name].is_null().arg_max() or 0)
            raise FrameError(f"frame row {row}: `{name}` is null; drop the row or give it a value")


def check_repeats(frame: pl.DataFrame) -> None:
    """Refuse a (series_id, timestamp) that stands twice. Raises FrameError."""
    repeated = frame.filter(pl.struct(KEY).is_duplicated()).head(1)
    if len(repeated):
        raise twice(repeated)


def twice(rows: pl.DataFrame) -> FrameError:
    """What is said of a key that stands twice, the first row's."""
    series, time = rows[SERIES_ID][0], rows[TIMESTAMP][0]
    return FrameError(f"series {series!r}: timestamp {time} stands twice; keep one, e.g. frame.unique({list(KEY)})")


def check_numbers(frame: pl.DataFrame, covariates: Sequence[str]) -> None:
    """Refuse infinite values. Raises FrameError."""
    for name in (TARGET, *covariates):
        infinite = frame.select_seq(pl.col(name).cast(pl.Float64).is_infinite()).to_series()
        if infinite.any():
            row = int(infinite.arg_max() or 0)
            series, time = frame[SERIES_ID][row], frame[TIMESTAMP][row]
            raise FrameError(f"series {series!r}, {time}: `{name}` is infinite; replace it with null (no reading)")


def normalise(
    frame: pl.DataFrame, frequency: Frequency | str = "auto", *, covariates: Sequence[str] = (), resample: str = "none"
) -> tuple[pl.DataFrame, Frequency]:
    """A valid long frame sorted by series and time, with the `ordinal` of its grid step; and the frequency.

    `resample` says what happens to readings off the grid or sharing a step: `mean`, `last` or `sum` of each
    step; `none` refuses them. A gap stays a missing ordinal. Raises FrameError.
    """
    try:
        if isinstance(frequency, str):
            known = None if frequency == "auto" else Frequency.parse(frequency)
            times = frame.select(*keys(frame.schema[TIMESTAMP]))
            frequency = known.anchored(times[TIMESTAMP]) if known else infer(times[TIMESTAMP], times[SERIES_ID])
    except ValueError as error:
        raise FrameError(str(error)) from None
    found = on_grid(frame, frequency, covariates=covariates, resample=resample)
    return found.sort(SERIES_ID, ORDINAL), frequency


def on_grid(frame: pl.DataFrame, step: Frequency, *, covariates: Sequence[str], resample: str) -> pl.DataFrame:
    """The same rows in their own order (resampled ones by series and time), of a known step. Raises FrameError."""
    finer = getattr(frame.schema[TIMESTAMP], "time_unit", None) == "ns"  # than what is kept of a timestamp
    check_step(step, time_type(frame.schema[TIMESTAMP]))
    frame = with_ordinals(frame, step, covariates)
    if resample != "none":
        return resampled(frame, covariates, resample)
    there = frame.select_seq(step.on_grid(TIMESTAMP)).to_series()
    if not there.all():
        stray = frame.filter(~there)
        raise off_grid(stray, len(stray), len(frame), step)
    if not step.exact or finer:
        shared = frame.filter(pl.struct(SERIES_ID, ORDINAL).is_duplicated()).head(2)
        if len(shared):
            raise in_one_step(shared, step)
    return frame


def with_ordinals(frame: pl.DataFrame, step: Frequency, covariates: Sequence[str]) -> pl.DataFrame:
    """The columns that count, in the types that all that follows has (text, microseconds or int64, float64), and the
    step of each row."""
    values = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in (TARGET, *covariates)]
    plain = frame.select(*keys(frame.schema[TIMESTAMP]), *values)
    return plain.with_columns_seq(step.ordinal(TIMESTAMP).alias(ORDINAL))


def keys(time: pl.DataType) -> tuple[pl.Expr, pl.Expr]:
    """The same of series_id and of timestamps of type `time` alone."""
    return pl.col(SERIES_ID).cast(pl.String), pl.col(TIMESTAMP).cast(time_type(time))


def time_type(dtype: pl.DataType) -> pl.DataType:
    """What timestamps of a type become."""
    return pl.Int64() if dtype.is_integer() else pl.Datetime("us", getattr(dtype, "time_zone", None))


def check_step(step: Frequency, time: pl.DataType) -> None:
    """Refuse a step of time for integers, and the other way round. Raises FrameError."""
    if step.is_integer != time.is_integer():
        raise FrameError(
            f"frame: frequency {step} and timestamps of type {time} do not fit; "
            "integer timestamps take `1i`, datetimes a step of time such as `1h`"
        )


def resampled(frame: pl.DataFrame, covariates: Sequence[str], how: str) -> pl.DataFrame:
    """One row for each step of each series: mean, last or sum of what fell in it; sorted by series and time."""

    def reading(name: str, how: str) -> pl.Expr:
        column = pl.col(name).drop_nulls()
        if how == "sum":  # the sum of no readings is no reading, not zero
            return pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name)
        return column.mean() if how == "mean" else column.last()

    rest = "mean" if how == "sum" else how
    return (
        frame.sort(SERIES_ID, TIMESTAMP)
        .group_by(SERIES_ID, ORDINAL, maintain_order=True)
        .agg(pl.col(TIMESTAMP).first(), reading(TARGET, how), *[reading(name, rest) for name in covariates])
    )


def off_grid(stray: pl.DataFrame, count: int, rows: int, step: Frequency) -> FrameError:
    """What is said of readings off the grid, `count` of `rows`; `stray` has the first of them."""
    series, time = stray[SERIES_ID][0], stray[TIMESTAMP][0]
    return FrameError(
        f"series {series!r}: {time} does not stand on the grid of {step} ({count} of {rows} readings "
        "do not); set `resample: mean` (or last, sum), or another `frequency`"
    )


def in_one_step(shared: pl.DataFrame, step: Frequency) -> FrameError:
    """What is said of two readings in one step."""
    return FrameError(
        f"series {shared[SERIES_ID][0]!r}: {shared[TIMESTAMP][0]} and {shared[TIMESTAMP][1]} fall in one step of "
        f"{step}; set `resample: mean` (or last, sum), or a finer `frequency`"
    )
