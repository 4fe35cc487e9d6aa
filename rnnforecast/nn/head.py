"""From raw outputs to a forecast: quantiles that cannot cross, and the head that a word of the pipeline file means."""

from itertools import pairwise

import torch
from torch import Tensor

from rnnforecast.config_parts import Parts
from rnnforecast.nn.head_base import Head as Head
from rnnforecast.nn.head_distribution import GaussianHead, NegativeBinomialHead, StudentTHead
from rnnforecast.nn.head_point import PointHead
from rnnforecast.nn.quantile_loss import quantile_loss, softplus


def build(parts: Parts, horizon: int, levels: tuple[float, ...]) -> Head:
    """The head of a network made of `parts` that forecasts `horizon` steps at these quantile levels, ascending."""
    found = _family(parts, levels)
    if parts.head == "point" or parts.conformal:
        found.offsets = torch.zeros(horizon, len(levels))
    return found


def _family(parts: Parts, levels: tuple[float, ...]) -> Head:
    if parts.head == "point":
        return PointHead(levels, loss=parts.loss)
    if parts.head == "gaussian":
        return GaussianHead(levels)
    if parts.head == "student_t":
        return StudentTHead(levels)
    if parts.head == "negative_binomial":
        return NegativeBinomialHead(levels, corrects=parts.base != "none")
    return QuantileHead(levels)


class QuantileHead(Head):
    """Quantiles learned by their own loss, without a distribution behind them."""

    def __init__(self, levels: tuple[float, ...]) -> None:
        super().__init__()
        self.outputs, self.levels, self.median = len(levels), levels, levels.index(0.5)

    def location(self, raw: Tensor, base: Tensor) -> Tensor:
        return base + raw[..., self.median]

    def loss(self, raw: Tensor, base: Tensor, actual: Tensor, *, scale: Tensor) -> Tensor:
        return quantile_loss(raw.to(base), base, actual, levels=self.levels)

    def quantiles(self, raw: Tensor, base: Tensor, *, scale: Tensor) -> Tensor:
        return quantiles(raw.to(base), self.median, base)

    def mean(self, raw: Tensor, base: Tensor, *, scale: Tensor) -> Tensor:
        return self.summary(raw, base, scale=scale)[0]

    def summary(self, raw: Tensor, base: Tensor, *, scale: Tensor) -> tuple[Tensor, Tensor]:
        found = self.moved(self.quantiles(raw, base, scale=scale))
        return mean_of(found, self.levels), found

    def in_units(self, raw: Tensor, base: Tensor, *, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        if self.offsets is not None:
            return super().in_units(raw, base, shift=shift, scale=scale)
        found = quantiles(raw.to(base), self.median, base, shift=shift, scale=scale)
        return mean_of(found, self.levels), found

    def sample(self, raw: Tensor, base: Tensor, uniform: Tensor, *, scale: Tensor) -> Tensor:
        raise ValueError(
            "quantiles have no distribution to draw sample paths from; choose head gaussian, student_t or "
            "negative_binomial (or point for one path)"
        )


@torch.no_grad()
def quantiles(
    raw: Tensor, median: int, base: Tensor | float = 0.0, *, shift: Tensor | None = None, scale: Tensor | None = None
) -> Tensor:
    """Raw outputs [..., Q] and base [...] to ascending quantiles [..., Q]: the median is free, the others lie positive
    steps away. In the units of shift and scale, which broadcast to the base, where they are given. No gradient goes
    through them: their loss has its own way (`quantile_loss`)."""
    found = raw.new_empty(raw.shape[-1], *raw.shape[:-1])  # quantile by quantile in memory: whole steps in a row
    middle = torch.add(raw[..., median], base, out=found[median])
    if shift is not None and scale is not None:
        middle.mul_(scale).add_(shift)
    unit = raw.new_ones(()) if scale is None else scale
    for index in range(median + 1, len(found)):
        torch.addcmul(found[index - 1], softplus(raw[..., index]), unit, out=found[index])
    for index in reversed(range(median)):
        torch.addcmul(found[index + 1], softplus(raw[..., index]), unit, value=-1, out=found[index])
    return found.movedim(0, -1)


def mean_of(quantiles: Tensor, levels: tuple[float, ...]) -> Tensor:
    """The mean [...] of what has these quantiles [..., Q], level by level, as they lie in memory."""
    first, *rest = mean_weights(levels)
    mean = quantiles[..., 0] * first
    for index, weight in enumerate(rest, 1):
        mean = mean.add_(quantiles[..., index], alpha=weight)
    return mean


def mean_weights(levels: tuple[float, ...]) -> list[float]:
    """Weights [Q] with which quantiles add up to a mean: the quantile function, straight between the levels and
    flat beyond the outermost ones, integrated over (0, 1)."""
    edges = [0.0, *((low + high) / 2 for low, high in pairwise(levels)), 1.0]
    return [high - low for low, high in pairwise(edges)]
