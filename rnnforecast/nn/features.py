"""What the encoder sees at a step: the target in causal units, its gaps, its lags, the calendar, the covariates.

A segment of n steps (a "patch", SegRNN: Lin et al. 2023) is seen as n steps side by side.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rnnforecast.nn.memory import pick
from rnnforecast.nn.scaling import Units

LARGEST_INPUT = 10.0  # in spreads: a spike is seen as large, not as a thousand times larger than the rest


class Past(NamedTuple):
    """Remembered and new steps side by side; position M + t is step t."""

    filled: Tensor  # [R, M + T]
    observed: Tensor  # [R, M + T]
    since: Tensor  # [R, M + T]
    seen: Tensor  # [B, W + T, F] calendar, past and known covariates


def count(channels: int, patch: int, lags: tuple[int, ...], covariates: int) -> int:
    """How many numbers the encoder sees at a step."""
    return channels * (2 * patch + len(lags) + 2) + patch * covariates


def steps_seen(
    past: Past, at: Tensor, units: Units, *, steps: int, patch: int, lags: tuple[int, ...], clamp: bool
) -> Tensor:
    """Features [B, P, F] at the steps `at` [B, P] (0 to steps - 1; earlier ones are negative), in units [R, P].

    Of each channel: the last `patch` values, the value `lag` steps before the *next* one for each lag, which of the
    values were read, the time since the last reading, the level in spreads; then the covariates.
    """
    lanes = len(at)
    rows = at.repeat_interleave(len(past.filled) // lanes, dim=0) + past.filled.shape[1] - steps
    within = torch.arange(patch, device=at.device)
    back = torch.cat([within, torch.tensor([lag - 1 for lag in lags], dtype=at.dtype, device=at.device)])
    values = pick(past.filled, rows[..., None] - back)  # [R, P, patch + lags]
    scaled = ((values - units.shift[..., None]) / units.scale[..., None]).nan_to_num(0.0)
    read = pick(past.observed, rows[..., None] - within).float()
    since = pick(past.since, rows).float().log1p()
    rest = torch.stack([since, (units.shift / units.scale).asinh() / 4], dim=-1)
    target = torch.cat([clamped(scaled) if clamp else scaled, read, rest], dim=-1)
    target = target.unflatten(0, (lanes, -1)).transpose(1, 2).flatten(2)  # channels side by side
    lane = torch.arange(lanes, device=at.device)[:, None, None]
    covariates = past.seen[lane, at[..., None] + past.seen.shape[1] - steps - within]
    return torch.cat([target, covariates.flatten(2)], dim=-1)


def clamped(scaled: Tensor) -> Tensor:
    """Values in spreads, none of them beyond the largest input."""
    return scaled.clamp(-LARGEST_INPUT, LARGEST_INPUT)


def calendar_features(ordinals: Tensor, periods: tuple[float, ...]) -> Tensor:
    """Where in each calendar cycle a step stands: ordinals [B, T] to sine and cosine [B, T, 2 * periods]."""
    waves = []
    for period in periods:
        angle = 2 * math.pi * (ordinals.double() / period % 1.0)
        waves += [angle.sin().float(), angle.cos().float()]
    return torch.stack(waves, dim=-1) if waves else ordinals.new_zeros((*ordinals.shape, 0), dtype=torch.float32)


def standardised(values: Tensor, stats: Tensor) -> Tensor:
    """Covariates [..., P] in units of the training data's mean and deviation; a missing one as the mean."""
    return ((values - stats[0]) / stats[1]).nan_to_num(0.0)
