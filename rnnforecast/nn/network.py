"""The forecasting network: `encode` runs the recurrence and returns the state, `decode` forecasts from its steps.

Training, backtest, batch and stream are these two calls: a long pass and a single step give the same numbers.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rnnforecast.nn import base, head
from rnnforecast.nn.decoder import DirectDecoder, RecurrentDecoder
from rnnforecast.nn.encoder import Encoder, calendar_features, feature_count, pack, step_features
from rnnforecast.nn.memory import State, extend
from rnnforecast.nn.scaling import trailing

BLOCK_WITHOUT_SEASON = 8
SHORTEST_WINDOW = 32  # steps; below it a spread is too noisy to be a unit


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that decides the network's shape; saved beside the weights."""

    cell: Literal["gru", "lstm"]
    decoder: Literal["direct", "recurrent"]
    hidden_size: int
    num_layers: int
    dropout: float
    horizon: int
    quantile_levels: tuple[float, ...]
    seasons: tuple[int, ...]
    periods: tuple[float, ...] = ()  # calendar cycles in steps
    past: int = 0
    known: int = 0

    @property
    def block(self) -> int:
        """Steps of one block of the level and spread: the shortest season, or eight where there is none."""
        return self.seasons[0] if self.seasons[0] > 1 else BLOCK_WITHOUT_SEASON

    @property
    def blocks(self) -> int:
        """How many blocks: enough for the longest season, and for 32 steps."""
        return -(-max(*self.seasons, SHORTEST_WINDOW) // self.block)

    @property
    def memory(self) -> int:
        """M: steps that the state remembers."""
        return self.block * self.blocks

    @property
    def median(self) -> int:
        return self.quantile_levels.index(0.5)


class Inputs(NamedTuple):
    """New observations of some lanes, and what is known beyond them."""

    values: Tensor  # [B, T] 0 where missing
    mask: Tensor  # [B, T] bool
    ordinals: Tensor  # [B, T] int64
    past: Tensor  # [B, T, P] NaN where missing
    known: Tensor  # [B, T + H, C] of steps 1..T+H after the one before the first; NaN where missing


class Encoding(NamedTuple):
    """What a pass leaves at each of its steps, enough to forecast from any of them."""

    context: Tensor  # [B, T, D]
    level: Tensor  # [B, T]
    spread: Tensor  # [B, T]
    filled: Tensor  # [B, M + T]
    known: Tensor  # [B, T + H, C] standardised


class Forecast(NamedTuple):
    """Quantiles at cutoffs, and the units they were thought in."""

    scaled: Tensor  # [B, K, H, Q] in spreads from the level
    level: Tensor  # [B, K]
    spread: Tensor  # [B, K]

    @property
    def quantiles(self) -> Tensor:
        """[B, K, H, Q] in the units of the data."""
        return self.level[..., None, None] + self.spread[..., None, None] * self.scaled


class Network(nn.Module):
    """A causal recurrent forecaster with quantiles for each step of the horizon."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.past_stats: Tensor  # [2, P] mean and deviation
        self.known_stats: Tensor  # [2, C]
        self.memory = config.memory
        size, levels = config.hidden_size, len(config.quantile_levels)
        self.encoder = Encoder(
            config.cell,
            feature_count(config.seasons) + 2 * len(config.periods) + config.past + config.known,
            hidden_size=size,
            num_layers=config.num_layers,
            dropout=config.dropout,
        )
        self.mix = nn.Linear(size, base.count(config.seasons))
        self.decoder: nn.Module
        if config.decoder == "direct":
            self.decoder = DirectDecoder(size, config.horizon, quantiles=levels, known=config.known)
        else:
            self.decoder = RecurrentDecoder(size, quantiles=levels, median=config.median, known=config.known)
        self.register_buffer("past_stats", torch.tensor([[0.0], [1.0]]).repeat(1, config.past))
        self.register_buffer("known_stats", torch.tensor([[0.0], [1.0]]).repeat(1, config.known))

    def initial_state(self, lanes: int) -> State:
        """The state before a series begins: nothing remembered."""
        device = self.mix.weight.device
        nothing = torch.full((lanes, self.memory), torch.nan, device=device)
        return State(nothing, torch.zeros_like(nothing, dtype=torch.bool), *self.encoder.initial(lanes, device))

    def encode(self, inputs: Inputs, state: State) -> tuple[Encoding, State]:
        """Run the recurrence over T new steps of each lane."""
        filled, observed = extend(state, inputs.values, inputs.mask)
        steps = inputs.values.shape[1]
        level, spread = trailing(filled, observed, self.config.blocks, self.config.block, steps=steps)
        known = standardised(inputs.known, self.known_stats)
        features = [
            step_features(filled, observed, level, spread, self.config.seasons),
            calendar_features(inputs.ordinals + 1, self.config.periods),
            standardised(inputs.past, self.past_stats),
            known[:, :steps],
        ]
        context, hidden, cell = self.encoder(torch.cat(features, dim=-1), state.hidden, state.cell)
        return Encoding(context, level, spread, filled, known), pack(state, filled, observed, hidden, cell)

    def decode(self, encoding: Encoding, at: Tensor) -> Forecast:
        """Forecast from the steps `at` [B, K] (0..T-1) of a pass."""
        lane = torch.arange(len(at), device=at.device)[:, None]
        context, level, spread = encoding.context[lane, at], encoding.level[lane, at], encoding.spread[lane, at]
        horizon, seasons = self.config.horizon, self.config.seasons
        naive = base.naive_forecasts(encoding.filled, level, at + self.memory, seasons, horizon)
        scaled = (naive - level[..., None, None]) / spread[..., None, None]
        centre = (scaled * self.mix(context).softmax(dim=-1)[:, :, None]).sum(dim=-1)  # [B, K, H]
        ahead = at[:, :, None] + torch.arange(horizon, device=at.device)
        known = encoding.known[lane[..., None], ahead]
        raw = self.decoder(context, centre, known)
        return Forecast(centre[..., None] + head.quantiles(raw, self.config.median), level, spread)


def standardised(values: Tensor, stats: Tensor) -> Tensor:
    """Covariates [..., P] in units of the training data's mean and deviation; a missing one as the mean."""
    return ((values - stats[0]) / stats[1]).nan_to_num(0.0)
