"""Segments of a panel as batches: one gather from the resident tensors, nothing copied per window.

Shapes: B lanes (a lane is one series' segment), T steps, H horizon, M remembered steps.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from rnnforecast.nn.memory import State, extend
from rnnforecast.nn.network import Inputs, Network
from rnnforecast.panel import Panel

FROM_THE_START = 0.1  # share of fresh lanes that begin where their series begins, so that short histories are learned


class Segment(NamedTuple):
    """One batch: T steps of B lanes, what follows them, and which lanes begin afresh."""

    inputs: Inputs
    targets: Tensor  # [B, T + H] values of steps 1..T+H after the one before the first
    target_mask: Tensor  # [B, T + H] False where missing, or later than the lane may learn from
    before: Tensor  # [B, M] values before the segment
    before_mask: Tensor  # [B, M]
    fresh: Tensor  # [B] bool, True where no state is carried into this lane
    first: Tensor  # [B, T] bool, True where a loss may stand


def gather(panel: Panel, series: Tensor, start: Tensor, steps: int, horizon: int) -> Inputs:
    """Steps start..start+T-1 of lanes; outside of a series nothing is observed. series, start [B]."""
    values, mask = panel.gather(*_rows(panel, series, start, steps))
    ordinals = (panel.starts[series] + start)[:, None] + torch.arange(steps, device=start.device)
    past = _covariates(panel.past, panel, series, start, steps=steps)
    known = _covariates(panel.known, panel, series, start + 1, steps=steps + horizon)
    return Inputs(values, mask, ordinals, past, known)


def _rows(panel: Panel, series: Tensor, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    place = start[:, None] + torch.arange(steps, device=start.device)
    base, stop = panel.offsets[series][:, None], panel.offsets[series + 1][:, None]
    rows = base + place
    return rows, (place >= 0) & (rows < stop)


def _covariates(values: Tensor, panel: Panel, series: Tensor, start: Tensor, *, steps: int) -> Tensor:
    if values.shape[1] == 0:
        return values.new_zeros((len(series), steps, 0))
    rows, valid = _rows(panel, series, start, steps)
    found = values[rows.clamp(0, len(values) - 1)]
    return torch.where(valid[..., None], found, torch.nan)


def remember(network: Network, before: Tensor, before_mask: Tensor) -> State:
    """The state that has seen only the values before a segment, its hidden part at rest."""
    state = network.initial_state(len(before))
    filled, observed = extend(state, before, before_mask)
    return state._replace(filled=filled[:, -network.memory :], observed=observed[:, -network.memory :])


def segment(
    panel: Panel, lanes: tuple[Tensor, Tensor], end: Tensor, *, steps: int, horizon: int, memory: int
) -> Segment:
    """The segment of `lanes` (series [B], start [B]) that learns from steps before `end` [S] only."""
    series, start = lanes
    after, inside = _rows(panel, series, start + 1, steps + horizon)
    place = start[:, None] + 1 + torch.arange(steps + horizon, device=start.device)
    targets, target_mask = panel.gather(after, inside & (place < end[series][:, None]))
    earlier, seen = _rows(panel, series, start - memory, memory)
    before, before_mask = panel.gather(earlier, seen)
    inputs = gather(panel, series, start, steps, horizon)
    everywhere = torch.ones(len(series), steps, dtype=torch.bool, device=start.device)
    fresh = torch.ones(len(series), dtype=torch.bool, device=start.device)
    return Segment(inputs, targets, target_mask, before, before_mask, fresh, everywhere)


class TrainingSegments(IterableDataset[Segment]):
    """An endless stream of training batches.

    Every lane is at some place of some series. With probability `carry` it goes on where it stopped, and the state
    goes on with it, so that states far from their start are part of the training; else it starts afresh at random,
    and its first `warm_up` steps bear no loss.
    """

    def __init__(
        self, panel: Panel, end: Tensor, *, steps: int, horizon: int, memory: int, lanes: int, carry: float, seed: int
    ) -> None:
        self.panel, self.end = panel, end
        self.steps, self.horizon, self.memory, self.lanes = steps, horizon, memory, lanes
        self.carry, self.seed = carry, seed
        self.warm_up = min(memory, steps // 4)

    def __iter__(self) -> Iterator[Segment]:
        random = torch.Generator().manual_seed(self.seed)
        weights = self.end.clamp(min=0).double() * (self.end > 1)
        series = torch.multinomial(weights, self.lanes, replacement=True, generator=random)
        start = torch.full((self.lanes,), torch.iinfo(torch.int64).max // 2)
        while True:
            start = start + self.steps
            goes_on = (start + 1 < self.end[series]) & (torch.rand(self.lanes, generator=random) < self.carry)
            other = torch.multinomial(weights, self.lanes, replacement=True, generator=random)
            room = (self.end[other] - self.steps).clamp(min=0)
            place = (torch.rand(self.lanes, generator=random) * (room + 1)).long().clamp(max=room)
            place[torch.rand(self.lanes, generator=random) < FROM_THE_START] = 0
            series, start = torch.where(goes_on, series, other), torch.where(goes_on, start, place)
            yield self._batch(series, start, ~goes_on)

    def _batch(self, series: Tensor, start: Tensor, fresh: Tensor) -> Segment:
        device = self.panel.values.device
        lanes = (series.to(device), start.to(device))
        batch = segment(
            self.panel, lanes, self.end.to(device), steps=self.steps, horizon=self.horizon, memory=self.memory
        )
        warm = torch.arange(self.steps) >= self.warm_up
        return batch._replace(fresh=fresh.to(device), first=(warm | ~fresh[:, None]).to(device))
