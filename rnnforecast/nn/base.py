"""What the network corrects: naive forecasts, mixed with weights that it chooses from its state."""

import torch
from torch import Tensor

from rnnforecast.config_parts import Base
from rnnforecast.nn.memory import pick
from rnnforecast.nn.running import running_sum
from rnnforecast.nn.scaling import Units

FEWEST_CYCLES = 2  # seasons that the memory must hold for a mean over them


def naive_forecasts(filled: Tensor, level: Tensor, at: Tensor, seasons: tuple[int, ...], horizon: int) -> Tensor:
    """The last value, the level, and the seasonal naive of each season, at cutoffs `at`.

    filled [B, M + T] (position M + t is step t), level [B, K], at [B, K] (steps 0..T-1, as positions in
    `filled`); returns [B, K, H, S] with S = 2 + seasons longer than one step. A value from before the first
    reading is replaced by the level.
    """
    ahead = torch.arange(1, horizon + 1, device=at.device)
    steps_back = [torch.zeros_like(ahead)]
    steps_back += [season * ((ahead + season - 1) // season) - ahead for season in seasons if season > 1]
    places = at[:, :, None, None] - torch.stack(steps_back, dim=-1)  # [B, K, H, S - 1]
    repeated = pick(filled, places)
    flat = level[:, :, None, None].expand(-1, -1, horizon, 1)
    return torch.cat([torch.where(repeated.isnan(), flat, repeated), flat], dim=-1)


def profile(filled: Tensor, at: Tensor, season: int, cycles: int, horizon: int) -> Tensor:
    """The mean seasonal profile: for each step ahead the mean over the last `cycles` seasons of the value at its place
    in the season.

    filled [R, M + T], at [R, K] positions in it; returns [R, K, H]. Values from before the first reading are skipped;
    NaN where there is no other.
    """
    known = torch.stack([filled.nan_to_num(0.0), (~filled.isnan()).to(filled)])
    summed, count = running_sum(known, cycles, stride=season)
    mean = summed / count.where(count > 0, torch.nan)
    ahead = torch.arange(1, horizon + 1, device=at.device)
    places = at[:, :, None] + ahead - season * ((ahead + season - 1) // season)  # the same place, the last time
    return pick(mean, places)


def bases(
    kind: Base, filled: Tensor, *, level: Tensor, at: Tensor, seasons: tuple[int, ...], horizon: int, memory: int
) -> Tensor:
    """The S forecasts that a base mixes, [R, K, H, S], with S = count(kind, seasons, memory).

    filled [R, M + T], level [R, K], at [R, K] positions in `filled` (M + t is step t), memory: M.
    """
    if kind == "none":
        return filled.new_zeros(*at.shape, horizon, 0)
    found = naive_forecasts(filled, level, at, seasons, horizon)
    season = _profile_season(kind, seasons, memory)
    if not season:
        return found
    mean = profile(filled, at, season, memory // season, horizon)
    return torch.cat([found, torch.where(mean.isnan(), level[:, :, None], mean)[..., None]], dim=-1)


def newest_mix(
    kind: Base, filled: Tensor, *, units: Units, weights: Tensor, seasons: tuple[int, ...], horizon: int, memory: int
) -> Tensor:
    """The bases at the last position of `filled` [R, X] alone, mixed by weights [R, S]: [R, H] in scaled units [R, 1].

    The same as `bases` from there, read as slices.
    """
    last, level = filled[:, -1:], units.level
    parts = [last, *(filled[:, -season:] for season in seasons if season > 1), level]
    period = _profile_season(kind, seasons, memory)
    if period:
        parts.append(filled[:, -(memory // period) * period :].unflatten(1, (-1, period)).nanmean(dim=1))
    if bool(filled[:, -max(seasons)].isnan().any()):  # gaps are filled: only before a first reading is there nothing
        parts = [torch.where(part.isnan(), level, part) for part in parts]
    mixed = last.new_zeros(len(filled), horizon)
    for part, weight in zip(parts, weights.split(1, dim=1), strict=True):
        once = (part[:, :horizon] - units.shift) * weight
        mixed += once if once.shape[1] in (1, horizon) else once.repeat(1, -(-horizon // once.shape[1]))[:, :horizon]
    return mixed / units.scale


def count(kind: Base, seasons: tuple[int, ...], memory: int) -> int:
    """S: how many forecasts a base mixes."""
    if kind == "none":
        return 0
    return 2 + sum(season > 1 for season in seasons) + bool(_profile_season(kind, seasons, memory))


def _profile_season(kind: Base, seasons: tuple[int, ...], memory: int) -> int:
    """The shortest season longer than one step, whose profile is a base; 0 where there is none."""
    shortest = min((season for season in seasons if season > 1), default=0)
    enough = bool(shortest) and memory // shortest >= FEWEST_CYCLES
    return shortest if kind == "profile" and enough else 0
