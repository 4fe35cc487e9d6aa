"""New readings to lanes: every lane runs on to its newest one, steps in between count as missing.

Shapes: n rows, A lanes that go on, T steps of a piece.
"""

import polars as pl
import torch
from torch import Tensor

from rnnforecast.batches import gather
from rnnforecast.nn.buffers import NOTHING, Which
from rnnforecast.nn.lanes import Lanes
from rnnforecast.panel import Panel
from rnnforecast.stream_rows import Rows
from rnnforecast.task import Task
from rnnforecast.threads import blocks, side_by_side

# Of a step, that a thread takes at once. Of fewer torch divides each operation: threads would wait for the interpreter.
LANES_OF_A_THREAD = 16_384
STEPS_AT_ONCE = 1 << 18  # of several lanes, in a pass over history
LONGEST_PIECE = 512  # steps of a pass over history


def feed(lanes: Lanes, rows: Rows, task: Task) -> int:
    """Run every lane on to its newest reading; how many steps that were in all."""
    read = rows[rows.read]
    stop = ordinals_of(read, "amax", lanes.count)
    some = torch.nonzero(stop > lanes.kept.newest[: lanes.count])[:, 0]
    if not len(some):
        return 0
    newest = lanes.kept.newest[some]
    first = ordinals_of(read, "amin", lanes.count)[some]
    start = torch.where(newest == NOTHING, first, newest + 1)
    steps = stop[some] + 1 - start
    panel = _panel(lanes, rows, some, start=start, steps=steps, task=task)
    codes = lanes.kept.code[some]
    left, bulk = steps.clone(), (steps - 2 * lanes.apart).clamp(min=0)
    while len(going := torch.nonzero(left)[:, 0]):
        for piece, these in _pieces(lanes, some, left=left, bulk=bulk, going=going):
            _advance(lanes, some, panel, steps - left, piece=piece, these=these, codes=codes)
            left[these] -= piece
            these = these[bulk[these] > 0]
            bulk[these] = (bulk[these] - piece).clamp(min=0)
            arrived = these[bulk[these] == 0]
            if len(arrived):
                lanes.set_marks(some[arrived])
    return int(steps.sum())


def _advance(
    lanes: Lanes, some: Tensor, panel: Panel, start: Tensor, *, piece: int, these: Tensor, codes: Tensor
) -> None:
    """Feed the next piece of the panel, from `start` [A] on, to `these` [b] of the lanes that go on, of `codes` [A]."""

    def feed_block(block: slice) -> None:
        few = these[block]
        lanes.advance(_range(some[few]), gather(panel, few, start[few], piece, 0, codes))

    most = min(LANES_OF_A_THREAD, STEPS_AT_ONCE // piece)
    side_by_side(feed_block, blocks(len(these), most, least=most))


def _pieces(lanes: Lanes, some: Tensor, *, left: Tensor, bulk: Tensor, going: Tensor) -> list[tuple[int, Tensor]]:
    """The next piece of each lane that is `going`, and which have it: powers of two until its last steps, of which
    pieces end where marks are due."""
    piece = torch.minimum(left[going], lanes.apart - lanes.kept.mark_age[some[going], 1])
    if bulk.any():
        power = 2 ** bulk[going].clamp(1, LONGEST_PIECE).double().log2().floor().long()
        piece = torch.where(bulk[going] > 0, power, piece)
    if (piece == piece[0]).all():
        return [(int(piece[0]), going)]
    return [(size, going[piece == size]) for size in piece.unique().tolist()]


def _panel(lanes: Lanes, rows: Rows, some: Tensor, *, start: Tensor, steps: Tensor, task: Task) -> Panel:
    """The new steps of lanes, laid out like any panel; and the step after, which known covariates are seen of."""
    channels = lanes.config.channels
    place = torch.full((lanes.count,), -1)
    place[some] = torch.arange(len(some))
    at = place[rows.lane]
    position = rows.ordinal - start[at]
    inside = (at >= 0) & (position >= 0) & (position <= steps[at])
    if not inside.all():
        rows, at, position = rows[inside], at[inside], position[inside]
    lengths = (steps + 1).repeat_interleave(channels)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    row = offsets[at * channels + rows.channel] + position
    total = int(offsets[-1])
    target = torch.full((total,), torch.nan)
    target[row] = rows.target
    past, known = torch.full((total, len(task.past)), torch.nan), torch.full((total, len(task.known)), torch.nan)
    past[row], known[row] = rows.past, rows.known
    return Panel(
        series_ids=(),
        frequency=task.frequency,
        dtype=pl.Int64(),
        offsets=offsets,
        starts=start.repeat_interleave(channels),
        values=target.nan_to_num(0.0),
        mask=~target.isnan(),
        past=past,
        known=known,
        static=lanes.kept.static[some].repeat_interleave(channels, dim=0),
        channels=channels,
    )


def ordinals_of(rows: Rows, how: str, count: int) -> Tensor:
    """The least or greatest ordinal (`amin`, `amax`) of each lane's rows: [count]; NOTHING of a lane without any."""
    if torch.equal(rows.lane, torch.arange(count)):  # one row of each
        return rows.ordinal
    found = torch.full((count,), NOTHING)
    return found.scatter_reduce_(0, rows.lane, rows.ordinal, how, include_self=how == "amax")


def _range(lanes: Tensor) -> Which:
    """Lanes [b] as a slice where they follow each other."""
    first, last = int(lanes[0]), int(lanes[-1])
    if last - first + 1 == len(lanes) and bool((lanes.diff() == 1).all()):
        return slice(first, last + 1)
    return lanes
