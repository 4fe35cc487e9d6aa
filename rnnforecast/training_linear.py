"""The linear map of `base: linear`, from the last steps to the horizon: solved before the training, not learned by it.

Ridge regression in the units of each cutoff (subtracting the last value is NLinear: Zeng et al. 2023). A normal
equation of so few unknowns takes seconds, where gradients take epochs and end short of it.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rnnforecast.batches import Segment, Spans
from rnnforecast.learner import following, validation_cutoffs
from rnnforecast.nn import features, transform
from rnnforecast.nn.network import Network

CUTOFFS = 65_536  # of the training span at most, evenly spread
LANES = 256  # at once
PENALTIES = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of the inputs' mean square


@torch.no_grad()
def solve(network: Network, spans: Spans, checked: Sequence[Segment]) -> None:
    """Set the linear base to the map of least squares over the training span, and of the penalties on its weights
    take the one that forecasts the validation span `checked` best. A span shorter than the horizon leaves it at zero:
    the forecast is the shift then."""
    if network.linear is None:
        return
    steps, horizon = network.linear.shape
    square = torch.zeros(steps, steps, dtype=torch.float64)
    product = torch.zeros(steps, horizon, dtype=torch.float64)
    for batch in _windows(spans, steps):
        seen, actual, _ = _examples(network, batch, torch.zeros_like(batch.fresh, dtype=torch.int64)[:, None])
        square += (seen.T @ seen).double().cpu()
        product += (seen.T @ actual).double().cpu()
    largest, vectors = torch.linalg.eigh(square)
    turned = vectors.T @ product
    unit = square.diagonal().mean()
    if unit == 0:
        return
    maps = [(vectors @ (turned / (largest + share * unit)[:, None])).float() for share in PENALTIES]
    errors = torch.zeros(len(maps), dtype=torch.float64)
    for batch in checked:
        seen, actual, weight = _examples(network, batch, validation_cutoffs(batch))
        for index, each in enumerate(maps):
            missed = seen @ each.to(seen.device) - actual
            errors[index] += (missed.square() * weight).sum(dtype=torch.float64).cpu()
    network.linear.copy_(maps[int(errors.argmin())])


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


def _examples(network: Network, batch: Segment, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Recent steps [N, L], what came after them [N, H] and where it was read [N, H], in the units of the loss; a value
    that is missing as the one before it."""
    encoding, _ = network.encode(batch.inputs, network.remember(batch.before))
    units = encoding.units.at(at)
    seen = network.recent(encoding, at, units)
    actual, weight = following(batch, at, network.config.learned_horizon)
    bent = transform.forward(network.config.parts.transform, actual)
    scaled = (bent - units.shift[..., None]) / units.scale[..., None]
    both = torch.cat([seen[..., -1:], features.clamped(scaled)], dim=-1)
    known = torch.cat([torch.ones_like(weight[..., :1]), weight], dim=-1)
    factor = 1.0 if batch.spread is None else units.scale[..., None] / batch.spread[:, None, None]
    seen, both = seen * factor, both * factor
    newest = torch.where(known, torch.arange(both.shape[-1], device=both.device), 0).cummax(dim=-1).values
    return seen.flatten(0, 1), both.gather(-1, newest)[..., 1:].flatten(0, 1), weight.flatten(0, 1)
