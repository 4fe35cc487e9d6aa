"""What is wrong with values, told without any check: frozen sensors, spikes, sentinels."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from rnnforecast.columns import SERIES_ID
from rnnforecast.quality_findings import Array, Finding, Spots, told
from rnnforecast.quality_order import Ordered
from rnnforecast.quality_sentinels import REPEATED, SENTINELS, stands_out

SHORTEST: Final = 12  # equal readings that may be a frozen sensor
HABIT: Final = 4  # times as long as the longest run that chance makes of how often two readings are equal
READINGS: Final = 50  # of a series, before its spikes are told
BUMP: Final = 15  # a spike's height in those that 95 % of the readings do not reach
TALL: Final = 40  # at this height it is one wherever it lies
OUTSIDE: Final = 3  # interquartile ranges from the median
MOST: Final = 20  # series whose constants are looked at, those that have most of them


def frozen(rows: Ordered, column: str) -> Iterator[Finding]:
    """Runs of equal readings that are long against the series' own habit; a constant series is told once."""
    place = np.flatnonzero(~np.isnan(rows.values(column)))
    values, code, time = rows.values(column)[place], rows.code[place], rows.time[place]
    if not len(values):
        return
    starts = np.flatnonzero(np.concatenate([[True], (values[1:] != values[:-1]) | (code[1:] != code[:-1])]))
    run, value, code = np.diff(np.append(starts, len(values))), values[starts], code[starts]
    limit, alone, lowest = _habits(run, value, code)
    # Zero, where nothing is less, is no reading that stands still but nothing there: no rain, no sun.
    stuck = np.flatnonzero((run > limit) & (alone | (value != 0) | (lowest < 0)))

    def say(part: slice) -> str:
        mine = stuck[part]
        at = mine[run[mine].argmax()]
        if alone[at]:
            return f"constant: {value[at]:g} in all {run[at]:,} readings"
        runs = "a run of equal readings" if len(mine) == 1 else f"{len(mine)} runs of equal readings, the longest"
        since = rows.say(time[starts[at]])
        return f"{runs}: {value[at]:g} {run[at]:,} times from {since} on, where chance makes {int(limit[at]):,} at most"

    yield from told("frozen", column, Spots(rows.names, code[stuck], time[starts[stuck]]), say, counts=run[stuck])


def _habits(run: Array, value: Array, code: Array) -> tuple[Array, Array, Array]:
    """For each run: the length that is still usual in its series, whether it is all of it, the series' lowest value."""
    begin = np.flatnonzero(np.concatenate([[True], code[1:] != code[:-1]]))
    count = np.diff(np.append(begin, len(code)))
    total, longest = np.add.reduceat(run, begin), np.maximum.reduceat(run, begin)
    equal = (total - count - longest + 1) / np.maximum(total - longest, 1)
    with np.errstate(divide="ignore"):
        chance = np.where((equal > 0) & (equal < 1), np.log(total) / -np.log(np.clip(equal, 1e-12, 1 - 1e-12)), 0.0)
    limit = np.maximum(SHORTEST, HABIT * chance)
    each = np.repeat(np.arange(len(begin)), count)
    return limit[each], (count == 1)[each], np.minimum.reduceat(value, begin)[each]


def spikes(rows: Ordered, column: str) -> Iterator[Finding]:
    """Single readings far off both neighbours, by the series' own measure."""
    place = np.flatnonzero(~np.isnan(rows.values(column)))
    values, code, time = rows.values(column)[place], rows.code[place], rows.time[place]
    if len(values) < READINGS:
        return
    before, after = values[1:-1] - values[:-2], values[1:-1] - values[2:]
    inside = (code[1:-1] == code[:-2]) & (code[1:-1] == code[2:]) & (before * after > 0)
    bump = np.zeros(len(values))
    bump[1:-1] = np.where(inside, np.minimum(abs(before), abs(after)), 0.0)
    measures = _measures(values, code, bump)
    each = np.searchsorted(measures["code"].to_numpy(), code)
    usual, middle, reach = (measures[name].to_numpy()[each] for name in ("usual", "middle", "reach"))
    far = (bump > BUMP * usual) & (abs(values - middle) > OUTSIDE * reach)
    spike = (usual > 0) & (reach > 0) & (far | (bump > TALL * usual))
    # A reading between two spikes is far off both of its neighbours, and right.
    spike[1:-1] &= ~(spike[:-2] & spike[2:])
    off = np.flatnonzero(spike)

    def say(part: slice) -> str:
        mine = off[part]
        at = mine[bump[mine].argmax()]
        said = "a reading" if len(mine) == 1 else f"{len(mine)} readings"
        near = f"between {values[at - 1]:g} and {values[at + 1]:g}"
        return f"{said} far off both neighbours; the farthest, {values[at]:g} at {rows.say(time[at])}, {near}"

    yield from told("spike", column, Spots(rows.names, code[off], time[off]), say)


def _measures(values: Array, code: Array, bump: Array) -> pl.DataFrame:
    """By series: how high 95 % of its bumps are (0 in short ones), its median and interquartile range."""
    frame = pl.DataFrame({"code": code, "value": values, "bump": bump})
    value = pl.col("value")
    each = frame.group_by("code").agg(
        pl.when(pl.len() >= READINGS).then(pl.col("bump").quantile(0.95)).otherwise(0.0).alias("usual"),
        value.median().alias("middle"),
        (value.quantile(0.75) - value.quantile(0.25)).alias("reach"),
    )
    return each.sort("code")


def constants(rows: Ordered, column: str) -> dict[str, list[float]]:
    """By series, usual constants for no reading, repeated and far from all else in it."""
    suspects = rows.frame.filter(pl.col(column).is_in(list(SENTINELS)))
    counts = suspects[SERIES_ID].value_counts().filter(pl.col("count") >= REPEATED)
    found = {}
    for name in counts.sort("count", SERIES_ID, descending=[True, False])[SERIES_ID][:MOST]:
        numbers = rows.frame.filter(pl.col(SERIES_ID) == name)[column].drop_nulls()
        if values := [value for value in SENTINELS if stands_out(value, numbers)]:
            found[str(name)] = values
    return found


def sentinels(rows: Ordered, column: str, found: dict[str, list[float]]) -> Iterator[Finding]:
    """What `constants` found."""
    for name, values in found.items():
        for value in values:
            times = rows.frame.filter(pl.col(SERIES_ID) == name, pl.col(column) == value)["#time"].to_list()
            said = f"{value:g} stands in {len(times):,} readings, far from all others: list it under `null_values:`"
            yield Finding("sentinel", name, column, len(times), min(times), max(times), said)


def without(rows: Ordered, column: str, found: dict[str, list[float]]) -> Ordered:
    """The rows with no reading where a series has one of its constants."""
    wrong = [(pl.col(SERIES_ID) == name) & pl.col(column).is_in(values) for name, values in found.items()]
    if not wrong:
        return rows
    kept = pl.when(~pl.any_horizontal(wrong)).then(pl.col(column)).alias(column)
    return replace(rows, frame=rows.frame.with_columns(kept))
