"""Whether times are those of a clock with daylight saving, told by the hours it leaves out and those it shows twice.

Every zone of the IANA database is held against the readings, once as the beginnings of their intervals and once
as their ends. Zones of one rule cannot be told apart by that: the best known comes first, others are named.
"""

from dataclasses import dataclass
from typing import Final
from zoneinfo import available_timezones

import numpy as np
import polars as pl

from rnnforecast.columns import SERIES_ID, TIMESTAMP
from rnnforecast.frequency import SECONDS, Frequency

# The best known zone of each rule first; the rest of the database follows by name.
KNOWN: Final = (
    "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles",
    "Europe/Berlin", "Europe/London", "Europe/Athens", "Australia/Sydney", "Australia/Adelaide", "Pacific/Auckland",
    "America/Santiago", "America/Sao_Paulo", "America/Mexico_City", "America/Havana", "Asia/Jerusalem", "Asia/Beirut",
    "Africa/Cairo", "Africa/Casablanca", "Asia/Tehran", "Europe/Moscow", "Australia/Lord_Howe", "Pacific/Chatham",
)  # fmt: skip
REGIONS: Final = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
CHANCE: Final = 1e-3  # that so many hours are out or twice just where a clock changes, in readings without one
HITS_PER_MISS: Final = 10
HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR


@dataclass(frozen=True)
class Clock:
    """A zone that the readings follow: `ending` where stamps end their intervals.

    gaps: hours left out where the clock goes forward; lost, folds: hours left out and hours there twice where it
    goes back; others: further zones that fit as well, in words.
    """

    zone: str
    ending: bool
    gaps: int
    lost: int
    folds: int
    others: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What was seen, for people."""
        seen = [
            (self.gaps, "left out where the clock goes forward"),
            (self.lost, "left out where it goes back"),
            (self.folds, "there twice where it goes back"),
        ]
        return ", ".join(f"{count} hour{'s' * (count > 1)} {what}" for count, what in seen if count)


class _Walls:
    """A series' times as its clock shows them, in microseconds, and how long one interval is."""

    def __init__(self, times: pl.Series, step: int) -> None:
        self.stamps = times.sort().to_physical().to_numpy()
        self.unique = np.unique(self.stamps)
        self.step = step
        hours = np.unique(self.stamps // HOUR)
        every = int(hours[-1] - hours[0]) + 1
        self.missing = (every - len(hours)) / every  # share of hours without a reading
        self.repeated = 1 - len(self.unique) / len(self.stamps)  # share of stamps that were there before

    @property
    def by_days_of_ends(self) -> bool:
        """Whether the file begins with the end of a day's first interval and ends with that of its last."""
        return bool(self.stamps[0] % DAY == self.step and self.stamps[-1] % DAY == 0)

    def agreement(self, changes: np.ndarray, *, ending: bool) -> tuple[int, int, int, int]:
        """How many changes are seen as (gaps, lost, folds), and how often readings stand in an hour that is none."""
        shift = self.step if ending else 0
        low, high = changes.min(axis=1) + shift, changes.max(axis=1) + shift
        width = high - low
        around = np.minimum(_between(self.stamps, low - width, low), _between(self.stamps, high, high + width))
        told = 2 * around * self.step >= width  # only where readings stand close before and after
        forward = changes[:, 1] > changes[:, 0]
        within, different = _between(self.stamps, low, high), _between(self.unique, low, high)
        empty, twice = within == 0, (within > different) & (2 * within >= 3 * different)
        counted = (told & forward & empty, told & ~forward & empty, told & ~forward & twice, told & forward & ~empty)
        return tuple(int(each.sum()) for each in counted)  # type: ignore[return-value]


def clock(frame: pl.DataFrame, step: Frequency) -> Clock | None:
    """The zone whose clock changes a long frame's times follow, as they stand in the file; None where none fits.

    Repeats must still be in the frame. Steps longer than an hour show no change of the clock.
    """
    length = step.every * SECONDS.get(step.unit, 0) * 1_000_000
    if not 0 < length <= HOUR:
        return None
    longest = frame.group_by(SERIES_ID).len().sort("len", SERIES_ID, descending=[True, False])[SERIES_ID][0]
    times = frame.filter(pl.col(SERIES_ID) == longest)[TIMESTAMP].dt.replace_time_zone(None)
    walls = _Walls(times, length)
    best: dict[tuple[str, bool], tuple[int, int, int]] = {}
    for zone in _zones() if walls.missing or walls.repeated else ():
        changes = _changes(zone, walls.stamps[0], walls.stamps[-1])
        for ending in (False, True) if len(changes) else ():
            gaps, lost, folds, misses = walls.agreement(changes, ending=ending)
            chance = walls.missing ** (gaps + lost) * walls.repeated**folds
            if gaps + folds and gaps + lost + folds >= HITS_PER_MISS * misses and chance < CHANCE:
                best[zone, ending] = (gaps, lost, folds)
    if not best:
        return None
    # What explains most; then begins before ends, unless the file is cut like ends; then the order of the zones.
    most = max(sum(seen) for seen in best.values())
    first, *others = sorted(
        (found for found in best if sum(best[found]) == most), key=lambda found: found[1] != walls.by_days_of_ends
    )
    how = {first[1]: "", (not first[1]): " without `ending:`" if first[1] else f" with `ending: {step}`"}
    return Clock(*first, *best[first], tuple(zone + how[ending] for zone, ending in others if zone in KNOWN))


def _between(stamps: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.searchsorted(stamps, high) - np.searchsorted(stamps, low)


def _zones() -> list[str]:
    rest = sorted(zone for zone in available_timezones() if zone.split("/")[0] in REGIONS)
    return [*KNOWN, *(zone for zone in rest if zone not in KNOWN)]


def _changes(zone: str, first: int, last: int) -> np.ndarray:
    """The clock changes of a zone, to the quarter of an hour: [n, 2], what the clock shows at one, before and after."""
    days = np.arange(first - DAY, last + 2 * DAY, DAY)
    changed = days[:-1][np.diff(_offsets(days, zone)) != 0]
    quarters = changed[:, None] + np.arange(97) * (HOUR // 4)
    offsets = _offsets(quarters.ravel(), zone).reshape(quarters.shape)
    day, place = np.nonzero(np.diff(offsets, axis=1))
    moment = quarters[day, place + 1]
    return np.stack([moment + offsets[day, place], moment + offsets[day, place + 1]], axis=1)


def _offsets(moments: np.ndarray, zone: str) -> np.ndarray:
    """How far a zone's clock is ahead of UTC, in microseconds."""
    utc = pl.Series(moments, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
    local = utc.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return local.to_physical().to_numpy() - moments
