"""What the network corrects: naive forecasts, mixed with weights that it chooses from its state."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnforecast.config_parts import Base
from rnnforecast.nn.places import Places
from rnnforecast.nn.running import running_sum
from rnnforecast.nn.scaling import Units
from rnnforecast.nn.shape import MOVED_CYCLES

FEWEST_CYCLES = 2  # seasons that the memory must hold for a mean over them
MOST_CYCLES = 7  # of a season, looked at one by one: the days of a week


def naive_forecasts(
    filled: Tensor, level: Tensor, places: Places, seasons: tuple[int, ...], horizon: int
) -> list[Tensor]:
    """The last value and the level [R, K, 1], and the last cycle of each season longer than a step (of the horizon, if
    that is shorter), which the seasonal naive repeats; all as distances from the level.

    filled [R, M + T], level [R, K]. A value from before the first reading is replaced by the level.
    """
    # A row that was read at the oldest step has no gaps after it. (To ask a GPU would hold it up.)
    read = not filled.is_cuda and not bool(filled[:, 0].isnan().any())
    last = _from_level(places.of(filled)[..., None], level, read=read)
    cycles = [_from_level(_cycle(filled, places, season, horizon), level, read=read) for season in _longer(seasons)]
    return [last, torch.zeros_like(last), *cycles]


def _from_level(forecast: Tensor, level: Tensor, *, read: bool = False) -> Tensor:
    """How far a forecast [R, K, ..] lies from the level [R, K]; the level stands for what it has not (nothing, where
    all was `read`)."""
    # However the forecast lies in memory, its steps lie side by side from here on.
    distance = torch.sub(forecast, level[..., None], out=forecast.new_empty(forecast.shape))
    return distance if read else distance.nan_to_num_(0.0)


def last_cycle(values: Tensor, places: Places, season: int, horizon: int) -> Tensor:
    """The last season of values [R, M + T] up to each place, repeated over the horizon: [R, K, H]."""
    return repeated(_cycle(values, places, season, horizon), horizon)


def _cycle(values: Tensor, places: Places, season: int, horizon: int, *, back: int = 1) -> Tensor:
    """The season of values that began so many seasons before each place's next step, or as much of it as the horizon is
    long."""
    return places.windows(values, values.shape[1] - places.steps - back * season + 1, min(season, horizon))


def earlier(
    filled: Tensor, *, level: Tensor, places: Places, seasons: tuple[int, ...], horizon: int, memory: int
) -> list[Tensor]:
    """The cycles before the last one of each season, one by one, which `bases` takes means of; shapes as there."""
    found = [_cycle(filled, places, season, horizon, back=back) for season, back in earlier_cycles(seasons, memory)]
    return [_from_level(each, level) for each in found]


def earlier_cycles(seasons: tuple[int, ...], memory: int) -> list[tuple[int, int]]:
    """Which these are: the season of each, and how many seasons before the next step it began."""
    return [(season, back) for season in _longer(seasons) for back in range(2, min(memory // season, MOST_CYCLES) + 1)]


def repeated(cycle: Tensor, horizon: int) -> Tensor:
    """A cycle [.., S] over the horizon, [.., H]; of one step, as a view."""
    season = cycle.shape[-1]
    if season == 1:
        return cycle.expand(*cycle.shape[:-1], horizon)
    return cycle if horizon == season else torch.cat([cycle] * -(-horizon // season), dim=-1)[..., :horizon]


def profile(filled: Tensor, places: Places, season: int, cycles: int, horizon: int) -> Tensor:
    """The mean seasonal profile: for each step ahead the mean over the last `cycles` seasons of the value at its place
    in the season.

    filled [R, M + T]; returns [R, K, H]. Values from before the first reading are skipped; NaN where there is no other.
    """
    return last_cycle(_mean_of_seasons(filled, cycles, season), places, season, horizon)


def moved(filled: Tensor, places: Places, season: int, *, cycles: int, block: int, horizon: int) -> Tensor:
    """The seasonal profile of the last `cycles` seasons, moved by how much the level has changed since.

    The level at a step is the mean of the `block` values that end there. Each of the seasons counts from the level as
    it was that many seasons before the cutoff; a season of one block from its own level, at its end. So at a cutoff t:
    profile[t + h] + level[t] - the mean of these levels; of logarithms, ratios. Shapes as in `profile`; NaN where a
    season or a level has no reading.
    """
    level = _mean_of_seasons(filled, block, 1)
    then = _mean_of_seasons(level, cycles, season)
    if season != block:
        then = F.pad(then[:, :-season], (season, 0), value=torch.nan)
    mean = _mean_of_seasons(filled, cycles, season)
    return last_cycle(mean, places, season, horizon) + places.of(level - then)[..., None]


def _mean_of_seasons(values: Tensor, cycles: int, season: int) -> Tensor:
    """At each step the mean of what is known of the values of it and of the `cycles` - 1 steps before it that lie whole
    seasons back; NaN where there is none."""
    known = torch.stack([values.nan_to_num(0.0), (~values.isnan()).to(values)])
    summed, count = running_sum(known, cycles, stride=season)
    return summed / count.where(count > 0, torch.nan)


def linear(recent: Tensor, weights: Tensor) -> Tensor:
    """The linear forecast [R, K, H] of recent steps [R, K, L] by a map [L, H]."""
    with torch.autocast(recent.device.type, enabled=False):  # a sum of so many steps needs every digit
        return recent @ weights


def bases(
    kind: Base, filled: Tensor, *, level: Tensor, places: Places, seasons: tuple[int, ...], horizon: int, memory: int
) -> list[Tensor]:
    """The S forecasts that a base mixes, with S = count(kind, seasons, memory), as distances from the level: [R, K, H]
    each, or less that is `repeated`.

    filled [R, M + T], level [R, K], memory: M.
    """
    if not count(kind, seasons, memory):
        return []
    found = naive_forecasts(filled, level, places, seasons, horizon)
    for season, cycles in _moved(kind, seasons, memory):
        each = moved(filled, places, season, cycles=cycles, block=_shortest(seasons), horizon=horizon)
        found.append(_from_level(each, level))
    season = _profile_season(kind, seasons, memory)
    if season:
        mean = profile(filled, places, season, memory // season, horizon)
        found.append(_from_level(mean, level))
    return found


def shares(weights: Tensor) -> Tensor:
    """Weights [..., S] as shares that add up to one: softmax, which is slow over a small last dimension, so the shares
    of each forecast lie by themselves in memory."""
    return weights.movedim(-1, 0).contiguous().softmax(dim=0).movedim(0, -1)


def mixed(distances: list[Tensor], weights: Tensor, units: Units, horizon: int) -> Tensor:
    """Forecasts that lie so far from the level, each `repeated` over the horizon, mixed with weights [R, K, H, S] (or
    [R, K, 1, S], the same for all steps), as [R, K, H] in scaled units [R, K]."""
    shares = (weights / units.scale[..., None, None]).unbind(dim=-1)
    found = ((units.level - units.shift) / units.scale)[..., None]  # weights add up to one: the level's whole share
    # Short ones first, which are few numbers.
    for distance, share in sorted(zip(distances, shares, strict=True), key=lambda pair: pair[0].shape[-1]):
        if distance.shape[-1] % found.shape[-1] or 1 < distance.shape[-1] < share.shape[-1]:
            found, distance = repeated(found, horizon), repeated(distance, horizon)
        found = _and_share(found, distance, share)
    return repeated(found, horizon)


def _and_share(found: Tensor, distance: Tensor, share: Tensor) -> Tensor:
    """found + distance * share; what is shorter than the distance, once in it or several times, is repeated."""
    short = found.shape[-1]
    if short == 1:  # addcmul is the slower way where two of its three are flat
        return found + distance * share
    if short == distance.shape[-1]:
        return torch.addcmul(found, distance, share)
    cycles = distance.unflatten(-1, (-1, short))
    return torch.addcmul(found[..., None, :], cycles, share[..., None]).flatten(-2)


def scaled(distances: list[Tensor], units: Units, horizon: int) -> Tensor:
    """Forecasts that lie so far from the level, each `repeated` over the horizon, side by side in scaled units [R, K]:
    [R, K, H, S]."""
    each = torch.stack([repeated(distance, horizon) for distance in distances], dim=-1)
    return (each + (units.level - units.shift)[..., None, None]) / units.scale[..., None, None]


def count(kind: Base, seasons: tuple[int, ...], memory: int) -> int:
    """S: how many naive forecasts a base mixes; a linear one mixes none."""
    if kind in ("none", "linear"):
        return 0
    more = len(_moved(kind, seasons, memory)) + bool(_profile_season(kind, seasons, memory))
    return 2 + len(_longer(seasons)) + more


def _longer(seasons: tuple[int, ...]) -> list[int]:
    """The seasons longer than one step."""
    return [season for season in seasons if season > 1]


def _shortest(seasons: tuple[int, ...]) -> int:
    """The shortest season longer than one step; 0 where there is none."""
    return min(_longer(seasons), default=0)


def _moved(kind: Base, seasons: tuple[int, ...], memory: int) -> list[tuple[int, int]]:
    """Seasons that are moved with the level, and over how many cycles their mean is taken."""
    if kind != "moved" or not _shortest(seasons):
        return []
    found = []
    for season in seasons:
        most = min((memory - _shortest(seasons)) // season, MOVED_CYCLES)
        alone = () if season == _shortest(seasons) else (1,)  # that would be its seasonal naive, nearly
        found += [(season, cycles) for cycles in sorted({*alone, most}) if cycles >= 1]
    return found


def _profile_season(kind: Base, seasons: tuple[int, ...], memory: int) -> int:
    """The shortest season longer than one step, whose profile is a base; 0 where there is none."""
    shortest = _shortest(seasons)
    enough = bool(shortest) and memory // shortest >= FEWEST_CYCLES
    return shortest if kind == "profile" and enough else 0
