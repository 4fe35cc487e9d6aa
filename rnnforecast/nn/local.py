"""A correction of each step ahead by what past cycles say of it: one small network for all steps of the horizon."""

import torch
from torch import Tensor, nn

from rnnforecast.config_parts import Scaling
from rnnforecast.nn.features import clamped

AROUND = 3  # the step before, the step itself, the step after


class Local(nn.Module):
    """Reads what naive forecasts and earlier cycles say of a step and of its neighbours, in the light of the context,
    and corrects the raw outputs of that step: the local network of MQ-RNN (Wen et al. 2017), which reads known
    covariates so.

    Its weights are the same at every step ahead, so it learns from all of them at once, where an output layer has
    weights of its own for each. It begins at zero. Shapes: B lanes, C channels, R = B * C rows, K cutoffs, H horizon,
    S naive forecasts and earlier cycles, O raw outputs, D numbers of a context.
    """

    def __init__(
        self, context_size: int, size: int, *, cycles: int, channels: int, outputs: int, scaling: Scaling
    ) -> None:
        super().__init__()
        self.channels, self.scaling = channels, scaling
        self.gate = nn.Linear(context_size, size)
        self.read = nn.Sequential(nn.Linear(channels * (AROUND * cycles + 1) + 1, size), nn.GELU())
        self.inner = nn.Sequential(nn.Linear(size, size), nn.GELU())
        self.outer = nn.Linear(size, channels * outputs)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, context: Tensor, cycles: Tensor, mixed: Tensor) -> Tensor:
        """What is added to the raw outputs, [R, K, H, O]: context [B, K, D]; naive forecasts and earlier cycles
        [R, K, H, S] and the base [R, K, H], in scaled units."""
        apart = clamped(cycles - mixed[..., None], self.scaling)
        before = torch.cat([apart[:, :, :1], apart[:, :, :-1]], dim=2)
        after = torch.cat([apart[:, :, 1:], apart[:, :, -1:]], dim=2)
        seen = torch.cat([apart, before, after, clamped(mixed, self.scaling)[..., None]], dim=-1)
        seen = seen.unflatten(0, (-1, self.channels)).permute(0, 2, 3, 1, 4).flatten(3)  # channels side by side
        share = torch.arange(seen.shape[2], device=seen.device) / seen.shape[2]
        seen = torch.cat([seen, share[:, None].expand(*seen.shape[:3], 1)], dim=-1)
        found = self.outer(self.inner(self.read(seen) * (1 + self.gate(context))[:, :, None]))
        return found.unflatten(-1, (self.channels, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)
