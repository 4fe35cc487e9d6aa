"""The parallel decoder of SegRNN: the horizon in segments, all forecast at once by one recurrent step each."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnforecast.nn import cell as cells
from rnnforecast.nn.cell import Activation, CellName
from rnnforecast.nn.decoder import Ahead, Decoded, Outer


class ParallelDecoder(nn.Module):
    """Forecasts ceil(H / segment) segments by one recurrent step each, all from the same state (SegRNN's parallel
    multi-step forecasting: Lin et al. 2023).

    The input of a segment's step is a learned embedding of its place, and what is known of its steps ahead. No error of
    one segment feeds the next one.
    """

    def __init__(
        self,
        hidden_size: int,
        horizon: int,
        *,
        segment: int,
        channels: int,
        outputs: int,
        known: int,
        cell: CellName = "gru",
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        self.kind, self.activation = cell, activation
        self.horizon, self.segment, self.segments = horizon, segment, -(-horizon // segment)
        self.shape = (self.segments, segment, channels, outputs)
        self.start = nn.Linear(hidden_size, hidden_size * (2 if cell == "lstm" else 1))
        self.place = nn.Parameter(torch.randn(self.segments, hidden_size))
        self.local = nn.Linear(segment * known, hidden_size) if known else None
        self.cell = cells.build(cell, hidden_size, hidden_size=hidden_size, activation=activation)
        self.outer = Outer(hidden_size, segment * channels * outputs)

    def forward(self, context: Tensor, ahead: Ahead) -> Decoded:
        """context [N, D]; of `ahead` only `known` is read."""
        hidden, memory = cells.start(self.kind, self.start(context).to(context.dtype)[:, None])  # [N, 1, D]
        found = cells.step(
            self.kind,
            F.linear(self._inputs(ahead.known), self.cell.weight_ih, self.cell.bias_ih),
            hidden=hidden,
            memory=memory,
            weight_hh=self.cell.weight_hh,
            bias_hh=self.cell.bias_hh,
            activation=self.activation,
        )
        raw = self.outer(found.hidden).view(len(context), *self.shape).flatten(1, 2)  # [N, segments * segment, C, O]
        return Decoded(raw[:, : self.horizon].to(ahead.base.dtype))

    def _inputs(self, known: Tensor) -> Tensor:
        """What each segment's step sees: [S, D] its place, [N, S, D] with the known covariates [N, H, Kc] of its steps
        (zeros, their mean, beyond the horizon)."""
        if self.local is None:
            return self.place
        beyond = self.segments * self.segment - self.horizon
        padded = F.pad(known, (0, 0, 0, beyond)).unflatten(1, (self.segments, self.segment))
        share: Tensor = self.local(padded.flatten(2))
        return self.place + share
