"""The recurrence itself: h_t = f(x_t, h_{t-1}) with shared weights, stacked, state in and state out."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnforecast.nn import gru

# Hidden [S, B, D] and cell [S, B, D] (of an LSTM; [S, B, 0] of others), S = L x directions.
Memory = tuple[Tensor, Tensor]
LSTM_MODE = 2  # what torch's kernels of several cells call an LSTM


class Recurrence(nn.Module):
    """A vanilla RNN, GRU or LSTM of several layers.

    `outputs, state = recurrence(inputs, state)` with inputs [B, T, F] and outputs [B, T, D] ([B, T, 2D] if
    bidirectional). A pass over T steps equals T passes over one step with the state handed on.
    """

    def __init__(
        self,
        inputs: int,
        hidden_size: int,
        *,
        cell: Literal["rnn", "lstm", "gru"] = "gru",
        num_layers: int = 1,
        dropout: float = 0.0,
        residual: bool = False,
        bidirectional: bool = False,
        activation: Literal["tanh", "relu"] = "tanh",
    ) -> None:
        super().__init__()
        self.cell, self.hidden_size, self.dropout, self.residual = cell, hidden_size, dropout, residual
        self.directions = 2 if bidirectional else 1
        kind: Any = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]
        more = {"nonlinearity": activation} if cell == "rnn" else {}
        sizes = [inputs, *[hidden_size * self.directions] * (num_layers - 1)]
        self.layers = nn.ModuleList(
            kind(size, hidden_size, batch_first=True, bidirectional=bidirectional, **more) for size in sizes
        )

    def initial(self, lanes: int) -> Memory:
        """The state at rest: zeros, one row seen from every lane."""
        weight = cast(Tensor, self.layers[0].weight_hh_l0)
        row = weight.new_zeros(len(self.layers) * self.directions, 1, self.hidden_size)
        rest = row.expand(-1, lanes, -1)
        return rest, rest if self.cell == "lstm" else rest[..., :0]

    def forward(self, inputs: Tensor, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """Run over T steps; returns the top layer's outputs, and the state of all layers after the last step."""
        hiddens, cells = self.initial(len(inputs)) if state is None else state
        outputs, after = inputs, []
        pairs = zip(hiddens.split(self.directions), cells.split(self.directions), strict=True)
        for index, (layer, (hidden, cell)) in enumerate(zip(self.layers, pairs, strict=True)):
            seen = F.dropout(outputs, self.dropout, self.training) if index else outputs
            if self.cell == "lstm":
                found, (hidden, cell) = _lstm(cast(nn.LSTM, layer), seen, (hidden.contiguous(), cell.contiguous()))
            elif isinstance(layer, nn.GRU) and gru.better(layer, seen):
                found, hidden = gru.run(layer, seen, hidden)
            else:
                found, hidden = layer(seen, hidden.contiguous())
            outputs = found + outputs if self.residual and index else found
            after.append((hidden, cell))
        if len(after) == 1:
            return outputs, after[0]
        return outputs, (torch.cat([h for h, _ in after]), torch.cat([c for _, c in after]))


def _lstm(layer: nn.LSTM, inputs: Tensor, state: Memory) -> tuple[Tensor, Memory]:
    """One layer over [B, T, F]. A single step, without a gradient, is given to the kernel that torch's layer calls: the
    layer copies the states that come out of it, which takes half as long again."""
    # (Of no lanes at all the kernel ends the process.)
    single = inputs.shape[1] == 1 and len(inputs) > 0 and not layer.bidirectional and not torch.is_grad_enabled()
    plain = inputs.device.type == "cpu" and inputs.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not (single and plain and torch.backends.mkldnn.is_available()):
        outputs, after = layer(inputs, state)
        return outputs, after
    into, again, bias_into, bias_again = layer.all_weights[0]
    outputs, hidden, cell, _ = torch.mkldnn_rnn_layer(
        inputs.transpose(0, 1).contiguous(),  # it does not look at strides
        into,
        again,
        bias_into,
        bias_again,
        state[0][0],
        state[1][0],
        reverse=False,
        batch_sizes=[],
        mode=LSTM_MODE,
        hidden_size=layer.hidden_size,
        num_layers=1,
        has_biases=True,
        bidirectional=False,
        batch_first=False,
        train=False,
    )
    return outputs.transpose(0, 1), (hidden[None], cell[None])


def initialise(
    recurrence: Recurrence, init: Literal["default", "orthogonal", "identity"] = "default", *, forget_bias: float = 0.0
) -> None:
    """Set the recurrent weights to their start.

    `orthogonal`: each gate's matrix (Saxe et al. 2014), so that gradients neither vanish nor explode at first;
    `identity` with zero biases: IRNN, for a vanilla rnn with relu (Le, Jaitly and Hinton 2015). `forget_bias` opens the
    LSTM's forget gate (Gers et al. 2000; 1.0: Jozefowicz et al. 2015).
    """
    size = recurrence.hidden_size
    for name, weight in recurrence.named_parameters():
        with torch.no_grad():
            if "weight_hh" in name and init == "orthogonal":
                for gate in weight.split(size):
                    nn.init.orthogonal_(gate)
            elif "weight_hh" in name and init == "identity":
                weight.copy_(torch.eye(size))
            elif "bias" in name and init == "identity":
                weight.zero_()
            if "bias_ih" in name and forget_bias and recurrence.cell == "lstm":
                weight[size : 2 * size] = forget_bias
            elif "bias_hh" in name and forget_bias and recurrence.cell == "lstm":
                weight[size : 2 * size] = 0.0
