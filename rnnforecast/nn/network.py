"""The forecasting network: `encode` runs the recurrence and returns the state, `decode` forecasts from its steps.

Training, backtest, batch and stream are these two calls: a long pass and a single step give the same numbers.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnnforecast.nn import base, decoders, features, head, scaling, transform
from rnnforecast.nn.decoder import Ahead, Decoded
from rnnforecast.nn.encoder import Encoder
from rnnforecast.nn.features import Past, standardised
from rnnforecast.nn.local import Local
from rnnforecast.nn.memory import State, extend, newest
from rnnforecast.nn.places import Ends, Places
from rnnforecast.nn.recurrence import Memory
from rnnforecast.nn.scaling import Units
from rnnforecast.nn.shape import NetworkConfig

UNKNOWN_SERIES = 0.1  # share of training lanes whose series is not named, so that a new one can be forecast


class Inputs(NamedTuple):
    """New observations of some lanes, and what is known beyond them."""

    values: Tensor  # [R, T] 0 where missing
    mask: Tensor  # [R, T] bool
    ordinals: Tensor  # [B, T] int64
    past: Tensor  # [B, T, P] NaN where missing
    known: Tensor  # [B, T + H, C] of steps 1..T+H after the one before the first; NaN where missing
    static: Tensor  # [B, Z] NaN where missing
    code: Tensor  # [B] int64, which series: 0 is none that training knew


class Encoding(NamedTuple):
    """What a pass leaves at each of its steps, enough to forecast from any of them."""

    inputs: Inputs
    past: Past
    units: Units  # [R, T] each
    known: Tensor  # [B, T + H, C] standardised
    static: Tensor  # [B, G]
    contexts: Tensor  # [B, A + T, D]; of a window model [B, 0, D], which makes them when it decodes
    seen: Tensor | None  # [B, T, F] and
    before: Memory | None  # the state before the pass: for sample paths, which go on from inside of it

    def places(self, at: Tensor | None) -> Places:
        """Steps of the pass as places: `at` [B, K], or every one."""
        return Places.among(self.units.shift.shape[1], at)


class Forecast(NamedTuple):
    """Raw outputs of the network at cutoffs, and the units they were thought in."""

    raw: Tensor  # [R, K, H, O]
    base: Tensor  # [R, K, H] in scaled units
    shift: Tensor  # [R, K, 1]
    scale: Tensor  # [R, K, 1]
    weights: Tensor | None  # [B, K, H, A] of attention


class Network(nn.Module):
    """A causal recurrent forecaster, put together from the parts of its configuration."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.memory = config.memory
        parts, channels = config.parts, config.channels
        size = parts.hidden_size + parts.reader_size
        self.embedding = nn.Embedding(config.series + 1, parts.embedding_size) if parts.embedding_size else None
        width = features.count(channels, parts.patch_length, config.lags, config.covariates, parts.scaling)
        width += config.statics
        self.encoder = Encoder(parts, width, config.statics)
        self.bases = base.count(parts.base, config.seasons, config.memory)
        mixes = config.learned_horizon if parts.mix == "step" else 1
        self.mix = nn.Linear(size, mixes * channels * self.bases) if self.bases else None
        # Of `base: linear`, solved before the training and changed by no gradient: the map [L, H], and how far it
        # misses at each step [H], relative to all: what errors of the training are counted in.
        self.linear: Tensor | None
        self.misses: Tensor | None
        steps, ahead = config.linear_steps, config.learned_horizon
        self.register_buffer("linear", torch.zeros(steps, ahead) if steps else None)
        self.register_buffer("misses", torch.ones(ahead) if steps else None)
        self.head = head.build(parts, config.horizon, config.quantile_levels)
        self.decoder = decoders.build(config, self.head, context_size=size)
        self.local = self._local_of(size) if parts.local_size else None
        self.past_stats: Tensor
        self.known_stats: Tensor
        self.static_stats: Tensor
        self.target_stats: Tensor
        for name, count in (
            ("past_stats", config.past),
            ("known_stats", config.known),
            ("static_stats", config.static),
            ("target_stats", channels),
        ):
            self.register_buffer(name, torch.tensor([[0.0], [1.0]]).repeat(1, count))  # mean and deviation

    def initial_state(self, static: Tensor, code: Tensor) -> State:
        """The state before a series begins, from its static covariates [B, Z] and code [B]: nothing remembered."""
        config, lanes = self.config, len(static)
        nothing = torch.full((lanes * config.channels, self.memory), torch.nan, device=static.device)
        unread = torch.zeros_like(nothing, dtype=torch.bool)
        return self._at_rest(nothing, unread, static.new_zeros(lanes, config.reach, config.covariates), static, code)

    def _at_rest(self, filled: Tensor, observed: Tensor, seen: Tensor, static: Tensor, code: Tensor) -> State:
        """The state that remembers these steps, before the recurrence has run over any."""
        hidden, cell = self.encoder.initial(self._about(static, code))
        contexts = static.new_full((len(static), self.config.attended, self.config.parts.hidden_size), torch.nan)
        return State(filled, observed, seen, hidden, cell, contexts)

    def remember(self, before: Inputs) -> State:
        """The state that has seen the M steps before a segment but has run over none of them (whose gaps it leaves to
        the pass over the segment)."""
        read = torch.where(before.mask, transform.forward(self.config.parts.transform, before.values), torch.nan)
        known = standardised(before.known, self.known_stats)
        looked_at = (newest(part, self.config.reach) for part in (before.ordinals, before.past, known))
        return self._at_rest(read, before.mask, self._covariates(*looked_at), before.static, before.code)

    def encode(self, inputs: Inputs, state: State, *, transformed: bool = False) -> tuple[Encoding, State]:
        """Run the recurrence over T new steps of each lane (`transformed`: their values are so already)."""
        steps = inputs.values.shape[1]
        values = inputs.values if transformed else transform.forward(self.config.parts.transform, inputs.values)
        filled, observed, since = extend(state, values, inputs.mask)
        known = standardised(inputs.known, self.known_stats)
        seen = self._covariates(inputs.ordinals, inputs.past, known[:, :steps])
        seen = torch.cat([state.seen, seen], dim=1) if self.config.reach else seen
        past = Past(filled, observed, since, seen)
        units = self.units(filled, observed, steps=steps)
        encoding, after = self.read(inputs._replace(known=known), past, units, state)
        return encoding._replace(inputs=inputs), State(
            newest(filled, self.memory),
            newest(observed, self.memory),
            newest(seen, self.config.reach),
            *after,
            newest(encoding.contexts, self.config.attended),
        )

    @torch.no_grad()
    def windows(self, inputs: Inputs, before: Inputs) -> Encoding:
        """What `decode` needs of windows, which carry nothing: none of it is learned but what `described` adds."""
        return self.encode(inputs, self.remember(before))[0]

    def described(self, encoding: Encoding) -> Encoding:
        """The same with what describes the lanes by the weights as they are now."""
        return encoding._replace(static=self._about(encoding.inputs.static, encoding.inputs.code))

    def units(self, filled: Tensor, observed: Tensor, *, steps: int) -> Units:
        """The units of the newest `steps` of filled and observed [R, M + T]."""
        config, rows = self.config, len(filled) // self.config.channels
        return scaling.units(
            config.parts.scaling,
            filled,
            observed,
            block=config.block,
            blocks=config.blocks,
            window=config.window,
            stats=self.target_stats.T.repeat(rows, 1),
            steps=steps,
        )

    def read(self, inputs: Inputs, past: Past, units: Units, state: State) -> tuple[Encoding, Memory]:
        """Run the recurrence over the newest T steps of `past`, in their units; of `inputs` the standardised known
        covariates and what describes the lanes are looked at, of `state` the recurrence's own part."""
        config, steps = self.config, units.shift.shape[1]
        static = self._about(inputs.static, inputs.code)
        before: Memory = (state.hidden, state.cell)
        after, contexts, looked = before, state.contexts, None
        if not config.window:
            looked = self._look(past, Places(steps), units, static=static)
            found, after = self.encoder(looked, before)
            found = found.float()  # the state stays so under bf16
            contexts = torch.cat([contexts, found], dim=1) if config.attended else found
            after = (after[0].float(), after[1].float())
        kept = (looked, before) if config.sampled else (None, None)
        return Encoding(inputs, past, units, inputs.known, static, contexts, *kept), after

    def decode(
        self,
        encoding: Encoding,
        at: Tensor | None = None,
        *,
        actual: Tensor | None = None,
        teacher_forcing: float = 0.0,
    ) -> Forecast:
        """Forecast from the steps `at` [B, K] (0..T-1) of a pass, by default from every one (K = T); of sample paths,
        their first step.

        In training, `actual` [R, K, H] (transformed, NaN where missing) is what a decoder may be told of, with
        probability `teacher_forcing`.
        """
        places = encoding.places(at)
        units = encoding.units.at(places)
        shift, scale = units.shift[..., None], units.scale[..., None]
        context, states, valid = self._contexts(encoding, places, units)
        if self.encoder.reader is not None:
            looked = self._look(encoding.past, places, units, static=encoding.static)
            context = torch.cat([context, self.encoder.reader(looked).float()], dim=-1)
        naive, earlier = self._naive(encoding, places, units)
        centre = self._base(naive, encoding, places, units, context)
        known = places.windows(encoding.known, 0, self.config.learned_horizon)
        told = None if actual is None else self._flat((actual - shift) / scale)
        decoded: Decoded = self.decoder(
            context.flatten(0, 1),
            Ahead(self._flat(centre), known.flatten(0, 1), states, valid, told, teacher_forcing),
        )
        shape = context.shape[:2]
        raw = decoded.raw.float().unflatten(0, shape).permute(0, 3, 1, 2, 4).flatten(0, 1)
        if self.local is not None:
            cycles = base.scaled([*naive, *earlier], units, centre.shape[-1])
            raw = raw + self.local(context, cycles, centre).float()
        weights = None if decoded.weights is None else decoded.weights.unflatten(0, shape)
        return Forecast(raw, centre, shift, scale, weights)

    def loss(self, forecast: Forecast, actual: Tensor) -> Tensor:
        """The head's loss of each step, [R, K, H]; actual values [R, K, H], transformed."""
        scaled = (actual - forecast.shift).div_(forecast.scale)
        return self.head.loss(forecast.raw, forecast.base, scaled, scale=forecast.scale)

    def summary(self, forecast: Forecast) -> tuple[Tensor, Tensor]:
        """Mean [R, K, H] and quantiles [R, K, H, Q] in the units of the data."""
        raw, base, shift, scale, _ = forecast
        mean, quantiles = self.head.in_units(raw, base, shift=shift, scale=scale)
        if self.config.parts.transform == "none":
            return mean, quantiles
        quantiles = transform.inverse(self.config.parts.transform, quantiles)
        # The mean of a bent scale is not the bent mean: by the quantiles.
        return head.mean_of(quantiles, self.config.quantile_levels), quantiles

    def sample(self, forecast: Forecast, uniform: Tensor) -> Tensor:
        """Values [R, K, H] in the units of the data, drawn where `uniform` [R, K, H] says."""
        scaled = self.head.sample(forecast.raw, forecast.base, uniform, scale=forecast.scale)
        return transform.inverse(self.config.parts.transform, scaled * forecast.scale + forecast.shift)

    def _covariates(self, ordinals: Tensor, past: Tensor, known: Tensor) -> Tensor:
        """Calendar, past and known (standardised) covariates of some steps, [B, T, F]."""
        calendar = features.calendar_features(ordinals + 1, self.config.periods)
        parts = [part for part in (calendar, standardised(past, self.past_stats), known) if part.shape[-1]]
        return parts[0] if len(parts) == 1 else torch.cat(parts or [calendar], dim=-1)

    def _about(self, static: Tensor, code: Tensor) -> Tensor:
        """What describes the lanes as a whole: static covariates and embedding, [B, G]."""
        found = [standardised(static, self.static_stats)]
        if self.embedding is not None:
            if self.training:
                code = torch.where(torch.rand(len(code), device=code.device) < UNKNOWN_SERIES, 0, code)
            found.append(self.embedding(code))
        return torch.cat(found, dim=-1)

    def _look(self, past: Past, places: Places | Ends, units: Units, *, static: Tensor) -> Tensor:
        """Everything that the encoder sees at some steps: [B, K, F]."""
        parts = self.config.parts
        patch, lags = parts.patch_length, self.config.lags
        seen = features.steps_seen(past, places, units, patch=patch, lags=lags, scaling=parts.scaling)
        return torch.cat([seen, static[:, None].expand(-1, seen.shape[1], -1)], dim=-1) if static.shape[1] else seen

    def _contexts(self, encoding: Encoding, places: Places, units: Units) -> tuple[Tensor, Tensor, Tensor]:
        """Context [B, K, D] at each cutoff, and for attention the outputs before it [N, A, D] with their validity."""
        if self.config.window:
            return self._windows(encoding, places, units)
        context = places.of(encoding.contexts)
        patch = self.config.parts.patch_length
        count = self.config.attended // patch
        if not count:
            return context, context.new_zeros(context[..., 0].numel(), 0, context.shape[-1]), context.new_zeros(0)
        newest = places.windows(encoding.contexts, self.config.attended - (count - 1) * patch, (count - 1) * patch + 1)
        states = newest[:, :, ::patch].flatten(0, 1)  # oldest first
        return context, states.nan_to_num(0.0), ~states[..., 0].isnan()

    def _windows(self, encoding: Encoding, places: Places, units: Units) -> tuple[Tensor, Tensor, Tensor]:
        """Read the window before each cutoff, in the cutoff's units."""
        parts, (lanes, cutoffs) = self.config.parts, (len(encoding.static), units.shift.shape[1])
        count = self.config.window // parts.patch_length
        ends = Ends(places, count, parts.patch_length)
        looked = self._look(encoding.past, ends, units, static=encoding.static)
        start = tuple(
            part[:, :, :1].expand(-1, -1, cutoffs, -1).flatten(1, 2) for part in self.encoder.initial(encoding.static)
        )
        context, outputs = self.encoder.window(looked.unflatten(1, (cutoffs, count)).flatten(0, 1), start)  # type: ignore[arg-type]
        wanted = outputs.float() if parts.decoder == "attention" else outputs[:, :0].float()
        valid = torch.ones(wanted.shape[:2], dtype=torch.bool, device=wanted.device)
        return context.float().unflatten(0, (lanes, cutoffs)), wanted, valid

    def _local_of(self, context_size: int) -> Local:
        config = self.config
        return Local(
            context_size,
            config.parts.local_size,
            cycles=self.bases + len(base.earlier_cycles(config.seasons, self.memory)),
            channels=config.channels,
            outputs=self.head.outputs,
            scaling=config.parts.scaling,
        )

    def _naive(self, encoding: Encoding, places: Places, units: Units) -> tuple[list[Tensor], list[Tensor]]:
        """The naive forecasts that a base mixes, as `base.bases` has them, and for a local correction the cycles before
        theirs; none of either where there is no use for them."""
        config, filled = self.config, encoding.past.filled
        asked: dict[str, Any] = {
            "level": units.level,
            "places": places,
            "seasons": config.seasons,
            "horizon": config.learned_horizon,
            "memory": self.memory,
        }
        naive = base.bases(config.parts.base, filled, **asked)
        return naive, [] if self.local is None else base.earlier(filled, **asked)

    def _base(self, naive: list[Tensor], encoding: Encoding, places: Places, units: Units, context: Tensor) -> Tensor:
        """The mix of naive forecasts that the network corrects, [R, K, H] in scaled units."""
        if self.linear is not None:
            return base.linear(self.recent(encoding, places, units), self.linear)
        horizon = self.config.learned_horizon
        if self.mix is None:
            return units.shift.new_zeros(*units.shift.shape, 1).expand(-1, -1, horizon)
        mix = self._weights(context).float().unflatten(-1, (self.config.channels, -1, self.bases)).transpose(1, 2)
        return base.mixed(naive, base.shares(mix.flatten(0, 1)), units, horizon)

    def _weights(self, context: Tensor) -> Tensor:
        """What the naive forecasts are mixed by, [B, K, C * mixes * S]; of few, number by number in memory."""
        assert self.mix is not None
        if self.mix.out_features > self.bases:
            return self.mix(context)
        found = torch.addmm(self.mix.bias[:, None], self.mix.weight, context.flatten(0, 1).mT)
        return found.unflatten(1, context.shape[:2]).movedim(0, -1)

    def recent(self, encoding: Encoding, places: Places, units: Units) -> Tensor:
        """What the linear base is a map of: the last L steps up to each place in its units, oldest first, [R, K, L]."""
        steps = self.config.linear_steps
        values = places.windows(encoding.past.filled, self.memory + 1 - steps, steps)
        scaled = ((values - units.shift[..., None]) / units.scale[..., None]).nan_to_num(0.0)
        return features.clamped(scaled, self.config.parts.scaling)

    def _flat(self, rows: Tensor) -> Tensor:
        """Rows [R, K, H] as flat cutoffs with channels side by side, [N, H, C]."""
        return rows.unflatten(0, (-1, self.config.channels)).permute(0, 2, 3, 1).flatten(0, 1)
