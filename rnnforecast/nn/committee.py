"""Several networks of the same parts as one: each runs its own recurrence, and their forecasts are averaged."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rnnforecast.nn.features import Past
from rnnforecast.nn.memory import State
from rnnforecast.nn.network import Encoding, Inputs, Network
from rnnforecast.nn.recurrence import Memory
from rnnforecast.nn.scaling import Units


class Committee(Network):
    """Networks that differ in their weights alone: of one configuration, in the units of the same training span. The
    forecast is the mean of theirs, of each quantile and of the mean.

    Its states and encodings are a network's: what is remembered of the series and in which units is the same for all
    members and stands there once. Their hidden states are stacked like layers, [S * members, B, n, D]; what each
    made of the steps lies side by side, contexts [B, A + T, D * members].
    """

    def __init__(self, members: Sequence[Network]) -> None:
        nn.Module.__init__(self)  # it has no layers of its own
        self.members = nn.ModuleList(members)
        self.config = members[0].config
        self.memory = members[0].memory

    @property
    def networks(self) -> list[Network]:
        """The members."""
        return list(self.members)  # type: ignore[arg-type]

    @property
    def known_stats(self) -> Tensor:  # type: ignore[override]
        """Mean and deviation of the known covariates, [2, K]."""
        return self.networks[0].known_stats

    def initial_state(self, static: Tensor, code: Tensor) -> State:
        """The state before a series begins; see `Network`."""
        states = [member.initial_state(static, code) for member in self.networks]
        hidden, cell = (torch.cat([getattr(state, name) for state in states]) for name in ("hidden", "cell"))
        return states[0]._replace(hidden=hidden, cell=cell, contexts=_beside([state.contexts for state in states]))

    def units(self, filled: Tensor, observed: Tensor, *, steps: int) -> Units:
        """The units of the newest `steps`; see `Network`."""
        return self.networks[0].units(filled, observed, steps=steps)

    def read(self, inputs: Inputs, past: Past, units: Units, state: State) -> tuple[Encoding, Memory]:
        """Run each member's recurrence over the newest T steps of `past`; see `Network`."""
        states = apart(state, len(self.members))
        found = [member.read(inputs, past, units, own) for member, own in zip(self.networks, states, strict=True)]
        encodings = [encoding for encoding, _ in found]
        static, contexts = (_beside([getattr(each, name) for each in encodings]) for name in ("static", "contexts"))
        whole = encodings[0]._replace(static=static, contexts=contexts)
        if whole.seen is not None:
            seen = _beside([each.seen for each in encodings if each.seen is not None])
            whole = whole._replace(seen=seen, before=(state.hidden, state.cell))
        return whole, (torch.cat([hidden for _, (hidden, _) in found]), torch.cat([cell for _, (_, cell) in found]))

    def _about(self, static: Tensor, code: Tensor) -> Tensor:
        return _beside([member._about(static, code) for member in self.networks])

    def _covariates(self, ordinals: Tensor, past: Tensor, known: Tensor) -> Tensor:
        return self.networks[0]._covariates(ordinals, past, known)


def each(network: Network, encoding: Encoding) -> list[tuple[Network, Encoding]]:
    """The networks that one is, and what a pass left of each."""
    if not isinstance(network, Committee):
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
