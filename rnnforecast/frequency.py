"""The regular grid under a series: timestamps to whole steps and back.

Everything after the frame counts in *ordinals*: int64, one per step, the same for every series of a
pipeline, so that a series is (first ordinal, values) and a gap is a missing ordinal.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeVar

import polars as pl

SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
MONTHS: Final = {"mo": 1, "q": 3, "y": 12}
YEAR_SECONDS: Final = 365.2425 * 86_400
BUSINESS_DAYS_PER_YEAR: Final = 365.2425 * 5 / 7
EPOCH_MONDAY: Final = 4  # 1970-01-05 was a Monday: days from the epoch to it
MICROSECONDS: Final = 1_000_000

SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
PATTERN = re.compile(r"(?:(\d+)\s*)?(s|m|h|d|w|mo|q|y|bd|i)")
Numbers = TypeVar("Numbers", pl.Expr, pl.Series)


@dataclass(frozen=True)
class Frequency:
    """One step of the grid: `1h`, `15m`, `1d`, `1w`, `1mo`, `1q`, `1y`, `1bd` (Monday to Friday), or `1i` (integers).

    `phase` is what is left after dividing by the step: microseconds for fixed steps and business days,
    microseconds from the start of the month for months, integer units for integers.
    """

    every: int
    unit: str
    phase: int = 0

    @classmethod
    def parse(cls, text: str) -> "Frequency":
        """Read `15m`, `1h`, `1bd`, ...; raises ValueError that lists the units."""
        match = PATTERN.fullmatch(text.strip())
        every = int(match[1] or 1) if match else 0
        if match is None or every < 1 or (match[2] == "bd" and every != 1):
            raise ValueError(
                f"frequency: expected a count and a unit (s, m, h, d, w, mo, q, y, bd, i), such as '15m', '1h' or "
                f"'1bd' (Monday to Friday); found {text!r}"
            )
        return cls(every=every, unit=match[2])

    def __str__(self) -> str:
        return f"{self.every}{self.unit}"

    @property
    def is_integer(self) -> bool:
        return self.unit == "i"

    @property
    def _step(self) -> int:
        """The step in the units that ordinals are counted in."""
        if self.unit in SECONDS:
            return self.every * SECONDS[self.unit] * MICROSECONDS
        return self.every * MONTHS.get(self.unit, 1)

    def anchored(self, timestamps: pl.Series) -> "Frequency":
        """The same step with the phase at which most of `timestamps` stand."""
        return self.anchored_in([timestamps])

    def anchored_in(self, parts: Iterable[pl.Series]) -> "Frequency":
        """The same, of timestamps that come in parts."""
        counts = _tally(part.to_frame("t").select(self._phase_of(pl.col("t")).alias("value")) for part in parts)
        return replace(self, phase=_commonest(counts)) if len(counts) else self

    def _phase_of(self, column: pl.Expr) -> pl.Expr:
        if self.is_integer:
            return column.cast(pl.Int64) % self.every
        if self.unit in SECONDS:
            return column.dt.epoch("us") % self._step
        if self.unit == "bd":
            return column.dt.epoch("us") % (86_400 * MICROSECONDS)
        return column.dt.epoch("us") - column.dt.month_start().dt.truncate("1d").dt.epoch("us")

    def ordinal(self, column: str) -> pl.Expr:
        """Timestamps to ordinals: the step that each falls in (a late reading counts to the step before it)."""
        time = pl.col(column)
        if self.is_integer:
            return (time.cast(pl.Int64) - self.phase) // self.every
        micros = time.dt.epoch("us") - (0 if self.unit in MONTHS else self.phase)
        if self.unit in SECONDS:
            return micros // self._step
        if self.unit == "bd":
            days = micros // (86_400 * MICROSECONDS) - EPOCH_MONDAY
            return days // 7 * 5 + (days % 7).clip(upper_bound=4)  # a weekend reading falls in Friday's step
        month = time.dt.year().cast(pl.Int64) * 12 + time.dt.month().cast(pl.Int64) - 1
        return month // self._step

    def timestamp(self, column: str, dtype: pl.DataType) -> pl.Expr:
        """Ordinals back to timestamps of `dtype` (a datetime, or an integer)."""
        ordinal = pl.col(column)
        if self._even:
            return self._evenly(ordinal, dtype)
        if self.unit == "bd":
            days = ordinal // 5 * 7 + ordinal % 5 + EPOCH_MONDAY
            micros = days * (86_400 * MICROSECONDS) + self.phase
        else:
            months = ordinal * self._step
            first = pl.datetime(months // 12, months % 12 + 1, 1).dt.epoch("us")
            length = pl.datetime(months // 12, months % 12 + 1, 1).dt.days_in_month().cast(pl.Int64)
            # A month-end phase (the 31st) stays inside shorter months.
            micros = first + pl.min_horizontal(pl.lit(self.phase, dtype=pl.Int64), (length - 1) * 86_400 * MICROSECONDS)
        return _from_epoch(micros, dtype)

    @property
    def _even(self) -> bool:
        """Whether all steps are equally long."""
        return self.is_integer or self.unit in SECONDS

    def _evenly(self, ordinals: Numbers, dtype: pl.DataType) -> Numbers:
        found = ordinals * self._step + self.phase
        return found.cast(dtype) if self.is_integer else _from_epoch(found, dtype)

    def stamps(self, ordinals: pl.Series, dtype: pl.DataType) -> pl.Series:
        """Ordinals as timestamps of `dtype`. Forecasts say the same few steps many times: where steps are of unlike
        length, each is worked out once."""
        if self._even:  # without an expression, which costs more than the numbers of a few steps
            return self._evenly(ordinals, dtype).alias("timestamp")
        first, last = (int(bound or 0) for bound in (ordinals.min(), ordinals.max()))  # type: ignore[arg-type]
        dense = last - first < len(ordinals)
        steps = pl.int_range(first, last + 1, eager=True) if dense else ordinals
        found = steps.to_frame("ordinal").select_seq(self.timestamp("ordinal", dtype).alias("timestamp")).to_series()
        if not dense:
            return found
        return found.gather((ordinals.to_numpy() - first).astype("uint32"))  # half the time of polars'

    @property
    def exact(self) -> bool:
        """Whether a step has one timestamp on the grid: months have any in the month."""
        return self.unit not in MONTHS

    def on_grid(self, column: str) -> pl.Expr:
        """True where a timestamp stands exactly on the grid (for months: anywhere in the month)."""
        if not self.exact:
            return pl.lit(True)
        exact = self._phase_of(pl.col(column)) == self.phase
        return exact & (pl.col(column).dt.weekday() <= 5) if self.unit == "bd" else exact

    def calendar_periods(self) -> tuple[tuple[str, float], ...]:
        """Calendar cycles longer than two steps, as (name, length in steps)."""
        if self.is_integer:
            return ()
        if self.unit == "bd":
            return (("week", 5.0), ("year", BUSINESS_DAYS_PER_YEAR))
        if self.unit in MONTHS:
            return (("year", 12 / self._step),) if self._step <= 6 else ()
        step = self._step / MICROSECONDS
        cycles = (("day", 86_400.0), ("week", 604_800.0), ("year", YEAR_SECONDS))
        return tuple((name, length / step) for name, length in cycles if length / step > 2)

    def season_lengths(self) -> tuple[int, ...]:
        """The seasons that data of this step usually has, in steps, shortest first."""
        if self.is_integer:
            return (1,)
        if self.unit == "bd":
            return (5,)
        wanted = [round(length) for name, length in self.calendar_periods() if name != "year"]
        if not wanted:
            wanted = [round(length) for name, length in self.calendar_periods()]
        return tuple(wanted) or (1,)


def _from_epoch(micros: Numbers, dtype: pl.DataType) -> Numbers:
    """Microseconds since 1970, in UTC where `dtype` has a time zone, as `dtype`."""
    return micros.cast(pl.Datetime("us", getattr(dtype, "time_zone", None))).cast(dtype)


def span(text: str) -> timedelta | None:
    """A length of time such as 10m, 1h or 2d; None where it is none."""
    found = SPAN.fullmatch(text.strip())
    return timedelta(seconds=float(found[1]) * SECONDS[found[2]]) if found else None


def infer(timestamps: pl.Series, series_ids: pl.Series) -> Frequency:
    """The step that most neighbouring timestamps of a series are apart, anchored to their phase.

    Raises ValueError where no series has two different timestamps.
    """
    return infer_in(lambda: [(timestamps, series_ids)])


def infer_in(parts: Callable[[], Iterable[tuple[pl.Series, pl.Series]]]) -> Frequency:
    """The same, of timestamps and series ids that come in `parts` of whole series, called for twice."""
    steps: list[pl.DataFrame] = []
    dtype: pl.DataType = pl.Int64()
    days, weekends = 0, 0
    for times in map(_sorted, parts()):
        dtype = times.schema["t"]
        apart = pl.col("t").cast(pl.Int64) - pl.col("t").cast(pl.Int64).shift(1)
        steps.append(times.select(apart.over("s").alias("value")).filter(pl.col("value") > 0))
        if dtype.is_temporal():
            days, weekends = (
                days + len(times),
                weekends + int(times.select((pl.col("t").dt.weekday() > 5).sum()).item()),
            )
    counts = _tally(steps)
    if counts.is_empty():
        raise ValueError("frequency: no series has two different timestamps; set `frequency:` in the pipeline file")
    common = _commonest(counts)
    if dtype.is_integer():
        step = Frequency(every=common, unit="i")
    else:
        step = _named(common // _per_second(dtype), days, weekends)
    return step.anchored_in(_sorted(part)["t"] for part in parts())


def _sorted(part: tuple[pl.Series, pl.Series]) -> pl.DataFrame:
    """Different timestamps `t` of each series `s`, in order."""
    return pl.DataFrame({"s": part[1], "t": part[0]}).drop_nulls().unique().sort("s", "t")


def _tally(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """How often each `value` stands in the parts together: value, count."""
    counts = [part["value"].drop_nulls().value_counts() for part in parts]
    return pl.concat(counts).group_by("value").agg(pl.col("count").sum()) if counts else pl.DataFrame()


def _commonest(counts: pl.DataFrame) -> int:
    """The value that is counted most; of several the least."""
    return int(counts.filter(pl.col("count") == counts["count"].max())["value"].min())  # type: ignore[arg-type]


def _per_second(dtype: pl.DataType) -> int:
    return {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[getattr(dtype, "time_unit", "us")]


def _named(seconds: int, count: int, weekends: int) -> Frequency:
    """The commonest step in seconds as a frequency with a calendar name; of `count` times so many on weekends."""
    days = seconds / 86_400
    for low, high, unit in ((28, 31, "mo"), (89, 92, "q"), (365, 366, "y")):
        if low <= days <= high:
            return Frequency(every=1, unit=unit)
    if days == 1 and count > 10 and weekends < 0.01 * count:
        return Frequency(every=1, unit="bd")
    for unit in ("w", "d", "h", "m", "s"):
        if seconds >= SECONDS[unit] and seconds % SECONDS[unit] == 0:
            return Frequency(every=seconds // SECONDS[unit], unit=unit)
    raise ValueError(
        "frequency: readings are less than a second apart; give integer steps as timestamps, "
        "or set `frequency: 1s` with `resample: mean`"
    )
