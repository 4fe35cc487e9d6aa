"""Where a cutoff may stand: training, validation and test by time, and the rolling origins of a backtest.

Positions count within a series; a *cutoff position* p sees steps 0..p and forecasts p+1..p+horizon.
"""

from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from rnnforecast.panel import Cutoffs, Panel

SPAN_IN_HORIZONS = 3  # auto: test and validation each cover this many horizons ...
SPAN_SHARE = 6  # ... but no more than this part of a series of median length
ENOUGH = 24  # ... and where series are few, so many horizons over all of them: a choice by less is left to chance ...
ENOUGH_SHARE = 12  # ... but no more than this part of a series: what was learned grows old


class WindowError(ValueError):
    """The series are too short for what was asked."""


@dataclass(frozen=True)
class Split:
    """For each series, [S]: training is [0, train_end), validation up to valid_end, test up to the last reading."""

    train_end: Tensor
    valid_end: Tensor
    test_end: Tensor


def spans(
    panel: Panel, horizon: int, *, season: int, test_steps: int | str, validation_steps: int | str
) -> tuple[int, int]:
    """The numbers of test and validation steps, with `auto` filled in: 3 horizons, at most a sixth of a series; where
    series are few, as many as make 24 horizons over all of them, and one cycle of the longest season, at most a
    twelfth of a series."""
    length = int(median(panel.lengths.tolist()))
    usual = min(SPAN_IN_HORIZONS * horizon, length // SPAN_SHARE)
    enough = min(max(-(-ENOUGH // len(panel)) * horizon, season), length // ENOUGH_SHARE)
    auto = max(horizon, usual, enough)
    test = auto if test_steps == "auto" else int(test_steps)
    validation = auto if validation_steps == "auto" else int(validation_steps)
    if test < horizon or validation < horizon:
        raise WindowError(
            f"backtest: test_steps {test} and validation_steps {validation} must each hold a horizon of {horizon}"
        )
    return test, validation


def split(panel: Panel, test_steps: int, validation_steps: int) -> Split:
    """Cut every series by time: datetime series at the same moment, integer series (no common clock) from their ends.

    Raises WindowError when nothing is left to train on.
    """
    ends = panel.lengths
    if panel.frequency.is_integer:
        valid_end = ends - test_steps
    else:
        stops = panel.starts + ends
        valid_end = torch.minimum(ends, stops.max() - test_steps - panel.starts)
    train_end = torch.minimum(ends, valid_end - validation_steps)
    if int(train_end.max()) < 2:
        raise WindowError(
            f"backtest: the longest series has {int(ends.max())} steps; {validation_steps} of validation and "
            f"{test_steps} of test leave nothing to train on; collect more, or shorten horizon, test_steps or "
            "validation_steps"
        )
    return Split(train_end.clamp(min=0), valid_end.clamp(min=0), ends)


def steps_between(stride: int | str, horizon: int) -> int:
    """The stride of rolling origins, with `auto` filled in: half a horizon."""
    return max(1, horizon // 2) if stride == "auto" else int(stride)


def rolling(start: Tensor, end: Tensor, horizon: int, stride: int) -> Cutoffs:
    """Rolling origins: every `stride` steps, the last one a horizon before `end`, none before `start` - 1.

    start, end [S]: the span (positions) in which all forecast steps lie.

    >>> rolling(torch.tensor([10]), torch.tensor([20]), 4, 3).position.tolist()
    [9, 12, 15]
    """
    newest, oldest = end - horizon - 1, (start - 1).clamp(min=0)
    counts = ((newest - oldest) // stride + 1).clamp(min=0)
    series = torch.repeat_interleave(torch.arange(len(start)), counts)
    back = counts.cumsum(0)[series] - 1 - torch.arange(len(series))  # 0 for the last one of each series
    return Cutoffs(series, newest[series] - stride * back)


def backtest_cutoffs(panel: Panel, parts: Split, horizon: int, stride: int | str) -> Cutoffs:
    """The rolling origins of the test span that have a reading to be scored against; auto stride: half a horizon.

    Raises WindowError when no series reaches into the test span.
    """
    cutoffs = rolling(parts.valid_end, parts.test_end, horizon, steps_between(stride, horizon))
    if len(cutoffs) == 0:
        raise WindowError(
            f"backtest: no series has {horizon} steps (the horizon) after the end of validation; "
            "shorten the horizon or lengthen test_steps"
        )
    return cutoffs
