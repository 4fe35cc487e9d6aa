"""The sine wave from scratch: h_t = tanh(x_t U + h_{t-1} W + b), y_t = h_t V + c, trained to say the next value by
back-propagation through time, then left alone with its own output; and the same network from the library.
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch
import typer
from matplotlib.figure import Figure

from rnnforecast import Forecaster

KNOWN, HORIZON, UNITS = 120, 100, 24
PLAIN = {"cell": "rnn", "base": "none", "scaling": "none", "lags": (), "season_length": 1, "hidden_size": UNITS}


def waves(count: int, steps: int, seed: int) -> np.ndarray:
    """Sines of period 25 at random phases and amplitudes with a little noise, [count, steps]."""
    random = np.random.default_rng(seed)
    size, phase = random.uniform(0.5, 1, (count, 1)), random.uniform(0, 25, (count, 1))
    return size * np.sin(2 * np.pi / 25 * (np.arange(steps) + phase)) + random.normal(0, 0.03, (count, steps))


def recur(weights: list[torch.Tensor], x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the recurrence: x [B, 1], h [B, D] to the next value [B, 1] and state."""
    U, W, b, V, c = weights  # noqa: N806 - as in every lecture
    h = torch.tanh(x @ U + h @ W + b)
    return h @ V + c, h


def from_scratch(train: np.ndarray, known: np.ndarray, updates: int) -> np.ndarray:
    """Train on `train` [B, T], read `known` and go on alone for the horizon: [B, H]."""
    random, shapes = torch.Generator().manual_seed(0), [(1, UNITS), (UNITS, UNITS), (UNITS,), (UNITS, 1), (1,)]
    weights = [torch.nn.Parameter(torch.randn(shape, generator=random) * 0.3) for shape in shapes]
    optimiser = torch.optim.Adam(weights, 3e-3)
    data, seen = (torch.tensor(each, dtype=torch.float32)[..., None] for each in (train, known))
    for _ in range(updates):
        h, loss = torch.zeros(len(data), UNITS), torch.zeros(())
        for t in range(data.shape[1] - 1):
            guess, h = recur(weights, data[:, t], h)
            loss = loss + (guess - data[:, t + 1]).square().mean() / data.shape[1]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
    path, h = [], torch.zeros(len(seen), UNITS)
    with torch.no_grad():
        for t in range(KNOWN + HORIZON - 1):
            guess, h = recur(weights, seen[:, t] if t < KNOWN else guess, h)
            path.append(guess)
    return torch.cat(path[KNOWN - 1 :], dim=1).numpy()


def long_frame(values: np.ndarray) -> pl.DataFrame:
    wide = pl.DataFrame(values.T, schema=[f"wave{wave:02d}" for wave in range(len(values))]).with_row_index("timestamp")
    return wide.unpivot(index="timestamp", variable_name="series_id", value_name="target")


def main(small: bool = False, out: Path = Path(__file__).parent / "figures") -> dict[str, float]:
    updates, test = 60 if small else 600, waves(8, KNOWN + HORIZON, 2)
    model = Forecaster(HORIZON, head="point", loss="mse", frequency="1i", max_steps=updates, **PLAIN)
    ours = model.fit(long_frame(waves(32, 320, 1))).forecast(long_frame(test[:, :KNOWN]))["mean"].to_numpy()
    alone = from_scratch(waves(32, KNOWN, 1), test[:, :KNOWN], updates)
    errors, axes = {}, (figure := Figure(figsize=(9, 4), layout="constrained")).subplots(2, 1, sharex=True)
    for axis, name, path in zip(axes, ("from scratch", "Forecaster"), (alone, ours.reshape(8, -1)), strict=True):
        errors[name] = float(np.sqrt(np.mean((path - test[:, KNOWN:]) ** 2)))
        axis.plot(range(KNOWN + HORIZON), test[0], "k:", range(KNOWN, KNOWN + HORIZON), path[0], "C1")
        axis.set_title(f"{name}: RMSE {errors[name]:.3f} over {HORIZON} steps", fontsize=9)
    figure.savefig(out / "sine.png", dpi=90)
    print({name: round(value, 3) for name, value in errors.items()}, "noise: 0.03; always 0: 0.54")
    return errors


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
