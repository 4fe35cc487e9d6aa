"""The adding problem: two numbers of a long row are marked, say their sum at the end (Hochreiter and Schmidhuber 1997).

First with the whole gradient, then truncated: the state runs over all steps, the gradient over the last `reach` only.
One mark stands in the first half, one in the second. Who always says 1 errs by 1/6 (mean square).
"""

from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor, nn

from rnnforecast.nn import Recurrence, initialise

TRIALS = {  # name: cell, steps, reach, updates at most, grown (first `reach` steps, then ever more), only one mark
    "LSTM, 100 steps": ("lstm", 100, 100, 4000, False, False),
    "GRU, 100 steps": ("gru", 100, 100, 4000, False, False),
    "LSTM, 200 steps, reach 50": ("lstm", 200, 50, 4000, False, False),
    "LSTM, 200 steps, reach 50, one mark, out of reach": ("lstm", 200, 50, 4000, False, True),
    "LSTM, 400 steps": ("lstm", 400, 400, 4000, False, False),
    "GRU, 400 steps": ("gru", 400, 400, 4000, False, False),
    "LSTM, 2000 steps, reach 100": ("lstm", 2000, 100, 2000, False, False),
    "LSTM, 2000 steps, reach 100, grown": ("lstm", 2000, 100, 4000, True, False),
    "GRU, 2000 steps, reach 100, grown": ("gru", 2000, 100, 2000, True, False),
}


def draw(lanes: int, steps: int, first_only: bool) -> tuple[Tensor, Tensor]:
    """Inputs [B, T, 2] (number, mark) and the sum of the marked numbers [B]."""
    inputs, lane = torch.zeros(lanes, steps, 2), torch.arange(lanes)
    inputs[..., 0] = torch.rand(lanes, steps)
    inputs[lane, torch.randint(0, steps // 2, (lanes,)), 1] = 1.0
    inputs[lane, torch.randint(steps // 2, steps, (lanes,)), 1] = 0.0 if first_only else 1.0
    return inputs, inputs.prod(-1).sum(1)


def learn(cell: str, goal: int, reach: int, updates: int, grown: bool, first_only: bool) -> tuple[list[float], float]:
    """Train until it is solved; returns the running error of each update, and the error on 500 new rows."""
    torch.manual_seed(0)
    recurrence, readout = Recurrence(2, 32, cell=cell), nn.Linear(32, 1)
    initialise(recurrence, forget_bias=3.0)
    optimiser = torch.optim.Adam([*recurrence.parameters(), *readout.parameters()], 1e-2)
    curve, steps, mean = [], reach if grown else goal, 0.17
    while len(curve) < updates and not (steps == goal and mean < 0.003):
        if steps < goal and mean < 0.01:
            steps, mean = min(goal, steps * 3 // 2), 0.05
        inputs, answer = draw(32, steps, first_only)
        with torch.no_grad():  # these steps only carry the state on
            state = recurrence(inputs[:, :-reach])[1] if steps > reach else None
        loss = (readout(recurrence(inputs[:, -reach:], state)[0][:, -1])[:, 0] - answer).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
        optimiser.step()
        curve.append(mean := 0.95 * mean + 0.05 * loss.item())
    inputs, answer = draw(500, goal, first_only)
    return curve, (readout(recurrence(inputs)[0][:, -1])[:, 0] - answer).square().mean().item()


def main(small: bool = False, out: Path = Path(__file__).parent / "figures") -> dict[str, float]:
    """Save the figure in the folder `out`, print and return what was found; `small` is a quick run."""
    figure, found = Figure(figsize=(9, 4), layout="constrained"), {}
    panels = figure.subplots(1, 2, sharey=True)
    shorter, fewer = (10, 4) if small else (1, 1)
    for name, (cell, steps, reach, updates, *more) in list(TRIALS.items())[: 4 if small else None]:
        curve, found[name] = learn(cell, steps // shorter, reach // shorter, updates // fewer, *more)
        panels[int(reach < steps)].semilogy(curve, label=name, linewidth=0.8)
        print(f"{name}{', all a tenth' * small}: mean squared error {found[name]:.4f} after {len(curve)} updates")
    for panel, title in zip(panels, ("whole gradient", "truncated gradient"), strict=True):
        panel.axhline(1 / 6, color="black", linestyle=":"), panel.legend(fontsize=7, loc="lower left")
        panel.set(xlabel="update", ylabel="squared error (running mean)", title=title, ylim=(3e-4, 0.5))
    figure.savefig(out / "adding.png", dpi=90)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1), torch.set_flush_denormal(True)  # gradients that vanish are slow numbers, too
    typer.run(main)
