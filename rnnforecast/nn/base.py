"""What the network corrects: naive forecasts, mixed with weights that it chooses from its state."""

import torch
from torch import Tensor

from rnnforecast.config_parts import Base
from rnnforecast.nn.memory import pick
from rnnforecast.nn.running import running_sum
from rnnforecast.nn.shape import MOVED_CYCLES

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
    ahead = torch.arange(1, horizon + 1, device=at.device)
    places = at[:, :, None] + ahead - season * ((ahead + season - 1) // season)  # the same place, the last time
    return pick(_mean_of_seasons(filled, cycles, season), places)


def moved(filled: Tensor, at: Tensor, season: int, *, cycles: int, block: int, horizon: int) -> Tensor:
    """The seasonal profile of the last `cycles` seasons, moved by how much the level has changed since.

    The level at a step is the mean of the `block` values that end there. Each of the seasons counts from the level as
    it was that many seasons before the cutoff: the mean over k of y[t + h - k * season] - level[t - k * season], plus
    level[t]. A season of one block counts from its own level, a season later. Of logarithms these are ratios. Shapes
    as in `profile`; NaN where a season or a level has no reading.
    """
    known = torch.stack([filled.nan_to_num(0.0), (~filled.isnan()).to(filled)])
    summed, count = running_sum(known, block)
    level = summed / count.where(count > 0, torch.nan)
    ahead = torch.arange(1, horizon + 1, device=at.device)
    seasons_back = (ahead + season - 1) // season
    reference = seasons_back - 1 if season == block else seasons_back
    then = pick(_mean_of_seasons(level, cycles, season), at[:, :, None] - season * reference)
    values = pick(_mean_of_seasons(filled, cycles, season), at[:, :, None] + ahead - season * seasons_back)
    return values + pick(level, at)[..., None] - then


def _mean_of_seasons(values: Tensor, cycles: int, season: int) -> Tensor:
    known = torch.stack([values.nan_to_num(0.0), (~values.isnan()).to(values)])
    summed, count = running_sum(known, cycles, stride=season)
    return summed / count.where(count > 0, torch.nan)


def bases(
    kind: Base, filled: Tensor, *, level: Tensor, at: Tensor, seasons: tuple[int, ...], horizon: int, memory: int
) -> Tensor:
    """The S forecasts that a base mixes, [R, K, H, S], with S = count(kind, seasons, memory).

    filled [R, M + T], level [R, K], at [R, K] positions in `filled` (M + t is step t), memory: M.
    """
    if kind == "none":
        return filled.new_zeros(*at.shape, horizon, 0)
    found = naive_forecasts(filled, level, at, seasons, horizon)
    more = [
        moved(filled, at, season, cycles=cycles, block=_shortest(seasons), horizon=horizon)
        for season, cycles in _moved(kind, seasons, memory)
    ]
    if more:
        each = torch.stack(more, dim=-1)
        return torch.cat([found, torch.where(each.isnan(), level[:, :, None, None], each)], dim=-1)
    season = _profile_season(kind, seasons, memory)
    if not season:
        return found
    mean = profile(filled, at, season, memory // season, horizon)
    return torch.cat([found, torch.where(mean.isnan(), level[:, :, None], mean)[..., None]], dim=-1)


def count(kind: Base, seasons: tuple[int, ...], memory: int) -> int:
    """S: how many forecasts a base mixes."""
    if kind == "none":
        return 0
    more = len(_moved(kind, seasons, memory)) + bool(_profile_season(kind, seasons, memory))
    return 2 + sum(season > 1 for season in seasons) + more


def _shortest(seasons: tuple[int, ...]) -> int:
    """The shortest season longer than one step; 0 where there is none."""
    return min((season for season in seasons if season > 1), default=0)


def _moved(kind: Base, seasons: tuple[int, ...], memory: int) -> list[tuple[int, int]]:
    """Seasons that are moved with the level, and over how many cycles their mean is taken."""
    if kind != "moved" or not _shortest(seasons):
        return []
    found = []
    for season in seasons:
        most = min((memory - _shortest(seasons)) // season, MOVED_CYCLES)
        alone = () if season == _shortest(seasons) else (1,)  # that would be its seasonal naive, nearly
        found += [(season, cycles) for cycles in sorted({*alone, most}) if 1 <= cycles]
    return found


def _profile_season(kind: Base, seasons: tuple[int, ...], memory: int) -> int:
    """The shortest season longer than one step, whose profile is a base; 0 where there is none."""
    shortest = _shortest(seasons)
    enough = bool(shortest) and memory // shortest >= FEWEST_CYCLES
    return shortest if kind == "profile" and enough else 0
