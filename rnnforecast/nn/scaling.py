"""The units the network thinks in: a causal shift and scale, from the last steps up to each step.

The default's are medians over blocks (whole seasons) of the blocks' means and deviations, the "median of means": a
sensor that drops out for half a day moves one block of seven, and the units stay what they were.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rnnforecast.config_parts import Scaling
from rnnforecast.nn.median import middle
from rnnforecast.nn.places import Places
from rnnforecast.nn.running import newest_sum, whole_sums
from rnnforecast.nn.tiles import tiles

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
        return found if kind == "revin" else found._replace(shift=filled[:, -steps:].nan_to_num(0.0))
    level = _or_known(_mean(filled, observed, width, steps=steps), filled)
    mean, deviation = (part.expand_as(level) for part in (stats[:, :1].nan_to_num(0.0), stats[:, 1:].nan_to_num(1.0)))
    if kind == "standard":
        return Units(mean, _at_least(deviation, mean), level)
    if kind == "offset":  # SegRNN's, whose series were standardised one by one before
        return Units(filled[:, -steps:].nan_to_num(0.0), _at_least(deviation, mean), level)
    if kind == "mean":
        size = _mean(filled.abs(), observed, width, steps=steps)
        scale = torch.where(size > SMALLEST, size, 1.0)  # NaN, without readings, is not above it
        return Units(torch.zeros_like(level), scale.to(level), level)
    assert kind == "none", kind
    return Units(torch.zeros_like(level), torch.ones_like(level), level)


def _moments(filled: Tensor, observed: Tensor, width: int, *, steps: int, decay: float = 1.0) -> Units:
    """Mean and deviation of the readings of the last `width` steps, a reading j steps back weighted by decay^j; the
    last known value where there are none."""
    mean, spread = _mean_and_spread(filled, observed, width, steps=steps, decay=decay)
    level = _or_known(mean, filled)
    return Units(level, _at_least(spread.nan_to_num_(0.0), level), level)


def _mean_and_spread(filled: Tensor, observed: Tensor, width: int, *, steps: int, decay: float = 1.0) -> Tensor:
    """Both of the readings of the last `width` steps, [2, R, T]; NaN where there are none. What the difference of
    squares loses in float64 is 1e-8 of the level, far below the least spread."""
    values = torch.where(observed, filled, 0.0).double()
    mean, squares = found = _means(torch.stack([values, values.square()]), observed, width, steps=steps, decay=decay)
    squares.addcmul_(mean, mean, value=-1)
    found = found.to(filled.dtype)
    found[1].clamp_(min=0.0).sqrt_()
    return found


def _mean(values: Tensor, observed: Tensor, width: int, *, steps: int) -> Tensor:
    """Mean of the readings of the last `width` steps, [R, T] float64; NaN where there are none."""
    return _means(torch.where(observed, values, 0.0).double(), observed, width, steps=steps)


def _means(values: Tensor, observed: Tensor, width: int, *, steps: int, decay: float = 1.0) -> Tensor:
    """Weighted means [..., R, T] of the readings of the last `width` steps, a reading j steps back weighted by decay^j;
    values [..., R, M + T] are 0 where there is none."""

    def summed(part: Tensor) -> Tensor:
        return (newest_sum if steps == 1 else whole_sums)(part, width, decay=decay)[..., -steps:]

    values, observed = (part[..., -(steps + width - 1) :] for part in (values, observed))
    if not observed.is_cuda and (observed == observed[:1]).all():
        observed = observed[:1]  # rows with the same gaps, none mostly: counted once
    readings = summed(observed.double() if decay != 1.0 else observed.float())  # whole numbers: exact
    return summed(values).div_(readings)  # nothing over none is NaN


def _or_known(mean: Tensor, filled: Tensor) -> Tensor:
    """Means [R, T], where there is none the last known value."""
    if not mean.is_cuda and not mean.sum().isnan():
        return mean.to(filled.dtype)
    return torch.where(mean.isnan(), filled[:, -mean.shape[1] :].nan_to_num(0.0), mean).to(filled.dtype)


def _at_least(spread: Tensor, level: Tensor) -> Tensor:
    """The spread, or the least one: a thousandth of the level."""
    return torch.maximum(spread, level.abs().mul_(SMALLEST_SHARE).clamp_(min=SMALLEST))


def trailing(filled: Tensor, observed: Tensor, blocks: int, length: int, *, steps: int) -> tuple[Tensor, Tensor]:
    """Level and spread at each of the newest `steps`, from `blocks` blocks of `length` steps that end there.

    filled, observed [R, M + T] with M >= blocks * length; returns level and spread, [R, T] each. A block without
    readings does not count; where no block has any, the level is the last known value. The result at a step does not
    depend on how the series was cut into pieces, nor on anything later.
    """
    if steps == 1:  # the blocks themselves, side by side
        values, read = (part[:, -blocks * length :].unflatten(1, (blocks, -1)) for part in (filled, observed))
        return _of_blocks(list(_block(values, read).unbind(dim=1)), filled)
    parts = tiles(filled) or [slice(0)]
    found = [_middles(filled[rows], observed[rows], blocks, length, steps=steps) for rows in parts]
    mean, spread = found[0] if len(found) == 1 else torch.cat(found, dim=1)
    return _usable(mean, spread, filled)


def _of_blocks(ended: list[Tensor], filled: Tensor) -> tuple[Tensor, Tensor]:
    """Level and spread [R, 1] at the last step of filled [R, X], from the mean and spread [R, 2] of each block."""
    mean, spread = middle(ended).split(1, dim=1)
    return _usable(mean, spread, filled)


def _usable(mean: Tensor, spread: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
    """Level and spread to divide by, [R, T], where no block may have had a reading."""
    level = _or_known(mean, filled)
    return level, _at_least(spread.nan_to_num(0.0), level)


def _middles(filled: Tensor, observed: Tensor, blocks: int, length: int, *, steps: int) -> Tensor:
    """The medians [2, R, steps] of the means and of the spreads of `blocks` blocks at each of the newest steps."""
    ends = steps + (blocks - 1) * length  # where blocks end that count
    # Before any row begins nothing is to be read, and at the steps after it the younger blocks are all there are.
    begin = max(_unread(observed[:, -(ends + length - 1) :]) - (length - 1), 0)
    if begin == ends:
        return filled.new_full((2, len(filled), steps), torch.nan)
    moments = _mean_and_spread(filled, observed, length, steps=ends - begin)
    found, stop = filled.new_empty(2, len(filled), steps), steps
    for oldest in range(blocks):
        start = min(max(begin - oldest * length, 0), stop)
        if start < stop:
            first = range(oldest * length - begin, blocks * length - begin, length)
            found[..., start:stop] = middle([moments[..., at + start : at + stop] for at in first])
        stop = start
    found[..., :stop] = torch.nan
    return found


def _unread(observed: Tensor) -> int:
    """How many steps [R, X] go by before any row is read."""
    if observed.is_cuda:  # to ask a GPU would hold it up
        return 0
    read = observed.any(dim=0)
    return int(read.int().argmax()) if read.any() else len(read)


class Blocks(NamedTuple):
    """The blocks of `trailing` one by one, for a stream: the block that ends at a step is looked at again, one block
    later, as the second, and so on. Shapes: [..., X] any rows of X steps."""

    length: int
    number: int

    def of(self, filled: Tensor, observed: Tensor, steps: int) -> Tensor:
        """Mean and spread of the blocks that end at each of the newest `steps`, of rows [R, X]: [R, 2, steps]."""
        return _mean_and_spread(filled, observed, self.length, steps=steps).transpose(0, 1)

    def newest(self, filled: Tensor, observed: Tensor) -> Tensor:
        """Mean and spread of the block that ends at the last step, [..., 2]; NaN where nothing was read."""
        start = filled.shape[-1] - self.length
        return _block(filled[..., start:], observed[..., start:])

    def units(self, blocks: Tensor, last: Tensor) -> Units:
        """The units [R, 1] of the newest step, from the blocks [R, 2, X] that ended at the last steps and the last
        known values [R, 1]."""
        last_block = blocks.shape[-1] - 1
        ended = [blocks[..., last_block - self.length * number] for number in reversed(range(self.number))]
        level, spread = _of_blocks(ended, last)
        return Units(level, spread, level)


def _block(values: Tensor, read: Tensor) -> Tensor:
    """Mean and spread of blocks [..., X] of which some values were read, [..., 2]; NaN where none was."""
    # From a value of the block: what float32 loses of such distances is far below their spread.
    centre = values[..., -1:]
    apart = values - centre
    readings: int | Tensor = values.shape[-1]
    if read.is_cuda or not read.all():  # (to ask a GPU would hold it up)
        apart = torch.where(read, apart, 0.0)
        readings = read.sum(dim=-1)  # nothing over none is NaN
    mean = apart.sum(dim=-1) / readings
    squares = apart.square_().sum(dim=-1) / readings
    spread = squares.addcmul_(mean, mean, value=-1).clamp_(min=0.0).sqrt_()
    return torch.stack([mean + centre[..., 0], spread], dim=-1)
