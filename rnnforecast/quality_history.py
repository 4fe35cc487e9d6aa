"""Checks that look back: whether a reading goes with the last ones that were taken.

Of a check that looks back there are two forms with one answer: expressions over whole series, for readings in the
order of time that are all taken, and a function of one reading and its history, for any other. Both take order
statistics and never interpolate, so that their answers are equal to the last bit.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import polars as pl

from rnnforecast.config import FrozenCheck, SpikeCheck

Looking = SpikeCheck | FrozenCheck
Values = Sequence[float | None]

QUARTILES: Final = 1.349  # interquartile range of a normal distribution in standard deviations
REACH: Final = 8  # a standard deviation is at least this part of the whole range: coarse readings, long trends
STALE: Final = 3  # a history that began so many times its own length ago judges nothing
FEWEST: Final = 5


def length(check: Looking) -> int:
    """How many rows back it looks."""
    return check.window if isinstance(check, SpikeCheck) else check.steps


def flagged(check: Looking, *, time: pl.Expr, value: pl.Expr, within: str | None = None) -> pl.Expr:
    """Why each row fails, as text, or null; rows in the order of time, of the series that column `within` names."""

    def each(expression: pl.Expr) -> pl.Expr:
        return expression if within is None else expression.over(within)

    if isinstance(check, FrozenCheck):
        new_run = each((value != value.shift(1)).fill_null(True)).cast(pl.Int64).cum_sum()
        run = pl.int_range(pl.len()).over(new_run)
        fails = (run >= check.steps) & value.is_not_null()
        return pl.when(fails).then(pl.format("frozen: {} after {} readings of it", value, pl.lit(check.steps)))
    last, window = value.shift(1), check.window

    def order(part: float) -> pl.Expr:
        rolled = last.rolling_quantile(part, interpolation="lower", window_size=window, min_samples=_least(check))
        return each(rolled)

    steps = time.diff().shift(1).cast(pl.Float64)
    step = each(steps.rolling_quantile(0.5, interpolation="lower", window_size=window - 1, min_samples=1))
    begun = each(time.shift(window).fill_null(time.first()))
    rows = pl.min_horizontal(each(pl.int_range(pl.len())), pl.lit(window))
    fresh = (time - begun).cast(pl.Float64) <= STALE * rows * step
    centre = order(0.5)
    highest, lowest = (each(roll(window, min_samples=_least(check))) for roll in (last.rolling_max, last.rolling_min))
    spread = pl.max_horizontal((order(0.75) - order(0.25)) / QUARTILES, (highest - lowest) / REACH)
    fails = fresh & (spread > 0) & ((value - centre).abs() > check.deviations * spread)
    return pl.when(fails).then(_spike_words(value, centre, (value - centre).abs() / spread, window))


def verdict(check: Looking, *, time: int, value: float | None, times: Sequence[int], values: Values) -> str | None:
    """Why one reading fails, or None; `times`, ascending, and `values` are its history, at most `length` rows."""
    if value is None:
        return None
    if isinstance(check, FrozenCheck):
        full = len(values) == check.steps and all(other == value for other in values)
        return f"frozen: {value} after {check.steps} readings of it" if full else None
    known = sorted(other for other in values if other is not None)
    if len(known) < _least(check) or len(times) < 2:
        return None

    def order(part: float) -> float:
        return known[int(part * (len(known) - 1))]

    steps = sorted(float(b - a) for a, b in pairwise(times))
    if max(abs(time - times[0]), abs(time - times[-1])) > STALE * len(times) * steps[(len(steps) - 1) // 2]:
        return None
    centre = order(0.5)
    spread = max((order(0.75) - order(0.25)) / QUARTILES, (order(1.0) - order(0.0)) / REACH)
    if spread <= 0 or not abs(value - centre) > check.deviations * spread:
        return None
    words = _spike_words(pl.lit(value), pl.lit(centre), pl.lit(abs(value - centre) / spread), check.window)
    return str(pl.select(words).item())


def _least(check: SpikeCheck) -> int:
    """So many readings judge another: half the window."""
    return max(FEWEST, check.window // 2)


def _spike_words(value: pl.Expr, centre: pl.Expr, distance: pl.Expr, window: int) -> pl.Expr:
    said = "spike: {} is {} deviations from {}, the median of the last {} readings"
    return pl.format(said, value, distance.round(1), centre, pl.lit(window))
