"""Vanishing gradients: how much of the last answer's gradient reaches the states of 200 steps before.

Measured at the start, and after learning to recall the first number: the decay of Bengio et al. (1994), and its cures,
LSTM (Hochreiter and Schmidhuber 1997), GRU (Cho et al. 2014), ReLU with identity start (Le et al. 2015).
"""

from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor, nn

from rnnforecast.nn import Recurrence, initialise

NETWORKS = {  # name: cell, activation, start of the recurrent weights, bias of the forget gate
    "tanh": ("rnn", "tanh", "default", 0.0),
    "ReLU, identity": ("rnn", "relu", "identity", 0.0),
    "GRU": ("gru", "tanh", "default", 0.0),
    "LSTM": ("lstm", "tanh", "default", 0.0),
    "LSTM, forget bias 1": ("lstm", "tanh", "default", 1.0),
}


def draw(lanes: int, steps: int) -> Tensor:
    """Inputs [B, T, 2]: noise in -1 to 1, and a mark on the first step, the one to recall."""
    inputs = torch.rand(lanes, steps, 2) * 2 - 1
    inputs[..., 1] = torch.arange(steps) == 0
    return inputs


def norms(recurrence: Recurrence, readout: nn.Linear, steps: int) -> Tensor:
    """|dOutput/dState_t| of t = 0 .. steps - 1, mean over lanes; the state of an LSTM is its hidden and cell units."""
    states, state = [], [part.requires_grad_() for part in recurrence.initial(16)]
    for reading in draw(16, steps).double().split(1, dim=1):
        states.append(torch.cat(list(state), -1))  # one tensor per step, so that one gradient holds all of it
        outputs, state = recurrence(reading, states[-1].split([part.shape[-1] for part in state], dim=-1))
    return torch.stack([slope.norm(dim=-1).mean() for slope in torch.autograd.grad(readout(outputs).sum(), states)])


def learn(recurrence: Recurrence, readout: nn.Linear, steps: int, updates: int) -> int:
    """Train to recall over ever more steps; returns how far it came."""
    optimiser, length, error = torch.optim.Adam([*recurrence.parameters(), *readout.parameters()], 3e-3), 10, 1.0
    while updates and not (length == steps and error < 0.01):
        if error < 0.01:
            length, error = min(steps, int(length * 1.3) + 1), 0.1
        inputs = draw(32, length)
        loss = (readout(recurrence(inputs)[0][:, -1])[:, 0] - inputs[:, 0, 0]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
        optimiser.step()
        error, updates = 0.9 * error + 0.1 * loss.item(), updates - 1
    return length


def main(small: bool = False, out: Path = Path(__file__).parent / "figures") -> dict[str, float]:
    """Save the figure in the folder `out`, print and return what was found; `small` is a quick run."""
    steps, updates = (40, 350) if small else (200, 3000)
    figure, found = Figure(figsize=(9, 3.8), layout="constrained"), {}
    panels = dict(zip(("at the start", "after learning to recall"), figure.subplots(1, 2, sharey=True), strict=True))
    for name, (cell, activation, init, forget_bias) in NETWORKS.items():
        torch.manual_seed(0)
        recurrence, readout = Recurrence(2, 32, cell=cell, activation=activation), nn.Linear(32, 1)
        initialise(recurrence, init, forget_bias=forget_bias)
        for (when, panel), budget in zip(panels.items(), (0, updates), strict=True):
            length = learn(recurrence.float(), readout.float(), steps, budget)
            size = norms(recurrence.double(), readout.double(), steps)
            panel.semilogy(size, label=f"{name} (came to {length} steps)" if budget else name)
            panel.set(xlabel="step t", ylabel="|d output / d state t|", title=when), panel.legend(fontsize=8)
            found[f"{name}: {when}"], found[f"{name}: came to"] = (size[0] / size[-1]).item(), length
            print(f"{name}: {when}, the first state's gradient is {size[0] / size[-1]:.0e} of the last one's")
        print(f"    its training came to {length} of {steps} steps")
    figure.savefig(out / "vanishing.png", dpi=90)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1), torch.set_flush_denormal(True)  # gradients that vanish are slow numbers, too
    typer.run(main)
