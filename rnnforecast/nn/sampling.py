"""Forecasts of several steps by feeding the network its own samples (DeepAR: Salinas et al. 2020).

A sample path is the recurrence itself: `encode` takes a drawn value as if it had been observed.
"""

import torch
from torch import Tensor

from rnnforecast.nn import transform
from rnnforecast.nn.committee import apart, each
from rnnforecast.nn.memory import State, pick
from rnnforecast.nn.network import Encoding, Forecast, Inputs, Network

SEED = 0  # all cutoffs draw the same uniform numbers: a forecast does not depend on what is forecast beside it


def predict(network: Network, encoding: Encoding, at: Tensor, *, state: State | None = None) -> tuple[Tensor, Tensor]:
    """Mean [R, K, H] and quantiles [R, K, H, Q] from the cutoffs `at` [B, K], in the units of the data.

    `state`: that of every lane at its cutoff, where it is at hand and K is 1; sample paths go on from it.
    """
    members = each(network, encoding)
    states = [None] * len(members) if state is None else apart(state, len(members))
    found = [_predict(member, own, at, state=before) for (member, own), before in zip(members, states, strict=True)]
    if len(found) == 1:
        return found[0]
    means, quantiles = (torch.stack(parts).mean(dim=0) for parts in zip(*found, strict=True))
    return means, quantiles


def _predict(network: Network, encoding: Encoding, at: Tensor, *, state: State | None) -> tuple[Tensor, Tensor]:
    if not network.config.sampled:
        return network.summary(network.decode(encoding, at))
    drawn = paths(network, encoding, at, state=state)  # [R, K, H, paths]
    if network.head.offsets is not None:  # a point: one path, and around it the errors of such on the validation span
        bent = transform.forward(network.config.parts.transform, drawn)
        scale = encoding.units.at(encoding.places(at)).scale[..., None, None]
        around = transform.inverse(network.config.parts.transform, bent + scale * network.head.offsets)
        return drawn[..., 0], around
    levels = torch.tensor(network.config.quantile_levels, device=at.device)
    return drawn.mean(dim=-1), torch.quantile(drawn, levels, dim=-1).movedim(0, -1)


def paths(network: Network, encoding: Encoding, at: Tensor, *, state: State | None = None) -> Tensor:
    """Sample paths [R, K, H, paths] from the cutoffs `at` [B, K], in the units of the data; `state` as in `predict`."""
    config = network.config
    count = 1 if config.parts.head == "point" else config.parts.sample_paths
    uniform = _uniform(count, config.horizon, config.channels).to(at.device)
    first = network.decode(encoding, at)
    raw, base, shift, scale = (_as_lanes(part, count, config.channels) for part in first[:4])
    forecast = Forecast(raw, base, shift, scale, None)
    state = _repeat(state_at(network, encoding, at) if state is None else state, count)
    lane = torch.arange(len(at), device=at.device).repeat_interleave(at.shape[1] * count)
    place = at.flatten().repeat_interleave(count)
    drawn: list[Tensor] = []
    while True:
        draws = uniform[len(drawn)].repeat(at.numel(), 1).flatten()[:, None, None]  # rows (b, k, path, channel)
        values = network.sample(forecast, draws)[:, 0]
        drawn.append(values[:, 0])
        if len(drawn) == config.horizon:
            break
        place = place + 1
        ahead = place[:, None] + torch.arange(2, device=at.device)  # known covariates of the next two steps
        observation = Inputs(
            values,
            torch.ones_like(values, dtype=torch.bool),
            (encoding.inputs.ordinals[lane, 0] + place)[:, None],
            values.new_full((len(lane), 1, config.past), torch.nan),
            encoding.inputs.known[lane[:, None], ahead],
            encoding.inputs.static[lane],
            encoding.inputs.code[lane],
        )
        one, state = network.encode(observation, state)
        forecast = network.decode(one, torch.zeros_like(place)[:, None])
    together = torch.stack(drawn, dim=-1).view(*at.shape, count, config.channels, config.horizon)
    return together.permute(0, 3, 1, 4, 2).flatten(0, 1)


def _as_lanes(part: Tensor, count: int, channels: int) -> Tensor:
    """A part [R, K, ...] of a forecast, each cutoff as `count` lanes: [rows (b, k, path, channel), 1, ...]."""
    cutoffs = part.unflatten(0, (-1, channels)).transpose(1, 2).flatten(0, 1)
    return cutoffs.repeat_interleave(count, dim=0).flatten(0, 1)[:, None]


def state_at(network: Network, encoding: Encoding, at: Tensor) -> State:
    """The state of each lane at its cutoffs `at` [B, K], as B * K lanes: the pass is run again in pieces."""
    assert encoding.seen is not None
    assert encoding.before is not None
    hidden, cell = encoding.before
    found = [part.unsqueeze(2).repeat(1, 1, at.shape[1], 1, 1) for part in (hidden, cell)]  # [S, B, K, n, D]
    done = 0
    for place in at.unique(sorted=True).tolist():
        _, (hidden, cell) = network.encoder(encoding.seen[:, done : place + 1], (hidden, cell))
        done = place + 1
        here = (at == place)[None, :, :, None, None]
        found = [
            torch.where(here, now.float()[:, :, None], old) for now, old in zip((hidden, cell), found, strict=True)
        ]
    config, past = network.config, encoding.past
    lane = torch.arange(len(at), device=at.device)[:, None, None]
    seen = past.seen[lane, at[..., None] + torch.arange(1, config.reach + 1, device=at.device)].flatten(0, 1)
    back = torch.arange(1, network.memory + 1, device=at.device)
    remembered = at.repeat_interleave(config.channels, dim=0)[..., None] + back  # [R, K, M]

    def cut(values: Tensor) -> Tensor:
        return pick(values, remembered).unflatten(0, (len(at), -1)).transpose(1, 2).flatten(0, 2)  # (b, k, channel)

    contexts = encoding.contexts.new_zeros(at.numel(), 0, config.parts.hidden_size)
    hidden, cell = (part.flatten(1, 2) for part in found)
    return State(cut(past.filled), cut(past.observed), seen, hidden, cell, contexts)


def _repeat(state: State, count: int) -> State:
    """Each lane `count` times."""
    rows = [part.unflatten(0, (state.hidden.shape[1], -1)) for part in (state.filled, state.observed)]
    filled, observed = (part.repeat_interleave(count, dim=0).flatten(0, 1) for part in rows)
    seen, contexts = (part.repeat_interleave(count, dim=0) for part in (state.seen, state.contexts))
    hidden, cell = (part.repeat_interleave(count, dim=1) for part in (state.hidden, state.cell))
    return State(filled, observed, seen, hidden, cell, contexts)


def _uniform(count: int, horizon: int, channels: int) -> Tensor:
    """Numbers [H, paths, C] in (0, 1), evenly spread over the paths at each step, in random order."""
    random = torch.Generator().manual_seed(SEED)
    even = (torch.arange(count) + 0.5) / count
    draws = [even[torch.randperm(count, generator=random)] for _ in range(horizon * channels)]
    return torch.stack(draws).view(horizon, channels, count).transpose(1, 2)
