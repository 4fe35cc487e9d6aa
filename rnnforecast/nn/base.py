"""What the network corrects: naive forecasts, mixed with weights that it chooses from its state."""

import torch
from torch import Tensor


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
    repeated = filled.gather(1, places.flatten(1)).view(places.shape)
    flat = level[:, :, None, None].expand(-1, -1, horizon, 1)
    return torch.cat([torch.where(repeated.isnan(), flat, repeated), flat], dim=-1)


def count(seasons: tuple[int, ...]) -> int:
    """S: how many naive forecasts there are."""
    return 2 + sum(season > 1 for season in seasons)
