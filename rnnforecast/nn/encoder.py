"""The encoder: features of steps in, contexts out. Carried as n interleaved recurrences, or read window by window."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rnnforecast.config_parts import Parts
from rnnforecast.nn.recurrence import Memory, Recurrence, initialise


class Encoder(nn.Module):
    """A recurrence over segments of n steps (n = 1: every step).

    The segment that ends at step t goes on from the state of the one that ended at t - n:
    h_t = f(x_{t-n+1..t}, h_{t-n}). So every step has a context, as without segments, and the pass is n times
    shorter: n interleaved recurrences of shared weights run side by side, as in a dilated recurrent network
    (Chang et al. 2017).
    """

    def __init__(self, parts: Parts, features: int, statics: int) -> None:
        super().__init__()
        size, self.patch = parts.hidden_size, parts.patch_length
        self.embed = nn.Sequential(nn.Linear(features, size), nn.ReLU()) if self.patch > 1 else None
        self.recurrence = Recurrence(
            size if self.embed else features,
            size,
            cell=parts.cell,
            num_layers=parts.num_layers,
            dropout=parts.dropout,
            residual=parts.residual,
            bidirectional=parts.bidirectional,
            activation=parts.activation,
        )
        if parts.init != "default" or parts.forget_bias:
            initialise(self.recurrence, parts.init, forget_bias=parts.forget_bias)
        self.skip = nn.Linear(features, size) if parts.skip else None
        # What the decoder is shown of a cutoff's inputs: read there alone, where `skip` runs at every step.
        self.reader = _reader(features, parts.reader_size) if parts.reader_size else None
        self.merge = nn.Linear(2 * size, size) if parts.bidirectional else None
        hidden, cell = (part[:, 0] for part in self.recurrence.initial(1))  # [S, D] each
        self.shapes = (hidden.shape, cell.shape)
        self.first: nn.Parameter | None = None
        self.from_static: nn.Linear | None = None
        if parts.start == "learned":
            self.first = nn.Parameter(torch.zeros(hidden.numel() + cell.numel()))
        elif parts.start == "static":
            self.from_static = nn.Linear(statics, hidden.numel() + cell.numel())

    def initial(self, static: Tensor) -> Memory:
        """The state before the first step, from static features [B, G]: hidden and cell [S, B, n, D]."""
        if self.from_static is not None:
            hidden, cell = self._parted(torch.tanh(self.from_static(static).float()))
        elif self.first is not None:
            hidden, cell = self._parted(self.first.expand(len(static), -1))
        else:
            hidden, cell = self.recurrence.initial(len(static))
        hidden, cell = (each[:, :, None].expand(-1, -1, self.patch, -1) for each in (hidden, cell))
        return hidden, cell

    def _parted(self, start: Tensor) -> Memory:
        """Hidden and cell [S, B, D] of starts [B, ..] that hold the numbers of both."""
        parts = start.split([shape.numel() for shape in self.shapes], dim=1)
        hidden, cell = (p.unflatten(1, s).transpose(0, 1) for p, s in zip(parts, self.shapes, strict=True))
        return hidden, cell

    def forward(self, features: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """features [B, T, F], state [S, B, n, D] of the last n steps; returns contexts [B, T, D] and the state."""
        lanes, steps = features.shape[:2]
        whole = steps - steps % self.patch
        seen = features if self.embed is None else self.embed(features)
        outputs = []
        if whole:  # n lanes side by side, each of whole / n steps
            phases = seen[:, :whole].unflatten(1, (-1, self.patch)).transpose(1, 2).flatten(0, 1)
            found, after = self.recurrence(phases, _flat(state))
            outputs.append(found.unflatten(0, (lanes, self.patch)).transpose(1, 2).flatten(1, 2))
            state = _unflat(after, self.patch)
        rest = steps - whole
        if rest:  # one step more of the oldest `rest` phases, which are then the newest
            oldest: Memory = (state[0][:, :, :rest], state[1][:, :, :rest])
            found, after = self.recurrence(seen[:, whole:].flatten(0, 1)[:, None], _flat(oldest))
            outputs.append(found.unflatten(0, (lanes, rest))[:, :, 0])
            newer = _unflat(after, rest)
            state = (torch.cat([state[0][:, :, rest:], newer[0]], 2), torch.cat([state[1][:, :, rest:], newer[1]], 2))
        contexts = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return contexts if self.skip is None else contexts + self.skip(features), state

    def window(self, features: Tensor, state: Memory) -> tuple[Tensor, Tensor]:
        """Whole windows [N, J, F] of J segments, state [S, N, D]; returns the context [N, D] and outputs [N, J, D]."""
        context, outputs = self._window(features, state)
        if self.skip is None:
            return context, outputs
        beside = self.skip(features)
        return context + beside[:, -1], outputs + beside

    def _window(self, features: Tensor, state: Memory) -> tuple[Tensor, Tensor]:
        outputs, (hidden, _) = self.recurrence(features if self.embed is None else self.embed(features), state)
        if self.merge is None:
            return (outputs[:, -1] if self.recurrence.residual else _last(hidden[-1], outputs)), outputs
        forward, backward = outputs.chunk(2, dim=-1)  # each has read the whole window at its own end
        return self.merge(torch.cat([forward[:, -1], backward[:, 0]], dim=-1)), self.merge(outputs)


def _last(hidden: Tensor, outputs: Tensor) -> Tensor:
    """The last hidden state [N, D], which alone a gradient goes back from, of a recurrence with outputs [N, J, D]."""
    return _Last.apply(hidden, outputs) if torch.is_grad_enabled() else hidden


class _Last(Function):
    """Where outputs bear no gradient torch writes one of zeros for all of them, at every training step; these are
    kept for the next one."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, outputs: Tensor) -> Tensor:
        ctx.outputs = (*outputs.shape, outputs.dtype, outputs.device)
        return hidden.view_as(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], _zeros(*ctx.outputs)


@lru_cache(maxsize=1)
def _zeros(windows: int, steps: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[N, J, D] as recurrences lay them, step by step."""
    return torch.zeros(steps, windows, size, dtype=dtype, device=device).transpose(0, 1)


def _reader(features: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, size), nn.GELU(), nn.Linear(size, size), nn.GELU())


def _flat(state: Memory) -> Memory:
    return state[0].flatten(1, 2), state[1].flatten(1, 2)


def _unflat(state: Memory, phases: int) -> Memory:
    hidden, cell = (part.unflatten(1, (-1, phases)) for part in state)
    return hidden, cell
