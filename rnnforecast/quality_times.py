"""What is wrong with times, told without any check: duplicates, gaps, clocks that jump."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from rnnforecast.columns import TARGET
from rnnforecast.quality_findings import Array, Finding, Spots, told
from rnnforecast.quality_order import Ordered

MICROSECONDS: Final = 1_000_000
HOUR: Final = 3_600 * MICROSECONDS
DAY: Final = 24 * HOUR
# Lengths in days that are one calendar step, and the length it is counted as.
CALENDAR: Final = ((28, 31, 30.436875), (89, 92, 91.310625), (365, 366, 365.2425))
REGULAR: Final = 0.8  # share of the steps that a series with a step keeps
WEEKEND: Final = 0.01
SPRING, AUTUMN = (3, 4), (9, 10, 11)  # months in which clocks are set, and were in former years
FEW: Final = 20
SELDOM: Final = 0.01


def duplicates(rows: Ordered) -> Iterator[Finding]:
    """Times that came more than once in these readings, and with how many different values."""
    again = _again(rows)
    values = rows.values(TARGET)
    now, before = values[again], values[again - 1]
    other = (now != before) & ~(np.isnan(now) & np.isnan(before))

    def say(part: slice) -> str:
        mine, differ = again[part], again[part][other[part]]
        said = f"{len(mine):,} readings came again" if len(mine) > 1 else "a reading came again"
        if not len(differ):
            return f"{said} as before"
        at = differ[0]
        said += f", {len(differ):,} with another value, such as {values[at - 1]:g} and {values[at]:g}"
        return f"{said} at {rows.say(rows.time[at])}"

    yield from told("duplicate", TARGET, rows.spots(again), say)


def gaps(rows: Ordered) -> Iterator[Finding]:
    """Steps that are missing against the commonest step of the series; series that seldom keep it are irregular."""
    steps = _steps(rows)
    missing = _missing(rows, steps)
    code, series = rows.code[steps.at], len(rows.names)
    kept = np.bincount(code, (missing == 0) & ~steps.aside, series) / np.maximum(np.bincount(code, minlength=series), 1)
    loose = np.flatnonzero((kept[code] < REGULAR) & (np.bincount(code, minlength=series)[code] >= FEW))

    def apart(part: slice) -> str:
        mine = loose[part]
        low, high = rows.span(steps.length[mine].min()), rows.span(steps.length[mine].max())
        said = f"readings are {low} to {high} apart; the commonest step, {rows.span(steps.step[mine[0]])}"
        return f"{said}, is kept by {kept[code[mine[0]]]:.0%} of them: `resample:` makes a regular grid of it"

    yield from told("irregular", None, rows.spots(steps.at[loose]), apart)
    wide = np.flatnonzero((missing > 0) & (kept[code] >= REGULAR))

    def say(part: slice) -> str:
        mine = wide[part]
        longest = mine[missing[mine].argmax()]
        count = "a gap" if len(mine) == 1 else f"{len(mine):,} gaps"
        said = f"{count}, {int(missing[mine].sum()):,} steps of {rows.span(steps.step[longest])} missing"
        after = rows.say(rows.time[steps.at[longest] - 1])
        return f"{said}; the longest, {int(missing[longest]):,} steps, after {after}"

    yield from told("gap", None, rows.spots(steps.at[wide]), say, counts=missing[wide])


def empty(rows: Ordered, column: str) -> Iterator[Finding]:
    """Readings that came without a value."""
    void = np.flatnonzero(np.isnan(rows.values(column)))
    size = np.bincount(rows.code, minlength=len(rows.names))

    def say(part: slice) -> str:
        mine = void[part]
        begin = np.flatnonzero(np.concatenate([[True], np.diff(mine) > 1]))
        run = np.diff(np.append(begin, len(mine)))
        since = rows.say(rows.time[mine[begin[run.argmax()]]])
        said = f"{len(mine):,} of {size[rows.code[mine[0]]]:,} readings are empty"
        return f"{said}, {run.max():,} in a row from {since} on" if len(mine) > 1 else f"{said}, that of {since}"

    yield from told("empty", column, rows.spots(void), say)


def clocks(rows: Ordered) -> Iterator[Finding]:
    """Times that step back in the order of reading, and hours that daylight saving leaves out or repeats."""
    time, code = rows.read
    if not (np.diff(code) >= 0).all():
        order = np.argsort(code, kind="stable")
        time, code = time[order], code[order]
    back = np.flatnonzero(_same(code) & (time[1:] < time[:-1])) + 1
    jump = time[back - 1] - time[back]
    size = np.bincount(code, minlength=len(rows.names))[code[back]]
    steps = np.bincount(code[back], minlength=len(rows.names))[code[back]]
    # A clock that was set jumps by whole hours, and seldom; what else steps back is just not in order.
    clock = (steps <= FEW) & (steps <= SELDOM * size) & (jump % HOUR == 0) & rows.is_time

    for kind, chosen in (("clock", back[clock]), ("order", back[~clock])):

        def say(part: slice, chosen: Array = chosen, kind: str = kind) -> str:
            mine = chosen[part]
            jumps = time[mine - 1] - time[mine]
            far = int(jumps.argmax())
            said = f"{len(mine):,} rows step" if len(mine) > 1 else "a row steps"
            whole = ", by whole hours" if kind == "clock" else ""
            return f"{said} back in time, the farthest by {rows.span(jumps[far])} to {rows.say(time[mine[far]])}{whole}"

        yield from told(kind, None, Spots(rows.names, code[chosen], time[chosen]), say)
    if rows.is_time:
        yield from _daylight_saving(rows)


def _daylight_saving(rows: Ordered) -> Iterator[Finding]:
    """Hours of Sunday mornings that are missing in spring and come twice in autumn: local time read as it stands."""
    steps = _steps(rows)
    short = (steps.step <= HOUR) & (steps.length - steps.step == HOUR)
    gone = steps.at[short & _changing(rows.time[steps.at - 1] + steps.step, SPRING)]
    again = _again(rows)
    twice = again[_changing(rows.time[again], AUTUMN)]
    both = np.sort(np.concatenate([gone, twice]))
    series = len(rows.names)
    springs, autumns = _days(rows, gone, series), _days(rows, twice, series)
    alike = np.bincount(rows.code[steps.at[short]], minlength=series)
    local = ((springs > 0) & (autumns > 0)) | ((springs > 1) & (4 * springs > alike))

    def say(part: slice) -> str:
        mine = shown[part]
        number = rows.code[mine[0]]
        days = np.unique(rows.time[mine] // DAY)[:3].astype("datetime64[D]")
        said = (
            f"an hour is missing on {springs[number]} Sundays in spring, and one comes twice on {autumns[number]} in "
        )
        said += f"autumn ({', '.join(map(str, days))}{', ...' if springs[number] + autumns[number] > 3 else ''})"
        return f"{said}: this looks like local time with daylight saving; set `timezone:`"

    shown = both[local[rows.code[both]]]
    yield from told("clock", None, rows.spots(shown), say)


def _days(rows: Ordered, at: Array, series: int) -> Array:
    """On how many days the rows are, by series."""
    days = np.unique(np.stack([rows.code[at], rows.time[at] // DAY]), axis=1)
    return np.bincount(days[0], minlength=series)


def _changing(time: Array, season: tuple[int, ...]) -> Array:
    """Whether times are in the hours of a Sunday in which clocks change."""
    day = time // DAY
    sunday = (day + 4) % 7 == 0  # 1970-01-01 was a Thursday
    month = day.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12 + 1
    return np.asarray(sunday & (time % DAY < 4 * HOUR) & np.isin(month, season))


@dataclass(frozen=True)
class Steps:
    """Rows that come after another one of their series: `at`, and the time since.

    step: the commonest in the series; aside: whether the time since is no whole number of that.
    """

    at: Array
    length: Array
    step: Array
    aside: Array


def _steps(rows: Ordered) -> Steps:
    at = np.flatnonzero(_same(rows.code) & (rows.time[1:] > rows.time[:-1])) + 1
    length = rows.time[at] - rows.time[at - 1]
    counted = _calendar(length) if rows.is_time else length
    each = pl.DataFrame({"code": rows.code[at], "step": counted}).group_by("code", "step").agg(pl.len().alias("n"))
    each = each.sort("n", "step", descending=[True, False])
    common = each.group_by("code", maintain_order=True).agg(pl.col("step").first()).sort("code")
    step = common["step"].to_numpy()[np.searchsorted(common["code"].to_numpy(), rows.code[at])]
    # A twentieth of a step aside is a clock that is not quite right; calendar steps are not all of one length.
    aside = np.abs(counted - np.rint(counted / step) * step) > step / 20
    return Steps(at, length, step, aside & (not rows.is_time or step < DAY))


def _calendar(length: Array) -> Array:
    """Lengths with those of a month, a quarter and a year made equal."""
    counted = length
    for low, high, mean in CALENDAR:
        counted = np.where((length >= low * DAY) & (length <= high * DAY), int(mean * DAY), counted)
    return counted


def _missing(rows: Ordered, steps: Steps) -> Array:
    """How many steps are missing before each row; Saturdays and Sundays are none where a series has none."""
    missing = np.rint(steps.length / steps.step).astype(int) - 1
    if not rows.is_time:
        return missing
    day, series = rows.time // DAY + 3, len(rows.names)  # counted from a Monday
    rate = np.bincount(rows.code, day % 7 >= 5, series) / np.maximum(np.bincount(rows.code, minlength=series), 1)
    working = day // 7 * 5 + np.minimum(day % 7, 4)
    five_days = (steps.step == DAY) & (rate[rows.code[steps.at]] < WEEKEND)
    return np.where(five_days, working[steps.at] - working[steps.at - 1] - 1, missing)


def _again(rows: Ordered) -> Array:
    """Rows of the same series and time as the one before them."""
    return np.flatnonzero(_same(rows.code) & (rows.time[1:] == rows.time[:-1])) + 1


def _same(code: Array) -> Array:
    return np.asarray(code[1:] == code[:-1])
