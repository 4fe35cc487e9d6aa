"""What an error counts in: units of scaling, or of the measures that forecasts are compared by."""

from typing import Literal

import torch
from torch import Tensor

from rnnforecast.config_parts import Transform
from rnnforecast.nn import transform
from rnnforecast.panel import Panel

Weighting = Literal["scale", "level", "season", "both", "spread"]
SMALLEST_SHARE = 0.01  # of a series' size: the least seasonal change, so that a constant series counts for something
MOST = 10.0  # times: how much more an error may count near zero for being relative
SMALLEST = 1e-12


def error_units(panel: Panel, end: Tensor, season: int) -> Tensor:
    """What the seasonal naive's errors are before `end` [S], as [S, 3]: relative to the value, the mean over all
    series; and absolute, of each series (the unit of MASE, Hyndman and Koehler 2006); then the deviation of each."""
    found = []
    for start, stop in zip(panel.offsets.tolist(), end.tolist(), strict=False):
        values, mask = panel.values[start : start + stop], panel.mask[start : start + stop]
        both = mask[season:] & mask[:-season]
        change = (values[season:] - values[:-season])[both].abs().double().mean().nan_to_num(0.0)
        read = values[mask].double()
        size = read.abs().mean().nan_to_num(0.0)
        spread = (read - read.mean()).square().mean().sqrt().nan_to_num(0.0)
        found.append(torch.stack([change, size, spread]))
    change, size, spread = torch.stack(found, dim=1)
    change, spread = (part.maximum(SMALLEST_SHARE * size).clamp(min=SMALLEST) for part in (change, spread))
    known = size > 0
    relative = (change / size)[known].mean() if known.any() else change.new_tensor(1.0)
    return torch.stack([relative.expand_as(change), change, spread], dim=1).float()


def weights(how: Weighting, scale: Tensor, actual: Tensor, *, units: Tensor, bend: Transform) -> Tensor:
    """What an error of one scaled unit counts, [R, K, H] (or broadcast to it).

    scale [R, K, 1], actual [R, K, H] as the transform `bend` left it, units [R, 3] of `error_units`. `level`: relative
    to the value that is missed, as sMAPE has it; `season`: in units of the seasonal naive's error, as MASE has it;
    `both`: half of each; `spread`: in units of the series' deviation, as measures of standardised values have it.
    """
    if how == "scale":
        return torch.ones_like(scale)
    values = transform.inverse(bend, actual)
    in_data = scale * transform.slope(bend, values)
    relative, absolute, spread = units[..., None, None].unbind(dim=1)
    if how == "spread":
        return in_data / spread
    by_level = in_data / (values.abs() * relative).maximum(absolute / MOST)
    by_season = in_data / absolute
    if how == "both":
        return (by_level + by_season) / 2
    return by_level if how == "level" else by_season


def of_cutoffs(how: Weighting, scale: Tensor, units: Tensor) -> Tensor:
    """The same where it is one number for all steps of a cutoff, [R, K, 1] from a scale [R, K, 1]; else 1."""
    column = {"season": 1, "spread": 2}.get(how)
    return torch.ones_like(scale) if column is None else scale / units[:, column, None, None]
