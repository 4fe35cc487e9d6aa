"""From the state at a cutoff to raw outputs for every step of the horizon."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DirectDecoder(nn.Module):
    """All steps at once from the state, with a local part that reads the known covariates of each step
    (MQ-RNN: Wen et al. 2017)."""

    def __init__(self, hidden_size: int, horizon: int, *, quantiles: int, known: int) -> None:
        super().__init__()
        self.shape = (horizon, quantiles)
        self.inner = nn.Linear(hidden_size, hidden_size)
        self.outer = nn.Linear(hidden_size, horizon * quantiles)
        self.local = nn.Sequential(nn.Linear(known, hidden_size), nn.GELU()) if known else None
        self.local_outer = nn.Linear(hidden_size, quantiles) if known else None
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, context: Tensor, base: Tensor, known: Tensor) -> Tensor:
        """context [B, K, D], base [B, K, H] (scaled; not needed here), known [B, K, H, C]; returns [B, K, H, Q]."""
        raw = self.outer(F.gelu(self.inner(context))).unflatten(-1, self.shape)
        if self.local is not None and self.local_outer is not None:
            raw = raw + self.local_outer(self.local(known) * context[:, :, None])
        return raw


class RecurrentDecoder(nn.Module):
    """Encoder-decoder (Sutskever et al. 2014; context at every step: Cho et al. 2014): h'_k = f(h'_{k-1}, y_{k-1}, c),
    fed with its own median, in training as in forecasting."""

    def __init__(self, hidden_size: int, *, quantiles: int, median: int, known: int) -> None:
        super().__init__()
        self.median = median
        self.start = nn.Linear(hidden_size, hidden_size)
        self.context = nn.Linear(hidden_size, 3 * hidden_size)  # c's share of the gates, the same at every step
        self.cell = nn.GRUCell(2 + known, hidden_size)
        self.outer = nn.Linear(hidden_size, quantiles)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, context: Tensor, base: Tensor, known: Tensor) -> Tensor:
        """context [B, K, D], base [B, K, H] (scaled naive forecast), known [B, K, H, C]; returns [B, K, H, Q]."""
        lanes = context.flatten(0, 1)
        hidden, gates = torch.tanh(self.start(lanes)), self.context(lanes)
        bases, knowns = base.flatten(0, 1), known.flatten(0, 1)
        previous, outputs = bases[:, 0], []
        for step in range(base.shape[-1]):
            seen = torch.cat([torch.stack([previous, bases[:, step]], dim=-1), knowns[:, step]], dim=-1)
            hidden = self._step(seen, hidden, gates)
            raw = self.outer(hidden)
            outputs.append(raw)
            previous = bases[:, step] + raw[:, self.median]
        return torch.stack(outputs, dim=1).unflatten(0, context.shape[:2])

    def _step(self, seen: Tensor, hidden: Tensor, gates: Tensor) -> Tensor:
        """One GRU step whose gates also see the context."""
        inputs = (F.linear(seen, self.cell.weight_ih, self.cell.bias_ih) + gates).chunk(3, dim=-1)
        recurrent = F.linear(hidden, self.cell.weight_hh, self.cell.bias_hh).chunk(3, dim=-1)
        reset, update = torch.sigmoid(inputs[0] + recurrent[0]), torch.sigmoid(inputs[1] + recurrent[1])
        new = torch.tanh(inputs[2] + reset * recurrent[2])
        return new + update * (hidden - new)
