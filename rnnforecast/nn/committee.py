"""Several networks of the same parts as one: each runs its own recurrence, and their forecasts are averaged."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnnforecast.nn.memory import State
from rnnforecast.nn.network import Encoding, Inputs, Network


class Encodings(NamedTuple):
    """What a pass leaves, of each member."""

    inputs: Inputs
    members: tuple[Encoding, ...]


class Committee(nn.Module):
    """Networks of one configuration whose forecast is the mean of theirs, of each quantile and of the mean.

    Its state is a `State`: what is remembered of the series is the same for all members and kept once, their hidden
    states are stacked like layers, [S * members, B, n, D], what they kept for attention side by side,
    [B, A, D * members].
    """

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = members[0].config
        self.memory = members[0].memory

    def each(self) -> Iterable[Network]:
        """The members."""
        return self.members  # type: ignore[return-value]

    def initial_state(self, static: Tensor, code: Tensor) -> State:
        """The state before a series begins; see `Network`."""
        return _together([member.initial_state(static, code) for member in self.each()])

    def remember(self, before: Inputs) -> State:
        """The state that has seen the values before a segment but has run over none of them."""
        return _together([member.remember(before) for member in self.each()])

    def encode(self, inputs: Inputs, state: State) -> tuple[Encodings, State]:
        """Run each member's recurrence over T new steps of each lane."""
        states = _apart(state, len(self.members))
        found = [member.encode(inputs, own) for member, own in zip(self.each(), states, strict=True)]
        encodings = Encodings(inputs, tuple(encoding for encoding, _ in found))
        return encodings, _together([after for _, after in found])


def _together(states: Sequence[State]) -> State:
    hidden, cell = (torch.cat([getattr(state, name) for state in states]) for name in ("hidden", "cell"))
    contexts = torch.cat([state.contexts for state in states], dim=-1)
    return states[0]._replace(hidden=hidden, cell=cell, contexts=contexts)


def _apart(state: State, count: int) -> list[State]:
    parts = (state.hidden.chunk(count), state.cell.chunk(count), state.contexts.chunk(count, dim=-1))
    return [state._replace(hidden=h, cell=c, contexts=x) for h, c, x in zip(*parts, strict=True)]
