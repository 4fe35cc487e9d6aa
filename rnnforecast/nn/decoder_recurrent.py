"""The encoder-decoder: a second recurrence runs over the horizon, fed with its own forecasts."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnforecast.nn import cell as cells
from rnnforecast.nn.attention import Attention, AttentionName
from rnnforecast.nn.cell import Activation, CellName
from rnnforecast.nn.decoder import Ahead, Decoded, Outer


class RecurrentDecoder(nn.Module):
    """Encoder-decoder (Sutskever et al. 2014; context at every step: Cho et al. 2014): h'_k = f(h'_{k-1}, y_{k-1}, c).

    y_{k-1} is the decoder's own location of the step before, in training as in forecasting, unless `ahead` asks for
    teacher forcing (scheduled sampling: Bengio et al. 2015); the first is the base forecast. With attention (Bahdanau
    et al. 2015) each step also sees what h'_{k-1} reads from the encoder's states. `location` turns raw outputs
    [..., O] and base [...] into what is fed back, [...] scaled.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        cell: CellName,
        activation: Activation = "tanh",
        channels: int,
        outputs: int,
        known: int,
        location: Callable[[Tensor, Tensor], Tensor],
        attention: AttentionName | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.activation, self.location = cell, activation, location
        self.shape = (channels, outputs)
        gates = cells.BLOCKS[cell] * hidden_size
        self.start = nn.Linear(hidden_size, hidden_size * (2 if cell == "lstm" else 1))
        self.context = nn.Linear(hidden_size, gates)  # c's share of the gates, the same at every step
        self.cell = cells.build(cell, 2 * channels + known, hidden_size=hidden_size, activation=activation)
        self.outer = Outer(hidden_size, channels * outputs)
        self.attention = Attention(hidden_size, attention) if attention else None
        self.read = nn.Linear(hidden_size, gates, bias=False) if attention else None  # the read-out's share

    def forward(self, context: Tensor, ahead: Ahead) -> Decoded:
        """context [N, D]."""
        hidden, memory = cells.start(self.kind, self.start(context).to(context.dtype))
        shares = self.context(context)
        keys = self.attention.keys(ahead.states) if self.attention else None
        forced = fed_actual(ahead)
        previous, outputs, looks = ahead.base[:, 0], [], []
        for step in range(ahead.base.shape[1]):
            seen = torch.cat([previous, ahead.base[:, step], ahead.known[:, step]], dim=-1)
            gates = F.linear(seen, self.cell.weight_ih, self.cell.bias_ih) + shares
            if self.attention is not None and self.read is not None and keys is not None:
                found, weights = self.attention(hidden, keys=keys, states=ahead.states, valid=ahead.valid)
                gates = gates + self.read(found)
                looks.append(weights)
            hidden, memory, _ = self._step(gates, hidden, memory)
            raw = self.outer(hidden).unflatten(-1, self.shape).to(ahead.base.dtype)
            outputs.append(raw)
            previous = self.location(raw, ahead.base[:, step])
            if forced is not None and ahead.actual is not None:
                previous = torch.where(forced[:, step], ahead.actual[:, step], previous)
        return Decoded(torch.stack(outputs, dim=1), torch.stack(looks, dim=1) if looks else None)

    def _step(self, gates: Tensor, hidden: Tensor, memory: Tensor) -> cells.Step:
        return cells.step(
            self.kind,
            gates,
            hidden=hidden,
            memory=memory,
            weight_hh=self.cell.weight_hh,
            bias_hh=self.cell.bias_hh,
            activation=self.activation,
        )


def fed_actual(ahead: Ahead) -> Tensor | None:
    """Where the actual value is fed to the step after it: [N, H, C], one draw per cutoff and step for all channels,
    never a missing value; None where teacher forcing is off."""
    if ahead.actual is None or ahead.teacher_forcing <= 0:
        return None
    drawn = torch.rand(ahead.actual.shape[:2], device=ahead.actual.device) < ahead.teacher_forcing
    return drawn[..., None] & ~ahead.actual.isnan()
