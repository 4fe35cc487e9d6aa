"""The cliff: a network of one unit that shall say 0.7 after 50 steps, and why gradients are clipped.

The unit is h_t = tanh(w h_(t-1) + b) from h_0 = 0.5. Its error over (w, b) is two plateaus and a wall between them,
where the gradient explodes (Pascanu et al. 2013): one step from there leaves for good, unless it is clipped.
"""

from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor

from rnnforecast.nn import Recurrence

STEPS, BEGIN, TARGET, RATE, CLIP = 50, 0.5, 0.7, 0.1, 1.0


def errors(weight: Tensor, bias: Tensor) -> Tensor:
    """The squared error after 50 steps of every unit of a whole surface, by the formula."""
    hidden = torch.full_like(weight, BEGIN)
    for _ in range(STEPS):
        hidden = torch.tanh(weight * hidden + bias)
    return (hidden - TARGET) ** 2


def descend(weight: float, bias: float, *, clip: float, updates: int) -> Tensor:
    """Gradient descent of the library's recurrence: weight, bias, error, gradient norm of each update, [updates, 4]."""
    unit, path = Recurrence(1, 1, cell="rnn").double(), []
    for parameter, value in zip(unit.parameters(), (0.0, weight, 0.0, bias), strict=True):
        torch.nn.init.constant_(parameter, value)
    trained = [unit.layers[0].weight_hh_l0, unit.layers[0].bias_hh_l0]
    optimiser = torch.optim.SGD(trained, RATE)
    for _ in range(updates):
        begin = (torch.full((1, 1, 1), BEGIN).double(), torch.zeros(1, 1, 0).double())
        error = (unit(torch.zeros(1, STEPS, 1).double(), begin)[0][0, -1, 0] - TARGET) ** 2
        optimiser.zero_grad()
        error.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, clip)
        path.append([*(parameter.item() for parameter in trained), error.item(), norm.item()])
        optimiser.step()
    return torch.tensor(path)


def arrive(clip: float, *, density: int, updates: int) -> float:
    """Share of the starts on a grid (w in 0.5 to 5, b in -3 to 1) that end within 0.05 of the target."""
    places = torch.cartesian_prod(torch.linspace(0.5, 5, density).double(), torch.linspace(-3, 1, density).double())
    for _ in range(updates):
        (slope,) = torch.autograd.grad(errors(*places.requires_grad_().T).sum(), places)
        places = (places - RATE * slope * (clip / (slope.norm(dim=1, keepdim=True) + 1e-12)).clamp(max=1)).detach()
    return (errors(*places.T) < 0.05**2).double().mean().item()


def main(small: bool = False, out: Path = Path(__file__).parent / "figures") -> dict[str, float]:
    """Save the figure in the folder `out`, print and return what was found; `small` is a quick run."""
    density, updates = (21, 100) if small else (46, 300)
    figure, found = Figure(figsize=(9, 3.8), layout="constrained"), {}
    left, right = figure.subplots(1, 2)
    grid = torch.meshgrid(torch.linspace(0.5, 4, 351).double(), torch.linspace(-2, 4, 601).double(), indexing="ij")
    surface = left.pcolormesh(*grid, errors(*grid).clamp(1e-4).log10(), rasterized=True)
    figure.colorbar(surface, label="log10 of the squared error")
    for name, clip, colour in (("not clipped", 1e12, "red"), ("clipped at norm 1", CLIP, "white")):
        path = descend(1.8, -0.5, clip=clip, updates=updates)
        left.plot(path[:, 0], path[:, 1], ".-", color=colour, markersize=3, linewidth=0.8, label=name)
        right.semilogy(path[:, 3].clamp(1e-12), color="red" if clip > CLIP else "black", label=name)
        found[f"{name}: error"], found[f"{name}: largest norm"] = path[-1, 2].item(), path[:, 3].max().item()
        found[f"{name}: arrive"] = arrive(clip, density=density, updates=updates)
        print(f"{name}: largest gradient norm {path[:, 3].max():.0f}, ends with the error {path[-1, 2]:.3f}", end="; ")
        print(f"of a grid of starts {found[f'{name}: arrive']:.1%} arrive")
    left.set(xlabel="weight w", ylabel="bias b", title="error after 50 steps, and two descents")
    right.set(xlabel="update", ylabel="gradient norm, before clipping")
    left.legend(facecolor="grey", loc="upper left"), right.legend(loc="upper right")
    figure.savefig(out / "cliff.png", dpi=90)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1), torch.set_flush_denormal(True)  # gradients that vanish are slow numbers, too
    typer.run(main)
