"""The units the network thinks in: a causal level and spread, from the last `window` readings up to each step."""

import torch
from torch import Tensor

SMALLEST_SHARE = 1e-3  # of the level: the least spread, so that a constant series has units too
SMALLEST = 1e-6


def trailing(filled: Tensor, observed: Tensor, window: int, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the readings in the last `window` steps, at each of the newest `steps`.

    filled, observed [B, M + T] with M >= window; returns level and spread, [B, T] each. Where a window holds no
    reading, the level is the last known value. Sums run in float64 from the first reading of each lane, so that
    the result at a step does not depend on how the series was cut into pieces, nor on anything later.
    """
    first = filled.gather(1, observed.int().argmax(dim=1, keepdim=True)).nan_to_num(0.0).double()
    centred = torch.where(observed, filled.double() - first, 0.0)
    sums = torch.stack([observed.double(), centred, centred * centred]).cumsum(dim=2)
    count, total, squares = sums[:, :, -steps:] - sums[:, :, -steps - window : -window]
    readings = count.clamp(min=1.0)
    mean = total / readings
    spread = (squares / readings - mean * mean).clamp(min=0.0).sqrt()
    known = filled[:, -steps:].nan_to_num(0.0)
    level = torch.where(count > 0, (mean + first).float(), known)
    least = (SMALLEST_SHARE * level.abs()).clamp(min=SMALLEST)
    return level, torch.maximum(spread.float(), least)
