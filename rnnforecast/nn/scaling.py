"""The units the network thinks in: a causal level and spread, from the last steps up to each step.

Both are medians over blocks (whole seasons) of the blocks' means and deviations, the "median of means": a sensor
that drops out for half a day moves one block of seven, and the units stay what they were.
"""

from itertools import pairwise

import torch
from torch import Tensor

SMALLEST_SHARE = 1e-3  # of the level: the least spread, so that a constant series has units too
SMALLEST = 1e-6


def trailing(filled: Tensor, observed: Tensor, blocks: int, length: int, *, steps: int) -> tuple[Tensor, Tensor]:
    """Level and spread at each of the newest `steps`, from `blocks` blocks of `length` steps that end there.

    filled, observed [B, M + T] with M >= blocks * length; returns level and spread, [B, T] each. A block without
    readings does not count; where no block has any, the level is the last known value. Sums run in float64 from the
    first reading of each lane, so that the result at a step does not depend on how the series was cut into pieces,
    nor on anything later.
    """
    first = filled.gather(1, observed.int().argmax(dim=1, keepdim=True)).nan_to_num(0.0).double()
    centred = torch.where(observed, filled.double() - first, 0.0)
    sums = torch.stack([observed.double(), centred, centred * centred]).cumsum(dim=2)
    total = sums.shape[2]
    edges = [sums[:, :, total - steps - block * length : total - block * length] for block in range(blocks + 1)]
    count, summed, squares = torch.stack([new - old for new, old in pairwise(edges)], dim=-1)  # [B, T, blocks] each
    readings = count.where(count > 0, torch.nan)
    mean = summed / readings
    spread = (squares / readings - mean * mean).clamp(min=0.0).sqrt()
    known = filled[:, -steps:].nan_to_num(0.0)
    level = (middle(mean) + first).float()
    level = torch.where(level.isnan(), known, level)
    least = (SMALLEST_SHARE * level.abs()).clamp(min=SMALLEST)
    return level, torch.maximum(middle(spread).float().nan_to_num(0.0), least)


def middle(values: Tensor) -> Tensor:
    """The median over the last dimension of what is not NaN (of an even number, the mean of the middle two)."""
    ordered = values.sort(dim=-1).values  # NaN goes last
    count = (~values.isnan()).sum(dim=-1, keepdim=True)
    low = ordered.gather(-1, ((count - 1) // 2).clamp(min=0))
    return ((low + ordered.gather(-1, (count // 2).clamp(max=values.shape[-1] - 1))) / 2)[..., 0]
