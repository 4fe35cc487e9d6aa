"""The linear map of `base: linear`, from the last steps to the horizon: solved before the training, not learned by it.

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


class Examples(NamedTuple):
    """Cutoffs in the units of the loss."""

    recent: Tensor  # [R, K, L] the last steps
    actual: Tensor  # [R, K, H] what came after them, a value that is missing as the one before it
    weight: Tensor  # [R, K, H] bool, where there was a reading


@torch.no_grad()
def solve(network: Network, spans: Spans, checked: Sequence[Segment], *, weighting: Weighting) -> None:
    """Set the linear base to the map of least squares over the training span.

    Each step of the horizon has the penalty with which it is forecast best in the validation span `checked`, and how
    far it is missed there is what errors of the training count in. A span shorter than the horizon leaves the map at
    zero: the forecast is the shift.
    """
    if network.linear is None or network.misses is None:
        return
    square, product = _sums(network, spans, weighting)
    unit = square.diagonal().mean()
    if unit == 0:
        return
    sizes, vectors = torch.linalg.eigh(square)
    turned = vectors.T @ product
    judges = [_examples(network, each, validation_cutoffs(each, _most(each)), weighting) for each in checked]
    least = torch.full(network.linear.shape[1:], torch.inf, dtype=torch.float64, device=network.linear.device)
    for penalty in PENALTIES:
        found = (vectors @ (turned / (sizes.clamp(min=0.0) + penalty * unit)[:, None])).to(network.linear)
        missed = [(base.linear(one.recent, found) - one.actual) * one.weight for one in judges]
        error = torch.stack([each.square().sum(dim=(0, 1), dtype=torch.float64) for each in missed]).sum(dim=0)
        network.linear[:, error < least] = found[:, error < least]
        least = torch.minimum(least, error)
    readings = torch.stack([each.weight.sum(dim=(0, 1)) for each in judges]).sum(dim=0)
    if least.min() > 0 and readings.min() > 0:
        typical = (least / readings).sqrt()
        network.misses.copy_(typical / typical.mean())


def _most(batch: Segment) -> int:
    """Cutoffs of each lane of the validation span that judge the maps."""
    return max(VALIDATION_CUTOFFS, CHECKED // len(batch.fresh))


def _sums(network: Network, spans: Spans, weighting: Weighting) -> tuple[Tensor, Tensor]:
    """The normal equations over the training span, in float64: inputs by inputs [L, L], inputs by outputs [L, H]."""
    assert network.linear is not None
    steps, horizon = network.linear.shape
    square, product = torch.zeros(steps, steps).double(), torch.zeros(steps, horizon).double()
    for batch in _windows(spans, steps):
        found = _examples(network, batch, None, weighting)
        seen, after = found.recent[:, 0], found.actual[:, 0]
        square += (seen.T @ seen).cpu()
        product += (seen.T @ after).cpu()
    return square, product


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
    scaled = features.clamped((actual - units.shift[..., None]) / units.scale[..., None], config.parts.scaling)
    both = torch.cat([recent[..., -1:], scaled], dim=-1)
    known = torch.cat([torch.ones_like(weight[..., :1]), weight], dim=-1)
    newest = torch.where(known, torch.arange(both.shape[-1], device=both.device), 0).cummax(dim=-1).values
    factor = of_cutoffs(weighting, units.scale[..., None], batch.units)
    filled = both.gather(-1, newest)[..., 1:]
    return Examples(recent * factor, filled * factor, weight)
