"""Which seasons a panel repeats in: those its frequency suggests, kept where repeating them is worth it."""

from typing import Literal

import torch

from rnnforecast.panel import Panel

WEEK_OF_DAYS = 7
CYCLES_NEEDED = 3  # a season must be seen this often before it is believed
LOOKED_AT = 2 / 3  # of each series: the later part is for validation and test, and decides nothing here
TOLERANCE = 1.1  # a longer season stays when repeating it is at most this much worse than the shortest


def resolve(panel: Panel, wanted: int | tuple[int, ...] | Literal["auto"]) -> tuple[int, ...]:
    """Seasons in steps, shortest first; (1,) is none.

    One season given: seven of them (a week of days) are tried as a second one. `auto`: the seasons that the
    frequency suggests are tried. Several given: taken as they are.
    """
    if isinstance(wanted, tuple):
        return tuple(sorted(set(wanted)))
    if wanted == "auto":
        tried = panel.frequency.season_lengths()
        kept = tuple(m for m in tried if m > 1 and _error(panel, m) < _error(panel, 1) * TOLERANCE)
        return kept or (1,)
    if wanted == 1:
        return (1,)
    longer = wanted * WEEK_OF_DAYS
    return (wanted, longer) if _error(panel, longer) < _error(panel, wanted) * TOLERANCE else (wanted,)


def calendar_periods(panel: Panel) -> tuple[float, ...]:
    """The calendar cycles (day, week, year; in steps) that some series has seen at least three times over.

    A network that is told where in the year it stands, by a series of two months, learns dates by heart.
    """
    longest = LOOKED_AT * int(panel.lengths.max())
    return tuple(length for _, length in panel.frequency.calendar_periods() if longest >= CYCLES_NEEDED * length)


def _error(panel: Panel, season: int) -> float:
    """Mean absolute error of repeating the value of `season` steps ago, each series in units of its own spread;
    infinite where fewer than three cycles are there."""
    errors = []
    for start, length in zip(panel.offsets.tolist(), panel.lengths.tolist(), strict=False):
        length = int(length * LOOKED_AT)
        if length < CYCLES_NEEDED * season:
            continue
        values = panel.values[start : start + length]
        mask = panel.mask[start : start + length]
        both = mask[season:] & mask[:-season]
        spread = values[mask].std()
        if both.any() and spread > 0:
            errors.append((values[season:] - values[:-season])[both].abs().mean() / spread)
    return float(torch.stack(errors).median()) if errors else float("inf")
