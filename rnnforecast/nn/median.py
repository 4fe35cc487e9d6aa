"""The median of a few tensors, place by place."""

from functools import cache

import torch
from torch import Tensor

LARGEST_NETWORK = 16  # tensors; above it, sorting at each place is faster


def middle(values: list[Tensor]) -> Tensor:
    """The median of several tensors [R, T] at each place, of those that are not NaN (of an even number, the mean of the
    middle two); NaN where all are."""
    ordered = _ordered(values)
    half = len(ordered) // 2
    found = (ordered[(len(ordered) - 1) // 2] + ordered[half]) / 2
    # Where some are missing, which are few places mostly, the middle lies elsewhere: infinity stands for them, last. To
    # ask a GPU for those places would hold it up.
    whole = found.flatten()
    some = torch.arange(len(whole), device=found.device)
    if not found.is_cuda:
        some = torch.nonzero(ordered[-1].flatten().isinf())[:, 0]
    if len(some):
        column = torch.stack([each.flatten()[some] for each in ordered], dim=-1)
        count = column.isfinite().sum(dim=-1, keepdim=True)
        low, high = ((count - 1) // 2).clamp(min=0), (count // 2).clamp(max=len(ordered) - 1)
        both = (column.gather(-1, low) + column.gather(-1, high)) / 2
        whole[some] = both.masked_fill(count == 0, torch.nan)[..., 0]
    return whole.view_as(found)


def _ordered(values: list[Tensor]) -> list[Tensor]:
    """Tensors ordered place by place, NaN as infinity; few of them by a network of minima and maxima (Batcher's
    odd-even merge sort, 1968), an order of magnitude faster than sorting at each place."""
    found = [each.nan_to_num(torch.inf, posinf=torch.inf) for each in values]
    if len(found) > LARGEST_NETWORK:
        return list(torch.stack(found).sort(dim=0).values)
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
