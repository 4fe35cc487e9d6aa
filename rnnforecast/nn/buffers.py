"""Buffers in which every lane's last steps lie, with room for the ones to come.

A new step writes one column, and what looks back reads a view. When the room is used up, the columns still needed move
to the front: a copy of a few columns per step, on average.

Shapes: B lanes, C channels, X columns, M remembered steps, D hidden, S layers, n interleaved recurrences, A past
outputs for attention (one at least), P past and K known covariates, Z static ones.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rnnforecast.nn.network import Network
from rnnforecast.nn.scaling import Blocks

ROOM = 64  # columns for new steps, between two moves
NOTHING = -(2**62)  # the ordinal of no step
LANES_AGAIN = 512  # lanes that are run again at once
Which = slice | Tensor  # lanes: all of a range, or these [b]


@dataclass
class Kept:
    """What is kept of each lane; the first dimension of every tensor is the lane."""

    filled: Tensor  # [B, C, X] transformed values, missing ones as the one before
    observed: Tensor  # [B, C, X] bool
    past: Tensor  # [B, P, X] NaN where missing
    known: Tensor  # [B, K, X] of the step after; NaN where missing
    blocks: Tensor  # [B, 2 * C, X] mean and spread of the block that ends at each step; [B, 0, X] if units need none
    head: Tensor  # [B] the column after the newest step
    first: Tensor  # [B] ordinal of the first step, of the newest step: NOTHING before there is one
    newest: Tensor  # [B]
    since: Tensor  # [B, C] steps since the last reading
    units: Tensor  # [B, C, 3] shift, scale and level of the newest step
    hidden: Tensor  # [B, S, n, D]
    cell: Tensor  # [B, S, n, D] or of width 0
    contexts: Tensor  # [B, A, D] newest last
    mark_hidden: Tensor  # [B, 2, S, n, D] older first
    mark_cell: Tensor  # [B, 2, S, n, D]
    mark_age: Tensor  # [B, 2] steps that each mark lies behind the newest
    static: Tensor  # [B, Z]
    code: Tensor  # [B]


BUFFERS = ("filled", "observed", "past", "known", "blocks")


class Buffers:
    """What is kept of many lanes of one network, and how its columns are found."""

    def __init__(self, network: Network, lateness: int) -> None:
        self.network, self.config, self.lateness = network, network.config, lateness
        self.apart = lateness + 1  # steps between two marks
        self.needed = network.memory + 2 * self.apart
        self.columns = self.needed + ROOM
        self.count = 0
        config = self.config
        robust = config.parts.scaling == "robust"
        self.blocks = Blocks(config.block, config.blocks) if robust else None
        self.kept = self._fresh(torch.zeros(0, config.static), torch.zeros(0, dtype=torch.int64))

    def begin(self, static: Tensor, code: Tensor) -> Tensor:
        """New lanes before their first step, from static covariates [b, Z] and codes [b]: their numbers [b]."""
        first, more = self.count, len(code)
        self.count += more
        if self.count > len(self.kept.code):
            # Room for a few more, so that series that begin one by one are not copied each time with all others.
            spare = (self.count // 8) if first else 0
            lanes = self.count + spare
            grown = self._fresh(static.new_zeros(lanes, static.shape[1]), code.new_zeros(lanes))
            for field in fields(Kept):
                getattr(grown, field.name)[:first] = getattr(self.kept, field.name)[:first]
            self.kept = grown
        fresh = self._fresh(static, code)
        for field in fields(Kept):
            getattr(self.kept, field.name)[first : self.count] = getattr(fresh, field.name)
        return torch.arange(first, self.count)

    def _fresh(self, static: Tensor, code: Tensor) -> Kept:
        config, lanes = self.config, len(code)
        state = self.network.initial_state(static, code)
        hidden, cell = state.hidden.transpose(0, 1), state.cell.transpose(0, 1)

        def buffer(rows: int) -> Tensor:
            # A column of all lanes lies together in memory: a step writes and reads columns.
            return torch.full((self.columns, lanes, rows), torch.nan).permute(1, 2, 0)

        return Kept(
            filled=buffer(config.channels),
            observed=buffer(config.channels).isnan().logical_not_(),
            past=buffer(config.past),
            known=buffer(config.known),
            blocks=buffer(2 * config.channels if self.blocks else 0),
            head=torch.full((lanes,), self.needed),
            first=torch.full((lanes,), NOTHING),
            newest=torch.full((lanes,), NOTHING),
            since=torch.full((lanes, config.channels), self.network.memory),
            units=torch.zeros(lanes, config.channels, 3),
            hidden=hidden.contiguous(),
            cell=cell.contiguous(),
            contexts=torch.full((lanes, max(config.attended, 1), state.contexts.shape[-1]), torch.nan),
            mark_hidden=hidden[:, None].repeat(1, 2, 1, 1, 1),
            mark_cell=cell[:, None].repeat(1, 2, 1, 1, 1),
            mark_age=torch.zeros(lanes, 2, dtype=torch.int64),
            static=static,
            code=code,
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that is kept, by name, without the room: [B, ...] each, with the newest step in the last column."""
        which = slice(0, self.count)
        found = {field.name: getattr(self.kept, field.name)[which] for field in fields(Kept)}
        head = self.kept.head[which]
        return {
            name: self._back(part, which, head, self.needed) if name in BUFFERS else part
            for name, part in found.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take what `tensors` gave, of a network and a lateness that are the same."""
        self.count = len(tensors["code"])
        self.kept = self._fresh(tensors["static"], tensors["code"])
        for name, part in tensors.items():
            mine = getattr(self.kept, name)
            (mine[..., : self.needed] if name in BUFFERS else mine).copy_(part)
        self.kept.head.fill_(self.needed)

    def last_values(self, count: int) -> Tensor:
        """The last known value of the first `count` lanes, transformed, [count, C]; NaN before the first reading."""
        return self._back(self.kept.filled, slice(0, count), self.kept.head[:count], 1)[..., 0]

    def _head(self, which: Which) -> int | Tensor:
        """The column after the newest step: one number where lanes agree (of a range), or one each."""
        head = self.kept.head[which]
        if isinstance(which, slice) and len(head) and int(head.min()) == int(head.max()):
            return int(head[0])
        return head

    def _room(self, which: Which, steps: int) -> int | Tensor:
        """Make room for so many steps; the column of the first of them."""
        kept, head = self.kept, self._head(which)
        if isinstance(head, int):
            target = self._target(head, steps)
            if target != head:
                self._move(which, head, target)
            return target
        lanes = torch.arange(self.count)[which]
        if isinstance(which, slice):  # all at one column again, to be read as views from now on
            common = int(head.mode().values)
            target = self._target(common, steps)
            astray = lanes if target != common else lanes[head != common]
            self._move(astray, kept.head[astray], target)
            return target
        full = lanes[head + steps > self.columns]
        if len(full):
            self._move(full, kept.head[full], self._target(self.columns, steps))
        return self._head(which)

    def _target(self, head: int, steps: int) -> int:
        """Where the newest step should end, so that as many more have room."""
        if head + steps <= self.columns:
            return head
        return self.needed if steps <= ROOM else self.needed - steps

    def _move(self, which: Which, head: int | Tensor, target: int) -> None:
        """The columns before `head` to those before `target`."""
        count = min(target, self.needed)
        for name in BUFFERS:
            buffer = getattr(self.kept, name)
            if buffer.numel() and count:
                buffer[which, :, target - count : target] = self._back(buffer, which, head, count).clone()
        self.kept.head[which] = target

    def _back(self, buffer: Tensor, which: Which, stop: int | Tensor, count: int) -> Tensor:
        """The `count` columns of lanes before column `stop`, [b, any, count]: a view where they are the same."""
        if isinstance(stop, int):
            return buffer[which, :, stop - count : stop]
        lanes = torch.arange(len(buffer))[which]
        columns = stop[:, None, None] + torch.arange(-count, 0)
        return buffer[lanes[:, None, None], torch.arange(buffer.shape[1])[:, None], columns]


def newest_columns(values: Tensor, count: int) -> Tensor:
    """The last `count` columns."""
    return values[..., values.shape[-1] - count :]


def write(buffer: Tensor, which: Which, at: int | Tensor, values: Tensor) -> None:
    """One column of each lane; values [b, any]."""
    if not buffer.numel():
        return
    if isinstance(at, int):
        buffer[which, :, at] = values
    else:
        buffer[torch.arange(len(buffer))[which], :, at] = values


def write_many(buffer: Tensor, lanes: Tensor, columns: Tensor, values: Tensor) -> None:
    """values [b, any, T] at columns [b, T] of lanes [b]."""
    if buffer.numel():
        buffer[lanes[:, None, None], torch.arange(buffer.shape[1])[:, None], columns[:, None]] = values
