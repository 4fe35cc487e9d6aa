"""The long frame: checked once at the door (`validate`), then put on its regular grid (`normalise`)."""

import difflib
from collections.abc import Sequence

import polars as pl

from rnnforecast.columns import KEY, ORDINAL, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.frequency import Frequency, infer


class FrameError(ValueError):
    """A long frame that cannot be used; the message names series, timestamp and column, and the remedy."""


def validate(frame: pl.DataFrame, *, covariates: Sequence[str] = ()) -> None:
    """Refuse a long frame that the models would misread.

    Checks, in this order:

    - the columns series_id, timestamp, target and every covariate are there, and there is a row;
    - timestamp is a datetime, a date or an integer; target and covariates are numbers;
    - no series_id or timestamp is null; no (series_id, timestamp) stands twice;
    - no target and no covariate is infinite (a missing reading is null or NaN).

    Raises FrameError.
    """
    for name in (*KEY, TARGET, *covariates):
        if name not in frame.columns:
            close = difflib.get_close_matches(name, frame.columns, n=1)
            hint = f"rename `{close[0]}`" if close else f"rename one of {frame.columns[:8]}"
            raise FrameError(f"frame: expected a column `{name}`, found {frame.columns[:8]}; {hint} or map it")
    if frame.is_empty():
        raise FrameError("frame: expected at least one row, found none; check the source or the filter before it")
    _check_types(frame, covariates)
    for name in KEY:
        if frame[name].null_count():
            row = frame[name].is_null().arg_max()
            raise FrameError(f"frame row {row}: `{name}` is null; drop the row or give it a value")
    repeated = frame.filter(pl.struct(KEY).is_duplicated()).head(1)
    if len(repeated):
        series, time = repeated[SERIES_ID][0], repeated[TIMESTAMP][0]
        raise FrameError(f"series {series!r}: timestamp {time} stands twice; keep one, e.g. frame.unique({list(KEY)})")
    for name in (TARGET, *covariates):
        infinite = frame.filter(pl.col(name).cast(pl.Float64).is_infinite()).head(1)
        if len(infinite):
            series, time = infinite[SERIES_ID][0], infinite[TIMESTAMP][0]
            raise FrameError(f"series {series!r}, {time}: `{name}` is infinite; replace it with null (no reading)")


def _check_types(frame: pl.DataFrame, covariates: Sequence[str]) -> None:
    time = frame[TIMESTAMP].dtype
    if not (time.is_integer() or time in (pl.Datetime, pl.Date)):
        raise FrameError(
            f"frame: `timestamp` must be a datetime, a date or an integer step, found {time}; "
            "parse it first, e.g. with str.to_datetime()"
        )
    for name in (TARGET, *covariates):
        dtype = frame[name].dtype
        if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)):
            raise FrameError(f"frame: `{name}` must hold numbers, found {dtype}; cast it, texts that mean none to null")


def normalise(
    frame: pl.DataFrame, frequency: Frequency | str = "auto", *, covariates: Sequence[str] = (), resample: str = "none"
) -> tuple[pl.DataFrame, Frequency]:
    """A valid long frame sorted by series and time, with the `ordinal` of its grid step; and the frequency.

    `resample` says what happens to readings off the grid or sharing a step: `mean`, `last` or `sum` of each
    step; `none` refuses them. A gap stays a missing ordinal. Raises FrameError.
    """
    values = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in (TARGET, *covariates)]
    time = pl.col(TIMESTAMP).cast(pl.Datetime("us")) if frame[TIMESTAMP].dtype == pl.Date else _microseconds(frame)
    frame = frame.select(pl.col(SERIES_ID).cast(pl.String), time, *values)
    try:
        step = infer(frame[TIMESTAMP], frame[SERIES_ID]) if frequency == "auto" else frequency
    except ValueError as error:
        raise FrameError(str(error)) from None
    if isinstance(step, str):
        step = Frequency.parse(step).anchored(frame[TIMESTAMP])
    if step.is_integer != frame[TIMESTAMP].dtype.is_integer():
        raise FrameError(
            f"frame: frequency {step} and timestamps of type {frame[TIMESTAMP].dtype} do not fit; "
            "integer timestamps take `1i`, datetimes a step of time such as `1h`"
        )
    frame = frame.with_columns(step.ordinal(TIMESTAMP).alias(ORDINAL))
    if resample != "none":
        frame = _resampled(frame, covariates, resample)
    else:
        _refuse_off_grid(frame, step)
    return frame.sort(SERIES_ID, ORDINAL), step


def _microseconds(frame: pl.DataFrame) -> pl.Expr:
    dtype = frame[TIMESTAMP].dtype
    if dtype.is_integer():
        return pl.col(TIMESTAMP).cast(pl.Int64)
    return pl.col(TIMESTAMP).cast(pl.Datetime("us", getattr(dtype, "time_zone", None)))


def _resampled(frame: pl.DataFrame, covariates: Sequence[str], how: str) -> pl.DataFrame:
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


def _refuse_off_grid(frame: pl.DataFrame, step: Frequency) -> None:
    stray = frame.filter(~step.on_grid(TIMESTAMP))
    if len(stray):
        series, time = stray[SERIES_ID][0], stray[TIMESTAMP][0]
        raise FrameError(
            f"series {series!r}: {time} does not stand on the grid of {step} ({len(stray)} of {len(frame)} readings "
            "do not); set `resample: mean` (or last, sum), or another `frequency`"
        )
    shared = frame.filter(pl.struct(SERIES_ID, ORDINAL).is_duplicated()).head(2)
    if len(shared):
        raise FrameError(
            f"series {shared[SERIES_ID][0]!r}: {shared[TIMESTAMP][0]} and {shared[TIMESTAMP][1]} fall in one step of "
            f"{step}; set `resample: mean` (or last, sum), or a finer `frequency`"
        )
