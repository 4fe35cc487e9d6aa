"""The units the network thinks in: a causal shift and scale, from the last steps up to each step.

The default's are medians over blocks (whole seasons) of the blocks' means and deviations, the "median of means": a
sensor that drops out for half a day moves one block of seven, and the units stay what they were.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rnnforecast.config_parts import Scaling
from rnnforecast.nn.places import Places
from rnnforecast.nn.running import running_sum

SMALLEST_SHARE = 1e-3  # of the level: the least spread, so that a constant series has units too
SMALLEST = 1e-6


class Units(NamedTuple):
    """At each step: scaled = (value - shift) / scale. Rows R are lanes times channels."""

    shift: Tensor  # [R, T]
    scale: Tensor  # [R, T] positive
    level: Tensor  # [R, T] the flat naive forecast

    def at(self, places: Places) -> "Units":
        """The units at some steps of each lane: [R, K]."""
        return Units(*(places.of(part) for part in self))


def units(
    kind: Scaling, filled: Tensor, observed: Tensor, *, block: int, blocks: int, window: int, stats: Tensor, steps: int
) -> Units:
    """The units of the newest `steps` of each row, each from the values up to it.

    filled, observed [R, M + T] with M >= block * blocks and M >= window; window: the context length of a window model
    (0: none); stats [R, 2]: mean and deviation of the training span, NaN where unknown.
    """
    width = block * blocks
    if kind == "robust":
        level, spread = trailing(filled, observed, blocks, block, steps=steps)
        return Units(level, spread, level)
    if kind == "ewm":
        return _moments(filled, observed, width, steps=steps, decay=0.5 ** (1 / block))
    if kind in ("revin", "last"):
        found = _moments(filled, observed, window, steps=steps)
        # SegRNN subtracts the last value alone, from series that were standardised one by one before.
        return found if kind == "revin" else found._replace(shift=filled[:, -steps:].nan_to_num(0.0))
    level = _or_known(_mean(filled, observed, width, steps=steps), filled)
    mean, deviation = (part.expand_as(level) for part in (stats[:, :1].nan_to_num(0.0), stats[:, 1:].nan_to_num(1.0)))
    if kind == "standard":
        return Units(mean, _at_least(deviation, mean), level)
    if kind == "mean":
        size = _mean(filled.abs(), observed, width, steps=steps)
        scale = torch.where(size > SMALLEST, size, 1.0)  # NaN, without readings, is not above it
        return Units(torch.zeros_like(level), scale.to(level), level)
    assert kind == "none", kind
    return Units(torch.zeros_like(level), torch.ones_like(level), level)


def _moments(filled: Tensor, observed: Tensor, width: int, *, steps: int, decay: float = 1.0) -> Units:
    """Mean and deviation of the readings of the last `width` steps, a reading j steps back weighted by decay^j; the
    last known value where there are none."""
    values = filled.double()
    mean, squares = _means([values, values.square()], observed, width, steps=steps, decay=decay)
    level = _or_known(mean, filled)
    spread = _spread(mean, squares).nan_to_num(0.0).to(filled.dtype)
    return Units(level, _at_least(spread, level), level)


def _mean(values: Tensor, observed: Tensor, width: int, *, steps: int) -> Tensor:
    """Mean of the readings of the last `width` steps, [R, T] float64; NaN where there are none."""
    return _means([values], observed, width, steps=steps)[0]


def _means(values: list[Tensor], observed: Tensor, width: int, *, steps: int, decay: float = 1.0) -> tuple[Tensor, ...]:
    """Weighted means of the readings of the last `width` steps, a reading j steps back weighted by decay^j."""
    newest = steps + width - 1
    observed = observed[:, -newest:]
    parts = [torch.where(observed, part[:, -newest:].double(), 0.0) for part in values]
    *summed, weight = running_sum(torch.stack([*parts, observed.double()]), width, decay=decay)[:, :, -steps:]
    readings = weight.where(weight > 0, torch.nan)
    return tuple(part / readings for part in summed)


def _spread(mean: Tensor, squares: Tensor) -> Tensor:
    """The deviation; in float64 what the difference of squares loses is 1e-8 of the level, far below the least
    spread."""
    return (squares - mean.square()).clamp(min=0.0).sqrt()


def _or_known(mean: Tensor, filled: Tensor) -> Tensor:
    """Means [R, T], where there is none the last known value."""
    return torch.where(mean.isnan(), filled[:, -mean.shape[1] :].nan_to_num(0.0), mean).to(filled.dtype)


def _at_least(spread: Tensor, level: Tensor) -> Tensor:
    """The spread, or the least one: a thousandth of the level."""
    return torch.maximum(spread, (SMALLEST_SHARE * level.abs()).clamp(min=SMALLEST))


def trailing(filled: Tensor, observed: Tensor, blocks: int, length: int, *, steps: int) -> tuple[Tensor, Tensor]:
    """Level and spread at each of the newest `steps`, from `blocks` blocks of `length` steps that end there.

    filled, observed [R, M + T] with M >= blocks * length; returns level and spread, [R, T] each. A block without
    readings does not count; where no block has any, the level is the last known value. The result at a step does not
    depend on how the series was cut into pieces, nor on anything later.
    """
    ended = block_moments(filled, observed, length, steps=steps + (blocks - 1) * length)
    first = range(0, blocks * length, length)
    mean, spread = (middle([part[:, at : at + steps] for at in first]) for part in ended)
    level = _or_known(mean, filled)
    return level, _at_least(spread.nan_to_num(0.0), level)


def block_moments(filled: Tensor, observed: Tensor, length: int, *, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and spread of the block of `length` steps that ends at each of the newest `steps`: [R, steps] each, NaN
    without readings."""
    values = filled.double()
    mean, squares = _means([values, values.square()], observed, length, steps=steps)
    return mean.to(filled), _spread(mean, squares).to(filled)


def middle(values: list[Tensor]) -> Tensor:
    """The median, element by element, of what is not NaN in tensors [R, T] (of an even number, the mean of the middle
    two); NaN where nothing is."""
    missing = torch.stack([part.isnan() for part in values])
    if missing.is_cuda:  # to ask a GPU where something is missing would hold it up
        return _middle_of_some(values, missing)
    gaps = torch.nonzero(missing.any(dim=0).any(dim=0))  # mostly before and after the first reading
    upto = int(gaps[-1]) + 1 if len(gaps) else 0
    ordered = _in_order([part[:, upto:] for part in values])
    whole = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    if not upto:
        return whole
    return torch.cat([_middle_of_some([part[:, :upto] for part in values], missing[:, :, :upto]), whole], dim=1)


def _middle_of_some(values: list[Tensor], missing: Tensor) -> Tensor:
    last = [part.where(~gone, torch.inf) for part, gone in zip(values, missing, strict=True)]
    ordered = torch.stack([*_in_order(last), torch.full_like(last[0], torch.nan)])
    count = (~missing).sum(dim=0, keepdim=True)
    low, high = (torch.where(count > 0, place, len(values)) for place in ((count - 1) // 2, count // 2))
    return (ordered.gather(0, low) + ordered.gather(0, high))[0] / 2


def _in_order(values: list[Tensor]) -> list[Tensor]:
    """The values of each element in ascending order. Neighbours change places until they are: of so few, that takes a
    fifth of the time of a sort."""
    ordered = list(values)
    for turn in range(len(ordered)):
        for at in range(turn % 2, len(ordered) - 1, 2):
            low, high = ordered[at], ordered[at + 1]
            ordered[at], ordered[at + 1] = torch.minimum(low, high), torch.maximum(low, high)
    return ordered
