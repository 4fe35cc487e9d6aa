"""What every head is: the part that turns raw outputs into a forecast, and a forecast's error into a loss.

Shapes: [...] any leading dimensions (cutoffs, channels, ...), H horizon, Q quantile levels, O raw outputs per step.
Everything is in scaled units; `scale` is how many data units one of them is, and broadcasts to `base`.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from rnnforecast.nn import conformal


class Head(nn.Module, ABC):
    """One family of forecasts. A module, so that what it holds moves and is saved with the network."""

    outputs: int  # O
    levels: tuple[float, ...]
    degree = 1  # of the loss in the units of errors: 2 of a squared one
    offsets: Tensor | None  # [H, Q] by which `summary` moves the quantiles (see `conformal`), if at all

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offsets", None)

    @abstractmethod
    def location(self, raw: Tensor, base: Tensor) -> Tensor:
        """The middle of the forecast, which decoders feed back: raw [..., O], base [...] to [...]."""

    @abstractmethod
    def loss(self, raw: Tensor, base: Tensor, actual: Tensor, *, scale: Tensor) -> Tensor:
        """What training makes small: raw [..., O], base and actual [...] to [...]. `actual` is finite: the caller
        puts any number where a value is missing, and leaves its loss out."""

    @abstractmethod
    def quantiles(self, raw: Tensor, base: Tensor, *, scale: Tensor) -> Tensor:
        """Quantiles at `levels`, which never cross: raw [..., H, O], base [..., H] to [..., H, Q]."""

    def mean(self, raw: Tensor, base: Tensor, *, scale: Tensor) -> Tensor:
        """The expected value: raw [..., H, O], base [..., H] to [..., H]; of a symmetric forecast its middle."""
        return self.location(raw, base)

    def summary(self, raw: Tensor, base: Tensor, *, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [..., H] and quantiles [..., H, Q] together, these moved by the offsets where there are any."""
        return self.mean(raw, base, scale=scale), self.moved(self.quantiles(raw, base, scale=scale))

    def in_units(self, raw: Tensor, base: Tensor, *, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The summary in the units that the scaled ones were made from; shift and scale broadcast to `base`."""
        mean, quantiles = self.summary(raw, base, scale=scale)
        return mean * scale + shift, quantiles.mul_(scale[..., None]).add_(shift[..., None])

    def moved(self, quantiles: Tensor) -> Tensor:
        """Quantiles [..., H, Q] as they are forecast."""
        return quantiles if self.offsets is None else conformal.moved(quantiles, self.offsets)

    @abstractmethod
    def sample(self, raw: Tensor, base: Tensor, uniform: Tensor, *, scale: Tensor) -> Tensor:
        """Values drawn by the inverse of the distribution function at `uniform` in (0, 1), all of them [...]: the
        same uniform numbers give the same values on any machine."""
