"""Distributions of each step: Gaussian, Student-t, and the negative binomial for counts.

Losses are negative log-likelihoods. Inverse distribution functions that torch has none of come from scipy, in float64
on the CPU.
"""

import math
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.nn import functional as F

from rnnforecast.nn.head_base import Head

SMALLEST_SIGMA = 1e-4  # scaled units: where all values are alike, a likelihood without a bound would have no end
SMALLEST_MEAN = 1e-8  # scaled units, of counts
SMALLEST_BASE = 1e-2  # scaled units: from a base of 0 the mean must be able to rise
SMALLEST_SHAPE = 1e-6  # below it the negative binomial is the Poisson distribution, and its formula loses digits
SMALLEST_UNIFORM = 2.0**-25  # a float32 draw may come out as 0


class LocationScaleHead(Head):
    """A symmetric distribution: its location corrects the base, its scale is positive by a softplus."""

    def __init__(self, levels: tuple[float, ...]) -> None:
        super().__init__()
        self.levels = levels

    @abstractmethod
    def _standard(self, raw: Tensor, level: Tensor) -> Tensor:
        """Quantiles of the distribution of location 0 and scale 1: raw [..., O], level float64 that broadcasts."""

    def location(self, raw: Tensor, base: Tensor) -> Tensor:
        return base + raw[..., 0].to(base)

    def quantiles(self, raw: Tensor, base: Tensor, *, scale: Tensor) -> Tensor:
        standard = self._standard(raw.to(base)[..., None, :], torch.tensor(self.levels, dtype=torch.float64)).to(base)
        return self.location(raw, base)[..., None] + _sigma(raw.to(base))[..., None] * standard

    def sample(self, raw: Tensor, base: Tensor, uniform: Tensor, *, scale: Tensor) -> Tensor:
        return self.location(raw, base) + _sigma(raw.to(base)) * self._standard(raw.to(base), _inside(uniform)).to(base)


class GaussianHead(LocationScaleHead):
    """A normal distribution."""

    outputs = 2

    def loss(self, raw: Tensor, base: Tensor, actual: Tensor, *, scale: Tensor) -> Tensor:
        sigma = _sigma(raw.to(base))
        standard = (actual - self.location(raw, base)) / sigma
        return 0.5 * standard.square() + sigma.log() + 0.5 * math.log(2 * math.pi)

    def _standard(self, raw: Tensor, level: Tensor) -> Tensor:
        return torch.special.ndtri(level)


class StudentTHead(LocationScaleHead):
    """A Student-t distribution, whose heavy tails forgive single wild values; degrees of freedom above 2, so that its
    variance exists."""

    outputs = 3

    def loss(self, raw: Tensor, base: Tensor, actual: Tensor, *, scale: Tensor) -> Tensor:
        sigma, freedom = _sigma(raw.to(base)), _freedom(raw.to(base))
        standard = (actual - self.location(raw, base)) / sigma
        constant = torch.lgamma(freedom / 2) - torch.lgamma((freedom + 1) / 2) + 0.5 * (math.pi * freedom).log()
        return constant + sigma.log() + (freedom + 1) / 2 * (standard.square() / freedom).log1p()

    def _standard(self, raw: Tensor, level: Tensor) -> Tensor:
        return _by_scipy(special.stdtrit, _freedom(raw), level)


class NegativeBinomialHead(Head):
    """A negative binomial distribution of counts (Salinas et al. 2020), of mean m and variance m + shape * m^2.

    The mean corrects the base (`corrects`; otherwise the base is not looked at) in scaled units; likelihood, quantiles
    and samples are those of counts in the units of the data. Scaled units have no shift here.
    """

    outputs = 2

    def __init__(self, levels: tuple[float, ...], *, corrects: bool) -> None:
        super().__init__()
        self.levels, self.corrects = levels, corrects

    def location(self, raw: Tensor, base: Tensor) -> Tensor:
        return self._mean(raw, base).to(base)

    def loss(self, raw: Tensor, base: Tensor, actual: Tensor, *, scale: Tensor) -> Tensor:
        mean, shape = self._mean(raw, base) * scale, _shape(raw)
        count, number = (actual.double() * scale).clamp(min=0.0), 1 / shape
        choose = torch.lgamma(count + 1) + torch.lgamma(number) - torch.lgamma(count + number)
        spread = (shape * mean).log1p()
        return (choose + number * spread - count * ((shape * mean).log() - spread)).to(base)

    def quantiles(self, raw: Tensor, base: Tensor, *, scale: Tensor) -> Tensor:
        mean, levels = self._mean(raw, base) * scale, torch.tensor(self.levels, dtype=torch.float64)
        counts = _by_scipy(_count_quantile, mean[..., None], _shape(raw)[..., None], levels)
        return (counts.to(scale.device) / scale[..., None]).to(base)

    def sample(self, raw: Tensor, base: Tensor, uniform: Tensor, *, scale: Tensor) -> Tensor:
        counts = _by_scipy(_count_quantile, self._mean(raw, base) * scale, _shape(raw), _inside(uniform))
        return (counts.to(scale.device) / scale).to(base)

    def _mean(self, raw: Tensor, base: Tensor) -> Tensor:
        """[...] float64, scaled units."""
        free = raw[..., 0].double()
        if self.corrects:
            least = base.double().clamp(min=SMALLEST_BASE)
            free = free + least + (-torch.expm1(-least)).log()  # the inverse of softplus
        return F.softplus(free) + SMALLEST_MEAN


def _sigma(raw: Tensor) -> Tensor:
    return F.softplus(raw[..., 1]) + SMALLEST_SIGMA


def _freedom(raw: Tensor) -> Tensor:
    return 2 + F.softplus(raw[..., 2])


def _shape(raw: Tensor) -> Tensor:
    return F.softplus(raw[..., 1].double()) + SMALLEST_SHAPE


def _inside(uniform: Tensor) -> Tensor:
    return uniform.double().clamp(SMALLEST_UNIFORM, 1 - SMALLEST_UNIFORM)


def _count_quantile(mean: np.ndarray, shape: np.ndarray, level: np.ndarray) -> np.ndarray:
    from scipy import stats  # half a second, for counts alone

    return stats.nbinom.ppf(level, 1 / shape, 1 / (1 + shape * mean))


def _by_scipy(function: Callable[..., np.ndarray], *parts: Tensor) -> Tensor:
    """A function of scipy, element by element, in float64 on the CPU."""
    return torch.from_numpy(np.asarray(function(*(part.detach().double().cpu().numpy() for part in parts))))
