"""What the encoder sees at a step: the target in causal units, its gaps, its lags, the calendar, the covariates.

A segment of n steps (a "patch", SegRNN: Lin et al. 2023) is seen as n steps side by side.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rnnforecast.config_parts import Scaling
from rnnforecast.nn.places import Ends, Places
from rnnforecast.nn.scaling import Units

LEVEL_FREE = ("last", "revin", "offset")
CLAMPED = ("ewm", "robust", *LEVEL_FREE)  # scalings whose units a spike may lie far outside of
LARGEST_INPUT = 10.0  # in spreads: a spike is seen as large, not as a thousand times larger than the rest


class Past(NamedTuple):
    """Remembered and new steps side by side; position M + t is step t."""

    filled: Tensor  # [R, M + T]
    observed: Tensor  # [R, M + T]
    since: Tensor  # [R, M + T]
    seen: Tensor  # [B, W + T, F] calendar, past and known covariates


def count(channels: int, patch: int, lags: tuple[int, ...], covariates: int, scaling: Scaling) -> int:
    """How many numbers the encoder sees at a step."""
    return channels * (2 * patch + len(lags) + 1 + (scaling not in LEVEL_FREE)) + patch * covariates


def steps_seen(
    past: Past, places: Places | Ends, units: Units, *, patch: int, lags: tuple[int, ...], scaling: Scaling
) -> Tensor:
    """Features [B, K, F] at some steps of a pass (which may lie before its first), in the units [R, K] of the places.

    Of each channel: the last `patch` values, the value `lag` steps before the *next* one for each lag, which of the
    values were read, the time since the last reading, the level in spreads (not in units that are there
    to forget it); then the covariates.
    """
    back = [*range(patch), *(lag - 1 for lag in lags)]
    # One plane per feature, [.., R, K]: each is written in one piece, and the recurrence puts them side by side.
    values = torch.stack([places.of(past.filled, back=each) for each in back])
    scaled = values.sub_(places.spread(units.shift)).div_(places.spread(units.scale)).nan_to_num_(0.0)
    scaled = clamped(scaled, scaling)
    read = [places.of(past.observed, back=each).float() for each in range(patch)]
    since = places.of(past.since).float().log1p()
    level = [] if scaling in LEVEL_FREE else [places.spread(_asinh(units.shift / units.scale) / 4)]
    target = torch.cat([scaled, torch.stack([*read, since, *level])])
    lanes = len(past.seen)
    target = target.unflatten(1, (lanes, -1)).permute(1, 3, 2, 0).flatten(2)  # channels side by side
    if not past.seen.shape[-1]:
        return target
    return torch.cat([target, *(places.of(past.seen, back=each) for each in range(patch))], dim=-1)


def _asinh(values: Tensor) -> Tensor:
    """torch's own, of numbers whose squares are no infinity, is many times slower on a CPU."""
    size = values.abs()
    squares = size.square()
    return squares.div_((squares + 1).sqrt_().add_(1)).add_(size).log1p_().copysign_(values)


def clamped(scaled: Tensor, scaling: Scaling) -> Tensor:
    """Values in spreads, none of them beyond the largest input where a spike may lie far outside of the units."""
    return scaled.clamp(-LARGEST_INPUT, LARGEST_INPUT) if scaling in CLAMPED else scaled


def calendar_features(ordinals: Tensor, periods: tuple[float, ...]) -> Tensor:
    """Where in each calendar cycle a step stands: ordinals [B, T] to sine and cosine [B, T, 2 * periods]."""
    if not periods:
        return torch.zeros(*ordinals.shape, 0, device=ordinals.device)
    if len(ordinals) > 1 and (ordinals == ordinals[:1]).all():  # lanes side by side: worked out once
        return calendar_features(ordinals[:1], periods).expand(len(ordinals), -1, -1)
    waves = []
    for period in periods:
        angle = (ordinals.double() / period).frac_().mul_(2 * math.pi).float()
        waves += [angle.sin(), angle.cos()]
    return torch.stack(waves, dim=-1)


def standardised(values: Tensor, stats: Tensor) -> Tensor:
    """Covariates [..., P] in units of the training data's mean and deviation; a missing one as the mean."""
    if not values.shape[-1]:
        return values
    return ((values - stats[0]) / stats[1]).nan_to_num(0.0)
