"""A thrown ball in a room: its next positions, both coordinates forecast together, in throws never seen.

Gravity pulls it down, floor, walls and ceiling throw it back with a loss, and the camera is a little off. Channels
`x` and `y` share one state: a wall that is near matters to both. Compared: the last position, and flying straight on.
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch
import typer
from matplotlib.figure import Figure

from rnnforecast import Forecaster

HORIZON, STEPS, NOISE, BOUNCE = 15, 120, 0.004, 0.85
UNITS = {"scaling": "standard", "season_length": 1, "lags": (2, 3)}


def throws(count: int, seed: int) -> np.ndarray:
    """Positions [count, STEPS, 2] in a room of 1 by 1, as the camera sees them."""
    random = np.random.default_rng(seed)
    place, speed = random.uniform(0.2, 0.8, (count, 2)), random.uniform(-0.05, 0.05, (count, 2))
    seen = []
    for _ in range(STEPS):
        speed[:, 1] -= 0.002
        place = place + speed
        over = np.clip(place, 0, 1) - place
        speed = np.where(over != 0, -BOUNCE * speed, speed)
        place = place + 2 * over
        seen.append(place + random.normal(0, NOISE, place.shape))
    return np.stack(seen, axis=1)


def frame(paths: np.ndarray, name: str) -> pl.DataFrame:
    """Paths [count, steps, 2] as a long frame of series `name0/x`, `name0/y`, ..."""
    count, steps, _ = paths.shape
    series = [f"{name}{throw:03d}/{axis}" for throw in range(count) for axis in "xy"]
    values = paths.transpose(0, 2, 1).ravel()
    ids, times = np.repeat(series, steps), np.tile(np.arange(steps), 2 * count)
    return pl.DataFrame({"series_id": ids, "timestamp": times, "target": values})


def main(small: bool = False, out: Path = Path(__file__).parent / "figures") -> dict[str, float]:
    train, test, cut = throws(40 if small else 400, 1), throws(40, 2), 80
    steps = {"max_steps": 100 if small else 1500, "segment_length": 100, "patience": 20}
    model = Forecaster(HORIZON, channels=["x", "y"], cell="lstm", frequency="1i", **UNITS, **steps)
    model.fit(frame(train, "train"))
    cutoffs = list(range(40, STEPS - HORIZON, 5))
    found = model.backtest(frame(test, "new"), cutoffs=cutoffs)
    ours = found["q0.5"].to_numpy().reshape(len(test), 2, len(cutoffs), HORIZON)
    seen, ahead = test.transpose(0, 2, 1), np.arange(1, HORIZON + 1)
    last, before = (seen[:, :, np.array(cutoffs) - back, None] for back in (0, 1))
    actual = seen[:, :, np.array(cutoffs)[:, None] + ahead]
    straight = last + (last - before) * ahead
    forecasts = {"rnnforecast": ours, "last position": last.repeat(HORIZON, axis=3), "straight on": straight}
    errors = {name: float(np.abs(each - actual).mean()) for name, each in forecasts.items()}
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    row = cutoffs.index(cut)
    for throw, axis in enumerate(figure.subplots(1, 3, sharey=True)):
        axis.plot(*test[throw, cut - 25 : cut + 1].T, ".-", color="0.6", label="seen")
        axis.plot(*actual[throw, :, row], ".", color="0.2", label="what came")
        axis.plot(*ours[throw, :, row], color="C1", label="forecast")
        axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal")
    axis.legend(fontsize=7)
    figure.savefig(out / "ball.png", dpi=90)
    print({name: round(value, 4) for name, value in errors.items()}, f"camera noise: {NOISE}")
    return errors


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
