"""The causal encoder: one fused recurrent call over all steps, state in, state out."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from rnnforecast.nn.memory import State, since_reading

LARGEST_INPUT = 10.0  # in spreads: a spike is seen as large, not as a thousand times larger than the rest


class Encoder(nn.Module):
    """A GRU or LSTM over features of each step, all in units of the causal level and spread."""

    def __init__(
        self, cell: Literal["gru", "lstm"], features: int, *, hidden_size: int, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.rnn = kind(
            features, hidden_size, num_layers=num_layers, dropout=dropout if num_layers > 1 else 0.0, batch_first=True
        )

    def initial(self, lanes: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Zero hidden and cell state, [L, B, D] and [L, B, D or 0]."""
        shape = (self.rnn.num_layers, lanes, self.rnn.hidden_size)
        cell = shape if isinstance(self.rnn, nn.LSTM) else (*shape[:2], 0)
        return torch.zeros(shape, device=device), torch.zeros(cell, device=device)

    def forward(self, features: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """features [B, T, F], hidden and cell [L, B, D]; returns outputs [B, T, D] and the two states after step T."""
        if isinstance(self.rnn, nn.LSTM):
            outputs, (hidden, cell) = self.rnn(features, (hidden, cell))
        else:
            outputs, hidden = self.rnn(features, hidden)
        return outputs, hidden, cell


def step_features(filled: Tensor, observed: Tensor, level: Tensor, spread: Tensor, seasons: tuple[int, ...]) -> Tensor:
    """What the encoder sees of the target at each step: [B, T, 4 + seasons].

    The value, whether there was a reading, the time since the last one, the level in spreads, and for each season
    the value a season before the *next* step.
    """
    steps = level.shape[1]
    lags = [0, *(season - 1 for season in seasons if season > 1)]
    total = filled.shape[1]
    seen = torch.stack([filled[:, total - steps - lag : total - lag] for lag in lags], dim=-1)
    scaled = ((seen - level[..., None]) / spread[..., None]).nan_to_num(0.0).clamp(-LARGEST_INPUT, LARGEST_INPUT)
    rest = [observed[:, -steps:].float(), since_reading(observed, steps).log1p(), (level / spread).asinh() / 4]
    return torch.cat([scaled, torch.stack(rest, dim=-1)], dim=-1)


def feature_count(seasons: tuple[int, ...]) -> int:
    """F without calendar and covariates."""
    return 4 + sum(season > 1 for season in seasons)


def calendar_features(ordinals: Tensor, periods: tuple[float, ...]) -> Tensor:
    """Where in each calendar cycle a step stands: ordinals [B, T] to sine and cosine [B, T, 2 * periods]."""
    waves = []
    for period in periods:
        angle = 2 * math.pi * (ordinals.double() / period % 1.0)
        waves += [angle.sin().float(), angle.cos().float()]
    return torch.stack(waves, dim=-1) if waves else ordinals.new_zeros((*ordinals.shape, 0), dtype=torch.float32)


def pack(state: State, filled: Tensor, observed: Tensor, hidden: Tensor, cell: Tensor) -> State:
    """The state after the newest step, as long as `state` was."""
    size = state.filled.shape[1]
    return State(filled[:, -size:], observed[:, -size:], hidden, cell)
