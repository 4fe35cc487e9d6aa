"""From raw outputs to quantiles that cannot cross."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F


def quantiles(raw: Tensor, median: int) -> Tensor:
    """Raw outputs [..., Q] to ascending quantiles [..., Q]: the median is free, the others lie positive steps away."""
    quantile = [raw[..., median]]
    for index in range(median + 1, raw.shape[-1]):
        quantile.append(quantile[-1] + F.softplus(raw[..., index]))
    for index in reversed(range(median)):
        quantile.insert(0, quantile[0] - F.softplus(raw[..., index]))
    return torch.stack(quantile, dim=-1)


def pinball(forecast: Tensor, actual: Tensor, levels: Tensor) -> Tensor:
    """Quantile loss (Koenker and Bassett 1978), twice, so that the median's is the absolute error.

    forecast [..., Q], actual [...], levels [Q]; returns [..., Q].
    """
    miss = actual[..., None] - forecast
    return miss.abs() + (2 * levels - 1) * miss


def mean_weights(levels: tuple[float, ...]) -> list[float]:
    """Weights [Q] with which quantiles add up to a mean: the quantile function, straight between the levels and
    flat beyond the outermost ones, integrated over (0, 1)."""
    edges = [0.0, *((low + high) / 2 for low, high in pairwise(levels)), 1.0]
    return [high - low for low, high in pairwise(edges)]
