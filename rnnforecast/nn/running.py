"""Sums over the last steps, at every step of a series at once or at the last one."""

import torch
from torch import Tensor
from torch.nn import functional as F


def running_sum(values: Tensor, width: int, *, stride: int = 1, decay: float = 1.0) -> Tensor:
    """At each t the sum over j < width of decay^j * values[t - j * stride]; values [..., T], 0 before the first.

    Sums of 1, 2, 4, ... terms are joined, so it takes log2(width) passes and subtracts nothing: what has left the
    window leaves no rounding error behind, and the result at t is made of the window's values in one fixed order. It
    is the same to the last bit, however the series was cut into pieces and whatever follows.
    """
    joined, part, terms, size = torch.zeros_like(values), values, 0, 1
    while True:
        if width & size:
            joined = joined + decay**terms * _later(part, terms * stride)
            terms += size
        if terms == width:
            return joined
        part = part + decay**size * _later(part, size * stride)
        size *= 2


def newest_sum(values: Tensor, width: int, *, decay: float = 1.0) -> Tensor:
    """The running sum at the last step alone, [..., 1]: the same additions, so the same to the last bit, without those
    that only other steps need. values [..., T] with T >= width."""
    newest = values.flip(-1)
    joined, terms, size = torch.zeros_like(newest[..., :1]), 0, 1
    while terms < width:
        if width & size:
            part, level = newest[..., terms : terms + size], 1
            while level < size:
                part = part[..., ::2] + decay**level * part[..., 1::2]
                level *= 2
            joined = joined + decay**terms * part
            terms += size
        size *= 2
    return joined


def _later(values: Tensor, steps: int) -> Tensor:
    """The values so many steps later, 0 before."""
    length = values.shape[-1]
    return F.pad(values[..., : max(length - steps, 0)], (min(steps, length), 0))
