"""Quantiles moved by what they were off by on a span that training kept aside, so that they hold as often as they say.

Conformalised quantile regression (Romano, Patterson and Candès 2019), each level and each step by itself, with errors
in units of the forecast's own width (Sesia and Candès 2020): where it is sure of itself its quantiles move by less. Of
a point forecast, which has no width, the same is split conformal prediction in scaled units.
"""

import torch
from torch import Tensor

FEWEST_ERRORS = 20  # of a step, for quantiles of its own


def unit(quantiles: Tensor) -> Tensor:
    """What errors of ascending quantiles [..., Q] count in: the width between the outermost, [..., 1]; where there is
    none, 1."""
    width = quantiles[..., -1:] - quantiles[..., :1]
    return width.where(width > 0, 1.0)


def offsets(errors: Tensor, mask: Tensor, levels: tuple[float, ...]) -> Tensor:
    """By how much each quantile is to be moved at each step, [H, Q].

    errors [n, H, Q]: actual minus quantile, in their units; mask [n, H]: True where there is one. Level q of n errors
    is the q (n + 1)-th smallest, straight between neighbours: as many errors to come are expected below it. A step with
    fewer than 20 takes the errors of all steps together; without any, nothing moves.
    """
    found = errors.new_zeros(errors.shape[1:])
    if not mask.any():
        return found
    for index, level in enumerate(levels):
        pooled = _quantile(errors[..., index][mask], level)
        for step in range(errors.shape[1]):
            own = errors[mask[:, step], step, index]
            found[step, index] = _quantile(own, level) if len(own) >= FEWEST_ERRORS else pooled
    return found


def moved(quantiles: Tensor, offsets: Tensor) -> Tensor:
    """Quantiles [..., H, Q] moved by offsets in their units, of whose steps the first H are taken; in ascending order,
    where moves of different size made them cross (Chernozhukov, Fernández-Val and Galichon 2010)."""
    found = torch.addcmul(quantiles.movedim(-1, 0), _by_level(offsets, quantiles[..., 0]), unit(quantiles)[..., 0])
    if (offsets.diff(dim=-1) < 0).any():
        found = found.sort(dim=0).values
    return found.movedim(0, -1)


def around(points: Tensor, offsets: Tensor, unit: Tensor) -> Tensor:
    """Quantiles [..., H, Q] of points [..., H] that have no width, by offsets in so many units [..., 1]: these lie in
    ascending order already."""
    return torch.addcmul(points, _by_level(offsets, points), unit).movedim(0, -1)


def _by_level(offsets: Tensor, points: Tensor) -> Tensor:
    """Offsets [H, Q] level by level, to be added to points [..., H]: quantile by quantile in memory, whole steps in a
    row."""
    steps = points.shape[-1]
    return offsets[:steps].T.contiguous().view(-1, *[1] * (points.ndim - 1), steps)


def _quantile(errors: Tensor, level: float) -> Tensor:
    """An empirical quantile of errors [n] (torch.quantile takes 16 million at most)."""
    ordered = errors.double().sort().values
    place = min(max(level * (len(ordered) + 1) - 1, 0.0), len(ordered) - 1.0)
    low, high = ordered[int(place)], ordered[-int(-place // 1)]
    return (low + (high - low) * (place % 1.0)).to(errors.dtype)
