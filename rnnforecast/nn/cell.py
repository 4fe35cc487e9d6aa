"""One step of each recurrent cell, from its weights: for decoders, and to read what a unit does at every step.

Gates stand in the weights as in torch: reset, update, new of a GRU; input, forget, cell, output of an LSTM.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnforecast.nn.recurrence import Memory, Recurrence

CellName = Literal["rnn", "lstm", "gru"]
Activation = Literal["tanh", "relu"]
BLOCKS = {"rnn": 1, "gru": 3, "lstm": 4}  # blocks of D rows in the weights


class Step(NamedTuple):
    """A cell after one step."""

    hidden: Tensor  # [..., D]
    memory: Tensor  # [..., D] cell state of an LSTM; of others what was given
    gates: dict[str, Tensor]  # [..., D] each; none of a vanilla rnn


class Trace(NamedTuple):
    """What every unit of a recurrence held at every step of its inputs."""

    hidden: Tensor  # [B, T, L, D]
    cell: Tensor | None  # [B, T, L, D], only of an LSTM
    gates: dict[str, Tensor]  # [B, T, L, D] each; none of a vanilla rnn


def build(cell: CellName, inputs: int, *, hidden_size: int, activation: Activation = "tanh") -> nn.RNNCellBase:
    """A cell of torch, for its weights."""
    if cell == "rnn":
        return nn.RNNCell(inputs, hidden_size, nonlinearity=activation)
    return nn.LSTMCell(inputs, hidden_size) if cell == "lstm" else nn.GRUCell(inputs, hidden_size)


def start(cell: CellName, projected: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden and cell state [..., D] to begin with, from [..., D] (of an LSTM [..., 2D]; others have no cell state)."""
    hidden, memory = projected.chunk(2, dim=-1) if cell == "lstm" else (projected, projected[..., :0])
    return torch.tanh(hidden), memory


def step(
    cell: CellName,
    seen: Tensor,
    *,
    hidden: Tensor,
    memory: Tensor,
    weight_hh: Tensor,
    bias_hh: Tensor,
    activation: Activation = "tanh",
) -> Step:
    """One step; `seen` [..., G * D] is the inputs' share of the gates (weight_ih x + bias_ih), G = 1 of a vanilla rnn,
    3 of a GRU, 4 of an LSTM.

    hidden and memory [..., D] broadcast against `seen`. The new state has the precision of the old one, whatever the
    matrix product ran in.
    """
    recurrent = F.linear(hidden, weight_hh, bias_hh).to(hidden.dtype)
    if cell == "rnn":
        total = seen + recurrent
        return Step(torch.relu(total) if activation == "relu" else torch.tanh(total), memory, {})
    if cell == "lstm":
        let_in, forget, new, let_out = (seen + recurrent).chunk(4, dim=-1)
        gates = {"input": let_in.sigmoid(), "forget": forget.sigmoid(), "cell": new.tanh(), "output": let_out.sigmoid()}
        memory = gates["forget"] * memory + gates["input"] * gates["cell"]
        return Step(gates["output"] * torch.tanh(memory), memory, gates)
    inputs, recurrents = seen.chunk(3, dim=-1), recurrent.chunk(3, dim=-1)
    reset, update = torch.sigmoid(inputs[0] + recurrents[0]), torch.sigmoid(inputs[1] + recurrents[1])
    candidate = torch.tanh(inputs[2] + reset * recurrents[2])
    hidden = candidate + update * (hidden - candidate)
    return Step(hidden, memory, {"reset": reset, "update": update, "new": candidate})


def trace(recurrence: Recurrence, inputs: Tensor, state: Memory | None = None) -> Trace:
    """Run a recurrence step by step and keep every hidden unit, cell and gate of every layer.

    inputs [B, T, F]; the hidden units are those that the fused call `recurrence(inputs, state)` goes through, without
    dropout (of a residual recurrence: before the layer's input is added). Gradients flow. Raises ValueError for a
    bidirectional recurrence.
    """
    if recurrence.directions != 1:
        raise ValueError(
            "trace follows a recurrence step by step, forwards; this one is bidirectional: "
            "give one built with bidirectional=False"
        )
    hiddens, memories = recurrence.initial(len(inputs)) if state is None else state
    seen, layers = inputs, []
    for index, layer in enumerate(recurrence.layers):
        assert isinstance(layer, nn.RNNBase)
        found = _layer(recurrence.cell, layer, seen, hidden=hiddens[index], memory=memories[index])
        seen = found["hidden"] + seen if recurrence.residual and index else found["hidden"]
        layers.append(found)
    parts = {name: torch.stack([found[name] for found in layers], dim=2) for name in layers[0]}
    hidden, memory = parts.pop("hidden"), parts.pop("memory")
    return Trace(hidden, memory if recurrence.cell == "lstm" else None, parts)


def _layer(cell: CellName, layer: nn.RNNBase, seen: Tensor, *, hidden: Tensor, memory: Tensor) -> dict[str, Tensor]:
    """Hidden units, memory and gates of one layer over `seen` [B, T, F], by name: [B, T, D] each."""
    weights = dict(layer.named_parameters())
    activation: Activation = "relu" if getattr(layer, "nonlinearity", "tanh") == "relu" else "tanh"
    steps: list[dict[str, Tensor]] = []
    for share in F.linear(seen, weights["weight_ih_l0"], weights["bias_ih_l0"]).unbind(dim=1):
        hidden, memory, gates = step(
            cell,
            share,
            hidden=hidden,
            memory=memory,
            weight_hh=weights["weight_hh_l0"],
            bias_hh=weights["bias_hh_l0"],
            activation=activation,
        )
        steps.append({"hidden": hidden, "memory": memory, **gates})
    return {name: torch.stack([one[name] for one in steps], dim=1) for name in steps[0]}
