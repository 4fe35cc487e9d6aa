"""Segments of a panel as batches: one gather from the resident tensors, nothing copied per window.

Shapes: B lanes (a lane is one entity's segment), C channels, R = B * C rows, T steps, H horizon, M remembered steps.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from rnnforecast.nn.network import Encoding, Inputs, Network
from rnnforecast.panel import Panel

PROCESS_SEED = 1_000_000_007  # between the seeds of processes that train side by side
FROM_THE_START = 0.1  # share of fresh lanes that begin where their series begins, so that short histories are learned
WINDOWS_AT_ONCE = 4  # batches of windows that are gathered and prepared together: numbers take less time than calls


class Segment(NamedTuple):
    """One batch: T steps of B lanes, what follows them, and which lanes begin afresh."""

    inputs: Inputs
    targets: Tensor  # [R, T + H] values of steps 1..T+H after the one before the first
    target_mask: Tensor  # [R, T + H] False where missing, or later than the lane may learn from
    before: Inputs  # the M steps before the segment
    fresh: Tensor  # [B] bool, True where no state is carried into this lane
    first: Tensor  # [B, T] bool, True where a loss may stand
    units: Tensor  # [R, 3] of errors, see `learner_weighting.error_units`
    windows: Encoding | None = None  # what a window model has made of them, see `Network.windows`


def gather(panel: Panel, entity: Tensor, start: Tensor, steps: int, horizon: int, codes: Tensor) -> Inputs:
    """Steps start..start+T-1 of lanes; outside of a series nothing is observed. entity, start [B]; codes [E]."""
    series, begin = panel.members(entity), start.repeat_interleave(panel.channels)
    values, mask = _neighbours(panel, series, begin, steps) or _stretches(panel, series, begin, steps)
    first = entity * panel.channels
    ordinals = (panel.starts[first] + start)[:, None] + torch.arange(steps, device=start.device)
    past = _covariates(panel.past, panel, first, start, steps=steps)
    known = _covariates(panel.known, panel, first, start + 1, steps=steps + horizon)
    return Inputs(values, mask, ordinals, past, known, panel.static[first], codes[entity])


def _neighbours(panel: Panel, series: Tensor, start: Tensor, steps: int) -> tuple[Tensor, Tensor] | None:
    """The same steps of series that lie side by side and are equally long, without a place for each; else None."""
    if series.is_cuda:  # to ask a GPU for these numbers would hold it up
        return None
    first, count, begin = int(series[0]), len(series), int(start[0])
    if int(series[-1]) - first != count - 1:
        return None
    length = int(panel.offsets[first + 1] - panel.offsets[first])
    ends = panel.offsets[first : first + count + 1]
    if begin < 0 or begin + steps > length or len(ends) <= count or not (ends.diff() == length).all():
        return None
    if not ((start == begin).all() and (series == torch.arange(first, first + count, device=series.device)).all()):
        return None
    rows = slice(int(ends[0]), int(ends[-1]))
    values, mask = (part[rows].view(count, length)[:, begin : begin + steps] for part in (panel.values, panel.mask))
    return values, mask


def _stretches(panel: Panel, series: Tensor, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Values and mask [R, T] of so many steps of each series from `start` [R] on; nothing is read outside of it."""
    if series.is_cuda or steps > len(panel.values):  # (to ask a GPU which reach out of the panel would hold it up)
        return panel.gather(*_rows(panel, series, start, steps))
    base, stop = panel.offsets[series], panel.offsets[series + 1]
    row, last = base + start, len(panel.values) - steps
    values, mask = (part.unfold(0, steps, 1)[row.clamp(0, last)] for part in (panel.values, panel.mask))
    over = ((start < 0) | (row + steps > stop)).nonzero()[:, 0]
    if len(over):
        values[over], mask[over] = panel.gather(*_rows(panel, series[over], start[over], steps))
    return values, mask


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


@dataclass(frozen=True)
class Spans:
    """What segments are cut from: a panel, and for each series the step before which learning ends."""

    panel: Panel
    end: Tensor  # [S]
    codes: Tensor  # [E], which embedding each entity has
    horizon: int
    memory: int
    units: Tensor | None = None  # [S, 3] of errors, see `learner_weighting.error_units`; absent: 1

    @property
    def lane_end(self) -> Tensor:
        """The same for each entity, [E]."""
        return self.end.unflatten(0, (-1, self.panel.channels)).amax(dim=1)

    def to(self, device: torch.device | str) -> "Spans":
        units = None if self.units is None else self.units.to(device)
        end, codes = self.end.to(device), self.codes.to(device)
        return Spans(self.panel.to(device), end, codes, self.horizon, self.memory, units)

    def segment(self, entity: Tensor, start: Tensor, *, steps: int) -> Segment:
        """The segment of `entity` [B] from `start` [B] on that learns from steps before `end` only."""
        panel, memory, device = self.panel, self.memory, start.device
        # One gather of all that is looked at; before, inputs and targets are views of it.
        whole = gather(panel, entity, start - memory, memory + steps + self.horizon + 1, 0, self.codes)
        series = panel.members(entity)
        left = self.end[series] - start.repeat_interleave(panel.channels)  # steps to learn from, the first among them
        ahead = torch.arange(1, steps + self.horizon + 1, device=device)
        target_mask = whole.mask[:, memory + 1 :] & (ahead < left[:, None])
        everywhere = torch.ones(len(entity), steps, dtype=torch.bool, device=device)
        fresh = torch.ones(len(entity), dtype=torch.bool, device=device)
        units = torch.ones(len(series), 3, device=device) if self.units is None else self.units[series]
        before, inputs = _cut(whole, 0, memory), _cut(whole, memory, steps, self.horizon)
        return Segment(inputs, whole.values[:, memory + 1 :], target_mask, before, fresh, everywhere, units)


