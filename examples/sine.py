"""The sine wave from scratch: a vanilla recurrence in five lines of tensors, and the same from the library.

h_t = tanh(x_t U + h_{t-1} W + b), y_t = h_t V + c: trained to say the next value of noisy sines by back-propagation
through time, then left alone with its own output. Below it `Forecaster`, told to be that network and nothing more.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
import torch
from matplotlib.figure import Figure

from rnnforecast import Forecaster

HORIZON, UNITS = 100, 24


def waves(count: int, steps: int, seed: int) -> np.ndarray:
    """Sines of period 25 at random phases and amplitudes with a little noise, [count, steps]."""
    random = np.random.default_rng(seed)
    size, phase = random.uniform(0.5, 1, (count, 1)), random.uniform(0, 2 * np.pi, (count, 1))
    return size * np.sin(2 * np.pi * np.arange(steps) / 25 + phase) + random.normal(0, 0.03, (count, steps))


def recur(weights: list[torch.Tensor], x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the recurrence: x [B, 1], h [B, D] to the next value [B, 1] and state."""
    U, W, b, V, c = weights  # noqa: N806 - as in every lecture
    h = torch.tanh(x @ U + h @ W + b)
    return h @ V + c, h


def from_scratch(train: np.ndarray, known: np.ndarray, updates: int) -> np.ndarray:
    """Train on `train`, read `known` and go on alone for the horizon."""
    torch.manual_seed(0)
    shapes = [(1, UNITS), (UNITS, UNITS), (UNITS,), (UNITS, 1), (1,)]
    weights = [torch.nn.Parameter(torch.randn(shape) * 0.3) for shape in shapes]
    optimiser = torch.optim.Adam(weights, 3e-3)
    data = torch.tensor(train, dtype=torch.float32)[..., None]
    for _ in range(updates):
        h, loss = torch.zeros(len(data), UNITS), torch.zeros(())
        for t in range(data.shape[1] - 1):
            guess, h = recur(weights, data[:, t], h)
            loss = loss + (guess - data[:, t + 1]).square().mean() / data.shape[1]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
    with torch.no_grad():
        h = torch.zeros(len(known), UNITS)
        for value in torch.tensor(known, dtype=torch.float32).T:
            guess, h = recur(weights, value[:, None], h)
        path = [guess]
        while len(path) < HORIZON:
            guess, h = recur(weights, path[-1], h)
            path.append(guess)
    return torch.cat(path, dim=1).numpy()


def frame(values: np.ndarray) -> pl.DataFrame:
    """Waves [count, steps] as a long frame."""
    count, steps = values.shape
    names = np.repeat([f"wave{i:02d}" for i in range(count)], steps)
    return pl.DataFrame({"series_id": names, "timestamp": np.tile(np.arange(steps), count), "target": values.ravel()})


def main(small: bool, out: Path) -> dict[str, float]:
    updates = 60 if small else 600
    train, test = waves(32, 120, 1), waves(8, 120 + HORIZON, 2)
    known, after = test[:, :120], test[:, 120:]
    alone = from_scratch(train, known, updates)
    plain = {"cell": "rnn", "base": "none", "scaling": "none", "lags": (), "season_length": 1, "hidden_size": UNITS}
    model = Forecaster(HORIZON, head="point", loss="mse", frequency="1i", max_steps=updates, **plain)
    model.fit(frame(waves(32, 320, 1)))
    ours = model.forecast(frame(known))["mean"].to_numpy().reshape(8, HORIZON)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    errors = {}
    for axis, (name, path) in zip(axes, {"from scratch, fed with its own output": alone, "Forecaster, all steps at once": ours}.items(), strict=True):
        errors[name.split(",")[0]] = float(np.sqrt(np.mean((path - after) ** 2)))
        axis.plot(range(60, 120 + HORIZON), test[0, 60:], color="0.6")
        axis.plot(range(120, 120 + HORIZON), path[0], color="C1")
        axis.set_title(f"{name}: RMSE {errors[name.split(',')[0]]:.3f} over {HORIZON} steps", fontsize=9)
    figure.savefig(out / "sine.png", dpi=90)
    print({name: round(value, 3) for name, value in errors.items()}, "noise: 0.03; always 0: 0.54")
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a quick run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures", help="folder of the figure")
    main(**vars(parser.parse_args()))
