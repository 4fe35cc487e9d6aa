"""Checks that look back, row by row: where a row that fails must not be part of what later rows are compared with.

Rows are judged in the order of reading, each by the rows taken before it that have an earlier time, or, where they
are too few (a file that runs backwards), by those with a later one. So the verdicts do not depend on how the rows
were cut into batches.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from rnnforecast.columns import TIMESTAMP
from rnnforecast.config import SpikeCheck
from rnnforecast.quality_history import Looking, flagged, length, verdict

Numbered = Sequence[tuple[int, Looking]]  # checks with their numbers
Failure = tuple[int, int, str]  # place of the row, number of the check, why
Row = tuple[float | None, ...]

AT_ONCE: Final = (64, 65_536)  # rows judged at once while none fails, at first and at most
FEW: Final = 16  # so few are quicker one by one


@dataclass
class Taken:
    """The rows of one series that are in the table, by time."""

    times: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def take(self, time: int, row: Row) -> None:
        """A row comes in; one of the same time it replaces."""
        if not self.times or time > self.times[-1]:
            self.times.append(time)
            self.rows.append(row)
            return
        place = bisect_left(self.times, time)
        if self.times[place] == time:
            self.rows[place] = row
        else:
            self.times.insert(place, time)
            self.rows.insert(place, row)


def walk(tail: pl.DataFrame, new: pl.DataFrame, checks: Numbered, *, place: str) -> list[Failure]:
    """The failures of one series.

    tail: rows stored before, new: rows in the order of reading, both with time, the checked columns, and (new) the
    column `place` that numbers them.
    """
    columns = list(dict.fromkeys(check.column for _, check in checks))
    positions = {column: number for number, column in enumerate(columns)}
    tail = tail.sort(TIMESTAMP)
    taken = Taken(tail[TIMESTAMP].to_physical().to_list(), tail.select(columns).rows())
    times, rows = new[TIMESTAMP].to_physical().to_list(), new.select(columns).rows()
    places, failures = new[place].to_list(), []
    at, size = 0, AT_ONCE[0]
    while at < len(times):
        end = _ascending(times, at, taken, size)
        if end - at > FEW:
            found = _together(new[at:end], taken, checks, columns)
        else:
            end = at + 1
            found = _alone(times[at], rows[at], taken, checks, positions)
        refused = min((row for row, number, _ in found if _refuses(checks, number)), default=end - at)
        failures += [(places[at + row], number, why) for row, number, why in found if row <= refused]
        for row in range(at, min(at + refused, end)):
            taken.take(times[row], rows[row])
        size = min(size * 4, AT_ONCE[1]) if refused == end - at else AT_ONCE[0]
        at = min(at + refused + 1, end)
    return failures


def _ascending(times: list[int], at: int, taken: Taken, most: int) -> int:
    """The end of the stretch from `at` whose times come after each other and after all that was taken."""
    newest, end = taken.times[-1] if taken.times else None, at
    while end < len(times) and end - at < most and (newest is None or times[end] > newest):
        newest, end = times[end], end + 1
    return end


def _together(new: pl.DataFrame, taken: Taken, checks: Numbered, columns: list[str]) -> list[Failure]:
    """Failures of rows that come after all others, each as if the ones before it were taken."""
    back = max(length(check) for _, check in checks)
    history = min(back, len(taken.times))
    before = pl.DataFrame(
        taken.rows[len(taken.rows) - history :], schema=dict.fromkeys(columns, pl.Float64()), orient="row"
    ).with_columns(pl.Series(TIMESTAMP, taken.times[len(taken.times) - history :], dtype=pl.Int64))
    rows = new.select(*columns, pl.col(TIMESTAMP).to_physical())
    both = pl.concat([before, rows.select(before.columns)])
    why = both.select(
        flagged(check, time=pl.col(TIMESTAMP), value=pl.col(check.column)).alias(str(number))
        for number, check in checks
    )[history:]
    return [
        (int(row), number, why[str(number)][int(row)])
        for number, _ in checks
        for row in why[str(number)].is_not_null().arg_true()
    ]


def _alone(time: int, row: Row, taken: Taken, checks: Numbered, positions: dict[str, int]) -> list[Failure]:
    """Failures of one row among those taken; a row that is there already, as it is, has none."""
    place = bisect_left(taken.times, time)
    if place < len(taken.times) and taken.times[place] == time and taken.rows[place] == row:
        return []
    found = []
    for number, check in checks:
        column = positions[check.column]
        low, high = max(place - length(check), 0), place
        if place < length(check) // 2 and isinstance(check, SpikeCheck):
            low = place + (place < len(taken.times) and taken.times[place] == time)
            high = low + length(check)
        values = [each[column] for each in taken.rows[low:high]]
        why = verdict(check, time=time, value=row[column], times=taken.times[low:high], values=values)
        found += [(0, number, why)] if why else []
    return found


def _refuses(checks: Numbered, number: int) -> bool:
    return next(check for other, check in checks if other == number).action == "quarantine"
