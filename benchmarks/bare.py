"""The bare loop that windowed trainers are measured by: `nn.LSTM` or `nn.GRU`, and a linear layer over windows."""

import time

import torch
from torch import Tensor, nn

from benchmarks import series
from benchmarks.rounds import Side

UNCOUNTED = 3  # the first steps


def bare(steps: int, threads: int, *, flush: bool, cell: str) -> Side:
    """Windows learned from per second; `flush`: numbers too small to be normal are zero, as our training has it."""
    torch.set_flush_denormal(flush)
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    told = torch.from_numpy(series.values())
    told = (told - told.mean(dim=1, keepdim=True)) / told.std(dim=1, keepdim=True)
    network = Bare(cell)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    offset = torch.arange(series.CONTEXT + series.HORIZON)

    def step() -> None:
        which = torch.randint(len(told), (series.WINDOWS, 1))
        start = torch.randint(series.STEPS - len(offset) + 1, (series.WINDOWS, 1))
        windows = told[which, start + offset]
        past, future = windows.split([series.CONTEXT, series.HORIZON], dim=1)
        loss = (network(past[..., None]) - future).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def side() -> dict[str, float]:
        for _ in range(UNCOUNTED):
            step()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        seconds = (time.perf_counter() - started) / steps
        return {"seconds": seconds, "per second": series.WINDOWS / seconds}

    return side


class Bare(nn.Module):
    """Windows [B, T, 1] to forecasts [B, H]."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.recurrence = kind(1, series.HIDDEN, batch_first=True)
        self.linear = nn.Linear(series.HIDDEN, series.HORIZON)

    def forward(self, windows: Tensor) -> Tensor:
        outputs, _ = self.recurrence(windows)
        forecast: Tensor = self.linear(outputs[:, -1])
        return forecast
