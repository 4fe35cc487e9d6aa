"""From the state at a cutoff to raw outputs for every step of the horizon: what every decoder is given and returns.

Shapes here and in the other `decoder_*` files: N cutoffs of all lanes, H horizon, C channels, O raw outputs of a step
and channel, D hidden units, Kc known covariates, A encoder states that attention may look at. What a decoder returns
is in the precision of `base`, under automatic mixed precision too.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Ahead(NamedTuple):
    """What a decoder may look at besides the context."""

    base: Tensor  # [N, H, C] scaled base forecast of each channel; zeros if there is none
    known: Tensor  # [N, H, Kc] standardised known covariates of the steps ahead; Kc may be 0
    states: Tensor  # [N, A, D] encoder outputs up to the cutoff, oldest first; A = 0 unless attention
    valid: Tensor  # [N, A] bool, False before the series began; at least the last is True
    actual: Tensor | None = None  # [N, H, C] scaled actual values, of training only; NaN where missing
    teacher_forcing: float = 0.0  # probability, per cutoff and step, of feeding the actual value


class Decoded(NamedTuple):
    """What a decoder says of each step, for a head to read."""

    raw: Tensor  # [N, H, C, O]
    weights: Tensor | None = None  # [N, H, A] where attention looked, only of attention


class Outer(nn.Linear):
    """The output layer of a decoder: zero at first, so that the forecast begins as its base; with dropout before it."""

    dropout = 0.0  # `decoders.build` sets it, whatever the decoder

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., D] to [..., outputs]."""
        return super().forward(F.dropout(hidden, self.dropout, self.training))

    def planes(self, hidden: Tensor, count: int) -> Tensor:
        """[N, D] to [count, N, outputs / count]: the outputs in so many pieces, each by itself in memory."""
        if count == 1:
            return self(hidden)[None]
        seen = F.dropout(hidden, self.dropout, self.training).expand(count, *hidden.shape)
        bias, weight = self.bias.view(count, 1, -1), self.weight.view(count, -1, self.in_features).mT
        return torch.baddbmm(bias.expand(count, len(hidden), -1), seen, weight)


class DirectDecoder(nn.Module):
    """All steps at once from the state, with a local part that reads the known covariates of each step
    (MQ-RNN: Wen et al. 2017). Each of the O raw outputs lies in one piece, as heads read them one by one."""

    def __init__(self, hidden_size: int, horizon: int, *, channels: int, outputs: int, known: int) -> None:
        super().__init__()
        self.horizon, self.outputs = horizon, outputs
        self.inner = nn.Linear(hidden_size, hidden_size)
        self.outer = Outer(hidden_size, horizon * channels * outputs)
        self.local = nn.Sequential(nn.Linear(known, hidden_size), nn.GELU()) if known else None
        self.local_outer = nn.Linear(hidden_size, channels * outputs) if known else None

    def forward(self, context: Tensor, ahead: Ahead) -> Decoded:
        """context [N, D]; of `ahead` only `known` is read."""
        planes = self.outer.planes(F.gelu(self.inner(context)), self.outputs)
        raw = planes.unflatten(-1, (self.horizon, -1)).movedim(0, -1)
        if self.local is not None and self.local_outer is not None:
            local = self.local_outer(self.local(ahead.known) * context[:, None])
            raw = raw + local.unflatten(-1, (-1, self.outputs))
        return Decoded(raw.to(ahead.base.dtype))