def _cut(inputs: Inputs, first: int, steps: int, horizon: int = 0) -> Inputs:
    """Some steps of a gather, with the known covariates of a horizon behind them."""
    values, mask, ordinals, past = (part[:, first : first + steps] for part in inputs[:4])
    return Inputs(values, mask, ordinals, past, inputs.known[:, first : first + steps + horizon], *inputs[5:])


class TrainingSegments(IterableDataset[Segment]):
    """An endless stream of training batches.

    Every lane is at some place of some series. With probability `carry` it goes on where it stopped, and the state
    goes on with it, so that states far from their start are part of the training; else it starts afresh at random,
    and its first `warm_up` steps bear no loss. With `carry` 1 every lane goes through its series chunk by chunk, until
    less than half a chunk is left. The batches are a function of the seed and of the process, where several train side
    by side: `skip` leaves out the first ones, which a training that goes on has seen. What a window model `network`
    makes of its windows without its weights, it makes of several batches at once.
    """

    def __init__(
        self,
        spans: Spans,
        *,
        steps: int,
        lanes: int,
        carry: float,
        seed: int,
        skip: int = 0,
        network: Network | None = None,
    ) -> None:
        self.spans, self.steps, self.lanes = spans, steps, lanes
        self.carry, self.seed, self.skip, self.network = carry, seed, skip, network
        self.warm_up = min(spans.memory, steps // 4)
        # Single steps are windows, which know no start.
        self.from_the_start, self.at_once = (FROM_THE_START, 1) if steps > 1 else (0.0, WINDOWS_AT_ONCE)

    def __iter__(self) -> Iterator[Segment]:
        draws = itertools.islice(self._draws(), self.skip, None)
        while True:
            some = zip(*itertools.islice(draws, self.at_once), strict=True)
            yield from self._batches(*(torch.cat(each) for each in some))

    def _draws(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each batch, entity and start of its lanes [B], and which of them are fresh."""
        random = torch.Generator().manual_seed(self.seed + _process() * PROCESS_SEED)
        end = self.spans.lane_end.cpu()
        weights = end.clamp(min=0).double() * (end > 1)
        entity = torch.multinomial(weights, self.lanes, replacement=True, generator=random)
        start = torch.full((self.lanes,), torch.iinfo(torch.int64).max // 2)
        while True:
            start = start + self.steps
            left = end[entity] - start  # where less than half a segment is, most of it would be worked out for nothing
            drawn = torch.rand(self.lanes, generator=random) < self.carry
            goes_on = drawn & (left > (self.steps + 1) // 2)
            other = torch.multinomial(weights, self.lanes, replacement=True, generator=random)
            room = (end[other] - self.steps).clamp(min=0)
            place = (torch.rand(self.lanes, generator=random) * (room + 1)).long().clamp(max=room)
            place[torch.rand(self.lanes, generator=random) < self.from_the_start] = 0
            entity, start = torch.where(goes_on, entity, other), torch.where(goes_on, start, place)
            yield entity, start, ~goes_on

    def _batches(self, entity: Tensor, start: Tensor, fresh: Tensor) -> Iterator[Segment]:
        device = self.spans.panel.values.device
        whole = self.spans.segment(entity.to(device), start.to(device), steps=self.steps)
        warm = torch.arange(self.steps) >= self.warm_up
        whole = whole._replace(fresh=fresh.to(device), first=(warm | ~fresh[:, None]).to(device))
        if self.network is not None:
            whole = whole._replace(windows=self.network.windows(whole.inputs, whole.before))
        yield from _divided(whole, len(entity) // self.lanes)


def _divided(part: Any, number: int) -> list[Any]:
    """So many equal shares of a batch (tensors in tuples), of as many lanes each."""
    if part is None:
        return [None] * number
    if isinstance(part, Tensor):
        return list(part.chunk(number))
    return [type(part)(*share) for share in zip(*(_divided(each, number) for each in part), strict=True)]


def _process() -> int:
    """Which of several training processes this is."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0
