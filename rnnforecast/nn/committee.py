"""Several networks of the same parts as one: each runs its own recurrence, and their forecasts are averaged."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rnnforecast.nn.memory import State
from rnnforecast.nn.network import Encoding, Inputs, Network


class Committee(nn.Module):
    """Networks that differ in their weights alone: of one configuration, in the units of the same training span. The
    forecast is the mean of theirs, of each quantile and of the mean.

    Its states and encodings are a network's: what is remembered of the series and in which units is the same for all
    members and stands there once. Their hidden states are stacked like layers, [S * members, B, n, D]; what each
    made of the steps lies side by side, contexts [B, A + T, D * members].
    """

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = members[0].config
        self.memory = members[0].memory

    @property
    def networks(self) -> list[Network]:
        """The members."""
        return list(self.members)  # type: ignore[arg-type]

    def initial_state(self, static: Tensor, code: Tensor) -> State:
        """The state before a series begins; see `Network`."""
        return _together([member.initial_state(static, code) for member in self.networks])

    def remember(self, before: Inputs) -> State:
        """The state that has seen the values before a segment but has run over none of them."""
        return _together([member.remember(before) for member in self.networks])

    def encode(self, inputs: Inputs, state: State) -> tuple[Encoding, State]:
        """Run each member's recurrence over T new steps of each lane."""
        states = apart(state, len(self.members))
        found = [member.encode(inputs, own) for member, own in zip(self.networks, states, strict=True)]
        encodings = [encoding for encoding, _ in found]
        whole = encodings[0]._replace(
            static=_beside([each.static for each in encodings]), contexts=_beside([each.contexts for each in encodings])
        )
        if whole.seen is not None:
            seen = _beside([each.seen for each in encodings if each.seen is not None])
            whole = whole._replace(seen=seen, before=(state.hidden, state.cell))
        return whole, _together([after for _, after in found])


def each(network: Network | Committee, encoding: Encoding) -> list[tuple[Network, Encoding]]:
    """The networks that one is, and what a pass left of each."""
    if isinstance(network, Network):
        return [(network, encoding)]
    count = len(network.members)
    parts = (part.tensor_split(count, dim=-1) for part in (encoding.static, encoding.contexts))
    found = [encoding._replace(static=static, contexts=own) for static, own in zip(*parts, strict=True)]
    if encoding.seen is not None and encoding.before is not None:
        hidden, cell = (part.tensor_split(count) for part in encoding.before)
        seen = encoding.seen.tensor_split(count, dim=-1)
        found = [
            one._replace(seen=looked, before=(h, c))
            for one, looked, h, c in zip(found, seen, hidden, cell, strict=True)
        ]
    return list(zip(network.networks, found, strict=True))


def apart(state: State, count: int) -> list[State]:
    """The states of the members, of that of a committee of so many."""
    parts = (state.hidden.tensor_split(count), state.cell.tensor_split(count), state.contexts.tensor_split(count, -1))
    return [state._replace(hidden=h, cell=c, contexts=x) for h, c, x in zip(*parts, strict=True)]


def _beside(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(parts), dim=-1)


def _together(states: Sequence[State]) -> State:
    hidden, cell = (torch.cat([getattr(state, name) for state in states]) for name in ("hidden", "cell"))
    return states[0]._replace(hidden=hidden, cell=cell, contexts=_beside([state.contexts for state in states]))
