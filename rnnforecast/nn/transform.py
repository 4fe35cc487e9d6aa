"""What is done to the target before it is scaled, and undone to forecasts."""

import torch
from torch import Tensor

from rnnforecast.config_parts import Transform

SMALLEST = 1e-30  # what the logarithm takes for values that are not positive, which are refused at the door
LARGEST_EXPONENT = 80.0  # e^80 is the last power of ten, nearly, that float32 holds


def forward(name: Transform, values: Tensor) -> Tensor:
    """Values in data units to transformed ones; NaN stays NaN."""
    if name == "log":
        return values.clamp(min=SMALLEST).log()
    return values.asinh() if name == "asinh" else values


def inverse(name: Transform, values: Tensor) -> Tensor:
    """Transformed values to data units; it rises everywhere, so quantiles stay quantiles in their order."""
    if name == "none":
        return values
    bounded = values.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)
    return torch.exp(bounded) if name == "log" else torch.sinh(bounded)


def slope(name: Transform, values: Tensor) -> Tensor:
    """Data units in one transformed unit, at these values."""
    if name == "log":
        return values.abs().clamp(min=SMALLEST)
    return (values.square() + 1).sqrt() if name == "asinh" else torch.ones_like(values)
