"""One number per step, and around it the errors that such forecasts made on the validation span."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnforecast.nn.head_base import Head

FEWEST_ERRORS = 20  # of a step, for quantiles of its own
HUBER_DELTA = 1.0  # scaled units


class PointHead(Head):
    """A point forecast. Its quantiles add the empirical quantiles of past errors to it (all 0 until
    `set_residuals`); its sample path is the forecast itself."""

    def __init__(self, horizon: int, levels: tuple[float, ...], *, loss: Literal["mae", "mse", "huber"]) -> None:
        super().__init__()
        self.outputs, self.levels, self.kind = 1, levels, loss
        self.degree = 2 if loss == "mse" else 1
        self.residuals: Tensor  # [H, Q] scaled units
        self.register_buffer("residuals", torch.zeros(horizon, len(levels)))

    def location(self, raw: Tensor, base: Tensor) -> Tensor:
        return base + raw[..., 0]

    def loss(self, raw: Tensor, base: Tensor, actual: Tensor, *, scale: Tensor) -> Tensor:
        forecast = self.location(raw, base)
        if self.kind == "mae":
            return (actual - forecast).abs()
        if self.kind == "mse":
            return (actual - forecast).square()
        return F.huber_loss(forecast, actual.expand_as(forecast), reduction="none", delta=HUBER_DELTA)

    def quantiles(self, raw: Tensor, base: Tensor, *, scale: Tensor) -> Tensor:
        around = self.residuals[: base.shape[-1]].T.reshape(-1, *[1] * (base.ndim - 1), base.shape[-1])
        return (self.location(raw, base) + around).movedim(
            0, -1
        )  # quantile by quantile in memory: whole steps in a row

    def sample(self, raw: Tensor, base: Tensor, uniform: Tensor, *, scale: Tensor) -> Tensor:
        return self.location(raw, base)

    def set_residuals(self, errors: Tensor, mask: Tensor) -> None:
        """Take the errors (actual minus forecast, scaled) [n, H] of the validation span, True in `mask` where there
        is one. A step with fewer than 20 takes the errors of all steps together; without any, nothing changes."""
        if not mask.any():
            return
        pooled = _quantiles(errors[mask], self.levels)
        for step in range(errors.shape[1]):
            own = errors[mask[:, step], step]
            self.residuals[step] = _quantiles(own, self.levels) if len(own) >= FEWEST_ERRORS else pooled


def _quantiles(errors: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Empirical quantiles [Q] of errors [n], straight between neighbours (torch.quantile takes 16 million at most)."""
    ordered = errors.double().sort().values
    place = torch.tensor(levels, dtype=torch.float64, device=errors.device) * (len(ordered) - 1)
    low, high = ordered[place.floor().long()], ordered[place.ceil().long()]
    return (low + (high - low) * place.frac()).to(errors.dtype)
