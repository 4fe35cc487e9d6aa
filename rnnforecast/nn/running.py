"""Sums over the last steps, at every step of a series at once or at the last one."""

import torch
from torch import Tensor
from torch.nn import functional as F


def running_sum(values: Tensor, width: int, *, stride: int = 1, decay: float = 1.0) -> Tensor:
    """At each t the sum over j < width of decay^j * values[t - j * stride]; values [..., T], 0 before the first."""
    return whole_sums(F.pad(values, ((width - 1) * stride, 0)), width, stride=stride, decay=decay)


def whole_sums(values: Tensor, width: int, *, stride: int = 1, decay: float = 1.0) -> Tensor:
    """The same where all terms are there: [..., T - (width - 1) * stride], of the newest steps.

    Sums of 1, 2, 4, ... terms are joined, so it takes log2(width) passes and subtracts nothing: what has left the
    window leaves no rounding error behind, and the result at t is made of the window's values in one fixed order. It
    is the same to the last bit, however the series was cut into pieces and whatever follows.
    """
    part, size = values, 1  # sums of `size` terms; each array ends with the series
    joined, terms = part, 0
    while terms < width:
        if width & size:
            joined = _and_later(joined, part, terms * stride, decay**terms) if terms else part
            terms += size
        if terms < width:
            part = _and_later(part, part, size * stride, decay**size)
            size *= 2
    return joined


def newest_sum(values: Tensor, width: int, *, decay: float = 1.0) -> Tensor:
    """The running sum at the last step alone, [..., 1]: the same additions, so the same to the last bit, without those
    that only other steps need. values [..., T] with T >= width."""
    last = values.shape[-1]
    joined, terms, size = torch.zeros_like(values[..., :1]), 0, 1
    while terms < width:
        if width & size:
            part, level = values[..., last - terms - size : last - terms], 1
            while level < size:
                part = torch.add(part[..., 1::2], part[..., ::2], alpha=decay**level)
                level *= 2
            joined = torch.add(joined, part, alpha=decay**terms)
            terms += size
        size *= 2
    return joined


def _and_later(newer: Tensor, older: Tensor, steps: int, weight: float) -> Tensor:
    """newer + weight * what `older` was so many steps before, wherever both are known."""
    length = min(newer.shape[-1], older.shape[-1] - steps)
    before = older[..., older.shape[-1] - steps - length : older.shape[-1] - steps]
    return torch.add(newer[..., newer.shape[-1] - length :], before, alpha=weight)
