"""Values that are ten, a hundred, a thousand times off: a column whose unit changed.

Readings of up to `SERIES` series of a column are compared, in blocks, with the size that their own series had: the
logarithm's mean and mean deviation, kept in the cursor. So series of different sizes in one column are no change,
nor is what a series does by itself; and where batches are cut decides nothing but which readings are sampled.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import polars as pl

from rnnforecast.columns import SERIES_ID, TARGET
from rnnforecast.sources.base import ROW, Change, Cursor
from rnnforecast.sources.changes import action, stop
from rnnforecast.sources.layout import FROM, Mapping

SERIES: Final = 64  # of a column, those of the smallest hashes
COLUMNS: Final = 64
SAMPLE: Final = 10_000  # readings of all columns together
MULTIPLIER: Final = 2_654_435_761  # of Knuth: row numbers in disorder
BLOCK: Final = 32  # readings judged at once
KNOWN: Final = 16  # readings that a series' size is told by
SLOW: Final = 500  # readings after which older ones count less
NEAR: Final = math.log10(1.4)  # to a power of ten
FAR: Final = 6.0  # mean deviations that no reading of the same unit is off
CLIP: Final = 3.0
BLOCKS: Final = 2  # that show how much a column swings
FADE: Final = 0.998
MOST: Final = 0.8  # share of a block that must be off

Reading = tuple[str, float, int | None]  # series, log10 |value|, row


@dataclass
class Size:
    """How large the readings of one series are: the mean of log10 |x|, and the mean deviation from it."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0

    def add(self, value: float) -> None:
        """One more reading; one far off counts as one not so far."""
        self.count += 1
        off = value - self.mean
        if self.count > KNOWN:
            limit = max(CLIP * self.deviation, 0.05)
            off = min(max(off, -limit), limit)
        weight = 1 / min(self.count, SLOW)
        self.mean += weight * off
        self.deviation += weight * (abs(off) - self.deviation)


@dataclass
class Swing:
    """How far blocks of a column (nearly all of their readings) go off by themselves: another unit is twice that."""

    count: int = 0
    widest: float = 0.0

    def add(self, off: float) -> None:
        """One more block that is in its unit."""
        self.count += 1
        self.widest = max(self.widest * FADE, off)

    def beyond(self, off: float) -> bool:
        """Whether a block goes off as none does by itself."""
        return self.count >= BLOCKS and off > min(2 * self.widest, self.widest + 1)


@dataclass(frozen=True)
class Found:
    """Blocks of a column in another unit: by which power of ten at first, sizes, rows from - to."""

    column: str
    power: int
    before: float
    now: float
    ranges: list[tuple[int, int]] = field(default_factory=list)

    @property
    def said(self) -> str:
        """From what to what."""
        times = f"{10 ** abs(self.power):,} times {'larger' if self.power > 0 else 'smaller'}"
        return f"readings are {times} from row {self.ranges[0][0]} on ({self.before:.3g} before, {self.now:.3g} now)"


def watch(
    frame: pl.DataFrame, mapping: Mapping, sizes: Cursor, *, name: str
) -> tuple[Cursor, list[Found], list[Change]]:
    """The sizes to remember, what is to go to quarantine, and what is told; raises SourceError where that is stop."""
    share = SAMPLE * 20 / max(len(frame), 1)
    if share < 1:  # by the row's number, so that it is the same one wherever batches are cut
        scattered = pl.col(ROW).cast(pl.UInt64) * MULTIPLIER % 2**32
        frame = frame.filter(scattered < int(share * 2**32))
    targets = sorted(frame[FROM].unique(), key=_order)[:COLUMNS]
    columns = [(column, pl.col(FROM) == column, TARGET) for column in targets]
    columns += [(mapping.outside(covariate), pl.lit(True), covariate) for covariate in mapping.covariates]
    kept: Cursor = {}
    held, changes = [], []
    for column, rows, value in columns:
        chosen = action(mapping.source, "unit", column)
        part = frame.filter(rows & (pl.col(value) != 0)).select(SERIES_ID, pl.col(value).abs().log10(), ROW)
        most = SAMPLE // len(columns)
        kept[column], found = _column(column, part, sizes.get(column, {}), adopt=chosen != "quarantine", most=most)
        if found is None:
            continue
        if chosen == "stop":
            raise stop(name, f"column '{column}': {found.said}", column)
        held += [found] if chosen == "quarantine" else []
        changes.append(Change("unit", column, f"{name}: {found.said}", chosen))
    return {**sizes, **kept}, held, changes


def _order(name: str) -> tuple[int, str]:
    """An order that has nothing to do with the names, and is always the same."""
    return zlib.crc32(name.encode()), name


def _column(column: str, part: pl.DataFrame, memory: Cursor, *, adopt: bool, most: int) -> tuple[Cursor, Found | None]:
    known = {series: Size(*values) for series, values in memory.get("series", {}).items()}
    known = _chosen(known, part[SERIES_ID].unique())
    if len(known) == SERIES:
        part = part.filter(pl.col(SERIES_ID).is_in(list(known)))
    part = part.gather_every(max(len(part) // max(most, BLOCK), 1))
    readings: list[Reading] = [(series, value, None) for series, value in memory.get("rest", ()) if series in known]
    readings += part.rows()
    found: Found | None = None
    swing = Swing(*memory.get("swing", ()))
    whole = len(readings) // BLOCK * BLOCK
    for start in range(0, whole, BLOCK):
        block = readings[start : start + BLOCK]
        off, least, far = _off(block, known)
        power = round(off)
        if far and power and abs(off - power) < NEAR and swing.beyond(least):
            found = found or _found(column, power, block, known)
            rows = [row for _, _, row in block if row is not None]
            found.ranges.append((min(rows, default=0), max(rows, default=0)))
            if adopt:
                for size in known.values():
                    size.mean += power
            continue
        if far:  # a new level, and no unit: what comes is compared with that
            for size in known.values():
                size.mean += off
        swing.add(least)
        for series, value, _ in block:
            known[series].add(value)
    rest = [[series, round(value, 4)] for series, value, _ in readings[whole:]]
    sizes = {series: [size.count, round(size.mean, 4), round(size.deviation, 4)] for series, size in known.items()}
    return {"series": sizes, "rest": rest, "swing": [swing.count, round(swing.widest, 4)]}, found


def _chosen(known: dict[str, Size], here: Iterable[str]) -> dict[str, Size]:
    """The series that are remembered: those of the smallest hashes among all that were met."""
    new = [series for series in here if series not in known]
    if not new:
        return known
    ranked = sorted([*known, *new], key=_order)[:SERIES]
    return {series: known.get(series) or Size() for series in ranked}


def _off(block: list[Reading], known: dict[str, Size]) -> tuple[float, float, bool]:
    """By how much a block is off (the median of log10), by how much nearly all of it is, and whether far at that."""
    offs = [(value - size.mean, size.deviation) for series, value, _ in block if (size := known[series]).count >= KNOWN]
    if 2 * len(offs) < BLOCK:
        return 0.0, 0.0, False
    off = median(each for each, _ in offs)
    side = math.copysign(1, off)
    least = sorted(side * each for each, _ in offs)[int((1 - MOST) * len(offs))]
    far = sum(side * each > max(FAR * deviation, 0.5) for each, deviation in offs)
    return off, max(least, 0.0), far >= MOST * len(offs)


def _found(column: str, power: int, block: list[Reading], known: dict[str, Size]) -> Found:
    before = median(known[series].mean for series, _, _ in block)
    return Found(column, power, 10**before, 10 ** median(value for _, value, _ in block))
