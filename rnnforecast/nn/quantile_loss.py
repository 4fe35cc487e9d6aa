"""The loss of quantiles that cannot cross, with its gradient in the same pass: it is what training spends most on."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rnnforecast.nn.tiles import tiles


def softplus(values: Tensor) -> Tensor:
    """log(1 + e^x), as a tensor of its own: torch's is five times slower on values that do not lie side by side."""
    return F.softplus(values.contiguous())


def quantile_loss(raw: Tensor, centre: Tensor, actual: Tensor, *, levels: tuple[float, ...]) -> Tensor:
    """Mean over the levels of the pinball loss (Koenker and Bassett 1978), twice, so that the median's is the absolute
    error.

    raw [..., Q], centre and actual [...]; returns [...]. The median is centre + raw of its level; each other quantile
    lies softplus(raw) beyond its neighbour towards the median.
    """
    loss: Tensor = _QuantileLoss.apply(raw, centre, actual, levels)
    return loss


class _QuantileLoss(Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor, centre: Tensor, actual: Tensor, levels: tuple[float, ...]) -> Tensor:
        apart = (actual - centre).expand(raw.shape[:-1])
        slopes, losses = torch.empty_like(raw), raw.new_empty(apart.shape)
        for rows in tiles(apart):
            losses[rows] = _losses(raw[rows], apart[rows], levels, slopes=slopes[rows])
        ctx.save_for_backward(slopes)
        ctx.median = levels.index(0.5)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (slopes,) = ctx.saved_tensors
        found = slopes * gradients[0][..., None]
        middle = found[..., ctx.median]
        return found, middle, -middle, None


def _losses(raw: Tensor, apart: Tensor, levels: tuple[float, ...], *, slopes: Tensor) -> Tensor:
    """The losses [...] of raw [..., Q], actual values lying `apart` [...] from the centre; their slopes against raw go
    into `slopes` [..., Q]."""
    median, count = levels.index(0.5), len(levels)
    miss = apart - raw[..., median]
    middle = miss.sign()  # the slope of the loss against a shift of all quantiles, downwards
    losses = miss * middle
    sides: tuple[tuple[int, Iterable[int]], ...] = ((1, range(median + 1, count)), (-1, range(median - 1, -1, -1)))
    for side, places in sides:
        beyond, passed = miss, []  # actual minus a quantile; what each quantile of this side adds
        for place in places:
            step = softplus(raw[..., place])
            beyond = torch.sub(beyond, step, alpha=side)
            slope = beyond.sign().add_(2 * levels[place] - 1)
            losses.addcmul_(beyond, slope)
            passed.append((place, slope, torch.sub(raw[..., place], step, out=step).exp_()))  # sigmoid(raw)
        further: Tensor | None = None  # a step moves all quantiles that lie further out
        for place, slope, growth in reversed(passed):
            further = slope if further is None else slope.add_(further)
            torch.mul(growth, further, out=slopes[..., place]).mul_(-side / count)
        if further is not None:
            middle.add_(further)
    torch.mul(middle, -1 / count, out=slopes[..., median])
    return losses.div_(count)
