"""What the network corrects: naive forecasts, mixed with weights that it chooses from its state."""

import torch
from torch import Tensor

from rnnforecast.config_parts import Base
from rnnforecast.nn.places import Places
from rnnforecast.nn.running import running_sum

FEWEST_CYCLES = 2  # seasons that the memory must hold for a mean over them


def naive_forecasts(
    filled: Tensor, level: Tensor, places: Places, seasons: tuple[int, ...], horizon: int
) -> list[Tensor]:
    """The last value and the level [R, K, 1], and the seasonal naive of each season longer than a step [R, K, H].

    filled [R, M + T], level [R, K]. A value from before the first reading is replaced by the level.
    """
    flat = level[..., None]
    last = places.of(filled)[..., None]
    found = [torch.where(last.isnan(), flat, last), flat]
    for season in seasons:
        if season > 1:
            newest = last_cycle(filled, places, season, horizon)
            found.append(torch.where(newest.isnan(), flat, newest))
    return found


def last_cycle(values: Tensor, places: Places, season: int, horizon: int) -> Tensor:
    """The last season of values [R, M + T] up to each place, repeated over the horizon: [R, K, H]."""
    start = values.shape[1] - places.steps - season + 1
    cycle = places.windows(values, start, min(season, horizon))
    if horizon <= season:
        return cycle
    return torch.cat([cycle] * -(-horizon // season), dim=-1)[..., :horizon]


def profile(filled: Tensor, places: Places, season: int, cycles: int, horizon: int) -> Tensor:
    """The mean seasonal profile: for each step ahead the mean over the last `cycles` seasons of the value at its place
    in the season.

    filled [R, M + T]; returns [R, K, H]. Values from before the first reading are skipped; NaN where there is no other.
    """
    known = torch.stack([filled.nan_to_num(0.0), (~filled.isnan()).to(filled)])
    summed, count = running_sum(known, cycles, stride=season)
    mean = summed / count.where(count > 0, torch.nan)
    return last_cycle(mean, places, season, horizon)


def bases(
    kind: Base, filled: Tensor, *, level: Tensor, places: Places, seasons: tuple[int, ...], horizon: int, memory: int
) -> list[Tensor]:
    """The S forecasts that a base mixes, [R, K, H] each (or [R, K, 1], flat), with S = count(kind, seasons, memory).

    filled [R, M + T], level [R, K], memory: M.
    """
    if kind == "none":
        return []
    found = naive_forecasts(filled, level, places, seasons, horizon)
    season = _profile_season(kind, seasons, memory)
    if season:
        mean = profile(filled, places, season, memory // season, horizon)
        found.append(torch.where(mean.isnan(), level[..., None], mean))
    return found


def mixed(forecasts: list[Tensor], weights: Tensor, *, shift: Tensor, scale: Tensor) -> Tensor:
    """Forecasts in units of the data, mixed with weights [R, K, S], as [R, K, H] in scaled units; shift, scale
    [R, K, 1]."""
    shares = (weights / scale).unbind(dim=-1)
    parts = [(forecast - shift) * share[..., None] for forecast, share in zip(forecasts, shares, strict=True)]
    parts.sort(key=lambda part: part.shape[-1])  # the flat ones are added up first, at no cost
    return sum(parts[1:], parts[0])


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
