"""One number per step, and around it the errors that such forecasts made on the validation span."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from rnnforecast.nn import conformal
from rnnforecast.nn.head_base import Head

HUBER_DELTA = 1.0  # scaled units


class PointHead(Head):
    """A point forecast. Its quantiles all lie there, until they are moved by past errors; its sample path is the
    forecast itself."""

    def __init__(self, levels: tuple[float, ...], *, loss: Literal["mae", "mse", "huber"]) -> None:
        super().__init__()
        self.outputs, self.levels, self.kind = 1, levels, loss
        self.degree = 2 if loss == "mse" else 1

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
        return self.location(raw, base)[..., None].expand(*base.shape, len(self.levels))

    def in_units(self, raw: Tensor, base: Tensor, *, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        assert self.offsets is not None  # every point head of a network has them
        mean = self.location(raw, base).mul_(scale).add_(shift)
        return mean, conformal.around(mean, self.offsets, scale)

    def sample(self, raw: Tensor, base: Tensor, uniform: Tensor, *, scale: Tensor) -> Tensor:
        return self.location(raw, base)
