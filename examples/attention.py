"""What attention looks at: forecasts of a daily rhythm without lags and without naive forecasts to lean on.

The rhythm changes its shape from day to day and comes again two days later, so the answer stands 48 hours back and
nowhere in between: a decoder with attention (Bahdanau et al. 2015) can look it up there, and its weights say so.
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch
import typer
from matplotlib.figure import Figure

from rnnforecast import Forecaster

HORIZON, DAY, LENGTH, END = 12, 24, 64, 180
ALONE = {"base": "none", "lags": (), "scaling": "standard", "season_length": 1, "calendar": False}


def days(count: int, hours: int, seed: int) -> pl.DataFrame:
    """Series of two smooth random days in turn, each series its own, with a little noise."""
    random = np.random.default_rng(seed)
    waves = np.cos(2 * np.pi * np.arange(DAY) * np.arange(1, 5)[:, None] / DAY)
    both = np.concatenate([random.normal(size=(count, 4)) @ waves for _ in range(2)], axis=1)
    values = np.tile(both, hours // (2 * DAY) + 1)[:, :hours] + random.normal(0, 0.1, (count, hours))
    wide = pl.DataFrame(values.T, schema=[f"s{place:03d}" for place in range(count)]).with_row_index("timestamp")
    return wide.unpivot(index="timestamp", variable_name="series_id", value_name="target")


def main(small: bool = False, out: Path = Path(__file__).parent / "figures") -> dict[str, float]:
    steps = {"max_steps": 20 if small else 1500, "segment_length": 128, "batch_size": 16, "learning_rate": 4e-3}
    found, train, test = {}, days(40 if small else 300, 400, 1), days(30, END, 2)
    for decoder in ("seq2seq", "attention"):
        more = {"attention_length": LENGTH} if decoder == "attention" else {}
        model = Forecaster(HORIZON, frequency="1i", decoder=decoder, patience=50, **ALONE, **more, **steps).fit(train)
        scored = model.backtest(test, cutoffs=list(range(120, 168, 4)))
        found[decoder] = scored.select((pl.col("q0.5") - pl.col("target")).abs().mean()).item()
    weights = model.attention(test).with_columns(back=pl.col("cutoff") + pl.col("step") - pl.col("timestamp"))
    near = weights.filter(pl.col("back").is_between(46, 50))
    found["share 46 to 50 hours before"] = near["weight"].sum() / (30 * HORIZON)
    first, edge = pl.col("series_id") == "s000", END - LENGTH
    seen = test.filter(first & (pl.col("timestamp") >= edge))
    ahead, one = model.forecast(test).filter(first), weights.filter(first).sort("step", "timestamp")
    figure = Figure(figsize=(9, 4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.4])
    above.plot(seen["timestamp"], seen["target"], "0.5", ahead["timestamp"], ahead["q0.5"], "C1")
    above.set(xlim=(edge, END + HORIZON), ylabel="value")
    area = (edge - 0.5, END - 0.5, HORIZON + 0.5, 0.5)
    below.imshow(one["weight"].to_numpy().reshape(HORIZON, -1), aspect="auto", extent=area, cmap="magma_r")
    below.set(xlim=(edge, END + HORIZON), xlabel="hour, and which hour is looked at", ylabel="step ahead")
    figure.savefig(out / "attention.png", dpi=90)
    print({name: round(value, 3) for name, value in found.items()})
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
