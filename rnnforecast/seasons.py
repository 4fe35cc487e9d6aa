"""Which seasons a panel repeats in: those its frequency suggests, kept where repeating them is worth it."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from rnnforecast.panel import Panel

WEEK_OF_DAYS = 7
CYCLES_NEEDED = 3  # a season must be seen this often before it is believed
LOOKED_AT = 2 / 3  # of each series: the later part is for validation and test, and decides nothing here
TOLERANCE = 1.1  # a longer season stays when repeating it is at most this much worse than the shortest
SERIES = 100  # looked at, evenly spaced: more of them move a median little
LAGS = 12  # of the steps ahead within a season, so many are tried, evenly spaced


def resolve(panel: Panel, wanted: int | tuple[int, ...] | Literal["auto"]) -> tuple[int, ...]:
    """Seasons in steps, shortest first; (1,) is none.

    One season given: seven of them (a week of days) are tried as a second one. `auto`: the seasons that the
    frequency suggests are kept where repeating the last one forecasts the next better than the last value does.
    Several given: taken as they are.
    """
    if isinstance(wanted, tuple):
        return tuple(sorted(set(wanted)))
    if wanted == "auto":
        tried = panel.frequency.season_lengths()
        return tuple(m for m in tried if m > 1 and _against_naive(panel, m) < 1) or (1,)
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
    errors = [
        _change(values, mask, season) / values[mask].std()
        for values, mask in _pasts(panel, CYCLES_NEEDED * season)
        if values[mask].std() > 0
    ]
    return _median(errors)


def _against_naive(panel: Panel, season: int) -> float:
    """The error of the seasonal naive forecast over one season ahead, in units of the naive forecast's; infinite where
    fewer than three cycles are there.

    The naive forecast is as many steps old as it looks ahead. Against its one-step error every smooth series would
    seem to have no season: from one hour to the next a load changes less than from day to day.
    """
    lags = torch.linspace(1, season, min(season, LAGS)).round().long().tolist()
    ratios = []
    for values, mask in _pasts(panel, CYCLES_NEEDED * season):
        naive = torch.stack([_change(values, mask, lag) for lag in lags]).nanmean()
        if naive > 0:
            ratios.append(_change(values, mask, season) / naive)
    return _median(ratios)


def _pasts(panel: Panel, fewest: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Values and mask of the part of each series that is looked at, where it has `fewest` steps."""
    lengths = (panel.lengths * LOOKED_AT).long()
    for series in range(0, len(panel), max(1, len(panel) // SERIES)):
        start, length = int(panel.offsets[series]), int(lengths[series])
        if length >= fewest:
            yield panel.values[start : start + length], panel.mask[start : start + length]


def _change(values: Tensor, mask: Tensor, lag: int) -> Tensor:
    """Mean absolute change over `lag` steps, around the average change: a trend is no error of a season."""
    change = (values[lag:] - values[:-lag])[mask[lag:] & mask[:-lag]]
    return (change - change.mean()).abs().mean()


def _median(found: list[Tensor]) -> float:
    kept = [each for each in found if each.isfinite()]
    return float(torch.stack(kept).median()) if kept else float("inf")
