"""The linear maps of `base: linear`, from the last steps to the horizon: solved before the training, not learned by it.

Ridge regression in the units of each cutoff (subtracting the last value is NLinear: Zeng et al. 2023). A normal
equation of so few unknowns takes seconds, where gradients take epochs and end short of it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rnnforecast.batches import Segment, Spans
from rnnforecast.learner import VALIDATION_CUTOFFS, following, validation_cutoffs
from rnnforecast.learner_weighting import Weighting, of_cutoffs
from rnnforecast.nn import base, features
from rnnforecast.nn.network import Network
from rnnforecast.nn.places import Places

CUTOFFS = 32_768  # of the training span at most, evenly spread
CHECKED = 2_048  # of the validation span, about, in each of its batches
LANES = 256  # at once
PENALTIES = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # on the weights, in the inputs' mean square
OWN_PENALTIES = (0.3, 1.0, 3.0, 10.0)  # on what a series' own map differs by from the one of all


class Examples(NamedTuple):
    """Cutoffs in the units of the loss."""

    recent: Tensor  # [R, K, L] the last steps
    actual: Tensor  # [R, K, H] what came after them, a value that is missing as the one before it
    weight: Tensor  # [R, K, H] bool, where there was a reading
    which: Tensor  # [R] the map of each row


class Sums(NamedTuple):
    """The normal equations of a map."""

    square: Tensor  # [L, L] float64, inputs by inputs
    product: Tensor  # [L, H] float64, inputs by outputs


class Ridge:
    """Least squares with any penalty, from one decomposition of the inputs' square [L, L]."""

    def __init__(self, square: Tensor) -> None:
        self.square, self.unit = square, square.diagonal().mean()
        sizes, self.vectors = torch.linalg.eigh(square)
        self.sizes = sizes.clamp(min=0.0)

    def solve(self, product: Tensor, penalty: float) -> Tensor:
        """The map [L, H] of inputs by outputs [L, H], the penalty on its weights in mean squares of the inputs; zero
        where nothing was seen."""
        if self.unit == 0:
            return torch.zeros_like(product)
        return self.vectors @ ((self.vectors.T @ product) / (self.sizes + penalty * self.unit)[:, None])


@torch.no_grad()
def solve(network: Network, spans: Spans, checked: Sequence[Segment], *, weighting: Weighting) -> None:
    """Set the linear base to the map of least squares over the training span; where series have maps of their own, to
    that and what each of them adds to it.

    Each step of the horizon has the penalties with which it is forecast best in the validation span `checked`, and how
    far it is missed there is what errors of the training count in. A span shorter than the horizon leaves the maps at
    zero: the forecast is the shift.
    """
    if network.linear is None or network.misses is None:
        return
    least = torch.full(network.linear.shape[2:], torch.inf, dtype=torch.float64, device=network.linear.device)
    judges = [_examples(network, each, validation_cutoffs(each, _most(each)), weighting) for each in checked]
    for maps in _candidates(_sums(network, spans, weighting)):
        maps = maps.to(network.linear)
        missed = [(base.linear(one.recent, maps, one.which) - one.actual) * one.weight for one in judges]
        error = torch.stack([each.square().sum(dim=(0, 1), dtype=torch.float64) for each in missed]).sum(dim=0)
        network.linear[:, :, error < least] = maps[:, :, error < least]
        least = torch.minimum(least, error)
    readings = torch.stack([each.weight.sum(dim=(0, 1)) for each in judges]).sum(dim=0)
    if least.min() > 0 and readings.min() > 0:
        typical = (least / readings).sqrt()
        network.misses.copy_(typical / typical.mean())


def _candidates(sums: list[Sums]) -> Iterator[Tensor]:
    """Maps [1 + S, L, H] with every choice of penalties: one for all series, and with what is each one's own."""
    common = Sums(*(torch.stack(part).sum(dim=0) for part in zip(*sums, strict=True)))
    of_all = Ridge(common.square)
    own = [Ridge(one.square) for one in sums] if len(sums) > 1 else []
    for penalty in PENALTIES:
        found = of_all.solve(common.product, penalty)
        yield found.expand(len(sums), -1, -1)
        if own:
            rest = [one.product - one.square @ found for one in sums]
            for more in OWN_PENALTIES:
                yield found + torch.stack([one.solve(left, more) for one, left in zip(own, rest, strict=True)])


def _most(batch: Segment) -> int:
    """Cutoffs of each lane of the validation span that judge the maps."""
    return max(VALIDATION_CUTOFFS, CHECKED // len(batch.fresh))


def _sums(network: Network, spans: Spans, weighting: Weighting) -> list[Sums]:
    """The normal equations of each map, over the training span: of the first one those that none is the map of."""
    assert network.linear is not None
    count, steps, horizon = network.linear.shape
    sums = [Sums(torch.zeros(steps, steps).double(), torch.zeros(steps, horizon).double()) for _ in range(count)]
    for batch in _windows(spans, steps):
        found = _examples(network, batch, None, weighting)
        for one in found.which.unique().tolist():
            rows = found.which == one
            seen, after = found.recent[rows, 0], found.actual[rows, 0]
            sums[one].square.add_((seen.T @ seen).cpu())
            sums[one].product.add_((seen.T @ after).cpu())
    return sums


def _windows(spans: Spans, steps: int) -> Iterator[Segment]:
    """Single cutoffs, evenly spread over the training span, with the whole horizon inside of it; and with the whole
    window, except where a series is so short that this would leave less than half of them."""
    last = (spans.lane_end.cpu() - spans.horizon).clamp(min=0)
    first = torch.minimum(torch.full_like(last, steps - 1), last // 2)
    upto = (last - first).cumsum(0)
    total = int(upto[-1])
    chosen = torch.arange(total) if total <= CUTOFFS else torch.linspace(0, total - 1, CUTOFFS).long()
    entity = torch.searchsorted(upto, chosen, right=True)
    start = last[entity] - (upto[entity] - chosen)
    device = spans.panel.values.device
    for some, places in zip(entity.split(LANES), start.split(LANES), strict=True):
        yield spans.segment(some.to(device), places.to(device), steps=1)


def _examples(network: Network, batch: Segment, at: Tensor | None, weighting: Weighting) -> Examples:
    """What a map is solved from, and judged by, at the steps `at` [B, K] (None: every one) of a batch."""
    encoding, _ = network.encode(batch.inputs, network.remember(batch.before))
    places = Places(batch.first.shape[1], at)
    units = encoding.units.at(places)
    recent = network.recent(encoding, places, units)
    config = network.config
    actual, weight = following(batch, at, config.learned_horizon, bent=config.parts.transform)
    scaled = features.clamped((actual - units.shift[..., None]) / units.scale[..., None])
    both = torch.cat([recent[..., -1:], scaled], dim=-1)
    known = torch.cat([torch.ones_like(weight[..., :1]), weight], dim=-1)
    newest = torch.where(known, torch.arange(both.shape[-1], device=both.device), 0).cummax(dim=-1).values
    factor = of_cutoffs(weighting, units.scale[..., None], batch.units)
    filled = both.gather(-1, newest)[..., 1:]
    return Examples(recent * factor, filled * factor, weight, network.map_of(batch.inputs.code))
