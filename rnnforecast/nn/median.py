"""The median of a few tensors, place by place."""

from functools import cache, reduce

import torch
from torch import Tensor

LARGEST_NETWORK = 16  # tensors; above it, sorting at each place is faster


def middle(values: list[Tensor]) -> Tensor:
    """The median of several tensors at each place, of those that are not NaN (of an even number, the mean of the middle
    two); NaN where all are."""
    if values[0].is_cuda:  # to ask where some are missing would hold the device up
        return _of_known(torch.stack(values, dim=-1))
    found = _of_all(values)
    if found.sum().isnan():  # some are missing, at few places mostly
        missing = found.isnan().nonzero(as_tuple=True)
        found[missing] = _of_known(torch.stack([each[missing] for each in values], dim=-1))
    return found


def _of_all(values: list[Tensor]) -> Tensor:
    """The median, NaN where any of them is: a comparison hands it on."""
    count = len(values)
    half = count // 2
    first, second = _ordered(values[: count - half]), _ordered(values[count - half :])
    low = _smallest(first, second, count - half)
    return low if count % 2 else (low + _smallest(first, second, half + 1)) / 2


def _of_known(values: Tensor) -> Tensor:
    """The median of the last dimension's numbers that are not NaN."""
    ordered = values.sort(dim=-1).values  # NaN is last
    count = values.isnan().logical_not_().sum(dim=-1, keepdim=True)
    low, high = ((count - 1) // 2).clamp(min=0), (count // 2).clamp(max=values.shape[-1] - 1)
    both = (ordered.gather(-1, low) + ordered.gather(-1, high)) / 2
    return both.masked_fill(count == 0, torch.nan)[..., 0]


def _ordered(values: list[Tensor]) -> list[Tensor]:
    """Tensors ordered place by place, NaN where any is; few of them by a network of minima and maxima (Batcher's
    odd-even merge sort, 1968), an order of magnitude faster than sorting at each place."""
    if len(values) > LARGEST_NETWORK:
        ordered = torch.stack(values).sort(dim=0).values  # NaN is last
        return list(ordered.masked_fill(ordered[-1:].isnan(), torch.nan))
    found = list(values)
    for low, high in _comparators(len(found)):
        found[low], found[high] = torch.minimum(found[low], found[high]), torch.maximum(found[low], found[high])
    return found


@cache
def _comparators(count: int) -> list[tuple[int, int]]:
    """Which two are compared, one after the other, to order so many."""
    found, size = [], 1
    while size < count:
        apart = size
        while apart:
            for first in range(apart % size, count - apart, 2 * apart):
                pairs = [(low, low + apart) for low in range(first, min(first + apart, count - apart))]
                found += [pair for pair in pairs if pair[0] // (2 * size) == pair[1] // (2 * size)]
            apart //= 2
        size *= 2
    return found


def _smallest(first: list[Tensor], second: list[Tensor], place: int) -> Tensor:
    """The `place`-th smallest (from 1) of two ordered lists: the least, over the ways to take so many from the front
    of both, of the largest that is taken."""
    ways = [
        [each[taken - 1] for each, taken in ((first, one), (second, place - one)) if taken]
        for one in range(max(place - len(second), 0), min(place, len(first)) + 1)
    ]
    return reduce(torch.minimum, [reduce(torch.maximum, way) for way in ways])
