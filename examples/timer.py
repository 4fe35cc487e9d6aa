"""Jaeger's timer: on a pulse, say 0.5 for as many steps as the pulse asked, then 0 again (after Jaeger 2002).

The pulse lasts one step and carries the duration, 0.1 to 1.0 of 100 steps; the network must hold it and count. An LSTM
learns to (Hochreiter and Schmidhuber 1997); how far does a vanilla recurrence come with the same training?
"""

from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor, nn

from rnnforecast.nn import Recurrence, initialise

NETWORKS = {
    "LSTM": ("lstm", "default"),
    "vanilla": ("rnn", "default"),
    "vanilla, orthogonal start": ("rnn", "orthogonal"),
}


def draw(lanes: int, unit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [B, T, 2] (pulse, duration), the answer [B, T], the length of each answer in steps [B]."""
    lane, step = torch.arange(lanes), torch.arange(int(unit * 1.5))
    duration, start = torch.rand(lanes) * 0.9 + 0.1, torch.randint(0, unit // 5, (lanes,))
    inputs = torch.zeros(lanes, len(step), 2)
    inputs[lane, start] = torch.stack([torch.ones(lanes), duration], 1)
    length = (duration * unit).round()
    return inputs, 0.5 * ((step >= start[:, None]) & (step < (start + length)[:, None])), length


def train(cell: str, init: str, *, unit: int, updates: int) -> nn.ModuleList:
    """The recurrence and its read-out after so many updates."""
    recurrence, readout = Recurrence(2, 32, cell=cell), nn.Linear(32, 1)
    initialise(recurrence, init, forget_bias=1.0)
    network = nn.ModuleList([recurrence, readout])
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for _ in range(updates):
        inputs, answer, _ = draw(32, unit)
        loss = (readout(recurrence(inputs)[0])[..., 0] - answer).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network


def main(small: bool = False, out: Path = Path(__file__).parent / "figures") -> dict[str, float]:
    """Save the figure in the folder `out`, print and return what was found; `small` is a quick run."""
    unit, updates, seeds = (50, 300, 1) if small else (100, 1500, 3)
    torch.manual_seed(9)
    inputs, answer, length = draw(300, unit)
    figure, found = Figure(figsize=(9, 5), layout="constrained"), {}
    for (name, (cell, init)), panel in zip(NETWORKS.items(), figure.subplots(3, 1, sharex=True), strict=True):
        runs = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            recurrence, readout = train(cell, init, unit=unit, updates=updates)
            with torch.no_grad():
                output = readout(recurrence(inputs)[0])[..., 0]
            runs.append((((output > 0.25).sum(1) - length).abs().mean().item(), output))
        error, output = min(runs, key=lambda run: run[0])
        found[name] = sum(run[0] for run in runs) / seeds
        for lane, colour in zip(length.argsort()[[20, 110, 200, 290]], ("C0", "C1", "C2", "C3"), strict=True):
            panel.plot(answer[lane], ":", color=colour)
            panel.plot(output[lane], color=colour)
        each = ", ".join(f"{run[0]:.1f}" for run in runs)
        panel.set(ylabel="output", title=f"{name}, its best training: {error:.1f} steps wrong on average")
        print(f"{name}: the length is wrong by {each} steps on average per training (of {length.mean():.0f})")
    panel.set_xlabel("step (dotted: what was asked)")
    figure.savefig(out / "timer.png", dpi=80)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1), torch.set_flush_denormal(True)  # gradients that vanish are slow numbers, too
    typer.run(main)
