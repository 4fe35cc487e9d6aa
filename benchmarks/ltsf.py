"""Long horizons: ETTh1 and ETTm1 by the protocol that SegRNN, PatchTST, DLinear and FITS are compared by.

Rows to 8,640 train, to 11,520 validation, to 14,400 test (times four for ETTm1); each of the seven channels a series of
its own, in units of its mean and deviation over the training rows; the last 720 steps are seen; mean squared and mean
absolute error over every step of every window of the test rows, at every cutoff, none dropped.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from rnnforecast import training, windows
from rnnforecast.config import Candidate, TaskSettings, Training
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.recurrent import RecurrentModel
from rnnforecast.task import Task

HORIZONS = (96, 192, 336, 720)
DAY = {"ETTh1": 24, "ETTm1": 96}  # steps
DAYS = (360, 120, 120)  # of training, validation, test
PUBLISHED = {  # mean squared error at each horizon, look-back 720 (FITS, PatchTST: at their best)
    "ETTh1": {"SegRNN": (0.351, 0.392, 0.423, 0.466), "DLinear": (0.384, 0.443, 0.446, 0.504)},
    "ETTm1": {"SegRNN": (0.293, 0.328, 0.357, 0.410), "DLinear": (0.301, 0.335, 0.371, 0.426)},
}
CHUNK = 256  # cutoffs of each channel that are held at once


def ltsf(given: Sequence[str]) -> dict[str, Any]:
    """Train one network for the longest horizon of each data set, and score it at all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ltsf", description=ltsf.__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with parquet/ETTh1.parquet")
    parser.add_argument("--sets", nargs="+", choices=sorted(DAY), default=sorted(DAY))
    parser.add_argument("--steps", type=int, help="training steps instead of the preset's")
    parser.add_argument("--seeds", type=int, default=1, help="networks whose forecasts are averaged")
    options = parser.parse_args(given)
    return {name: _measured(name, options) for name in options.sets}


def _measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    file = options.data / "parquet" / f"{name}.parquet"
    if not file.exists():
        return {"absent": str(file)}
    task, panel, parts = prepared(pl.read_parquet(file), DAY[name])
    settings = Training(seed=1)
    began = time.perf_counter()
    trained = training.fit(task, Candidate(model="segrnn"), panel, parts, training=settings, progress=False)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    found = score([trained.model], panel, parts.valid_end, parts.test_end)
    return told(found) | {"training_seconds": round(seconds), "scoring_seconds": round(time.perf_counter() - began)}


def prepared(frame: pl.DataFrame, day: int) -> tuple[Task, Panel, windows.Split]:
    """The task, the panel of standardised channels and the three spans of a raw frame (unique_id, ds, y)."""
    train, validation, test = (days * day for days in DAYS)
    total = train + validation + test
    series = pl.col("unique_id")
    rows = frame.sort("unique_id", "ds").filter(pl.col("ds").rank("ordinal").over(series) <= total)
    first = pl.col("y").cast(pl.Float64).head(train)
    scaled = (pl.col("y") - first.mean().over(series)) / first.std(ddof=0).over(series)
    long = rows.select(series.alias("series_id"), pl.col("ds").alias("timestamp"), scaled.alias("target"))
    settings = TaskSettings(horizon=max(HORIZONS), season_length=day, quantile_levels=(0.5,), calendar=False)
    task, panel = Task.of(settings, long)
    return task, panel, windows.split(panel, test, validation)


def score(
    models: Sequence[RecurrentModel], panel: Panel, begin: torch.Tensor, end: torch.Tensor, *, stride: int = 1
) -> dict[int, tuple[float, float]]:
    """Squared and absolute error at each horizon, of the mean of the models' forecasts at every cutoff (or one in
    `stride`) from which a whole horizon lies in the span from `begin` to `end` [S]."""
    sums = {horizon: torch.zeros(3, dtype=torch.float64) for horizon in HORIZONS}
    first, stop = int(begin.min()), int(end.min())
    ahead = torch.arange(1, max(HORIZONS) + 1)
    for places in torch.arange(first - 1, stop - min(HORIZONS), stride).split(CHUNK):
        cutoffs = Cutoffs(torch.arange(len(panel)).repeat_interleave(len(places)), places.repeat(len(panel)))
        forecast = torch.stack([model.tensors_at(panel, cutoffs)[0] for model in models]).mean(dim=0)
        inside = cutoffs.position[:, None] + ahead < stop
        rows = panel.offsets[cutoffs.series][:, None] + cutoffs.position[:, None] + ahead
        missed = forecast - panel.gather(rows, inside)[0]
        for horizon, total in sums.items():
            whole = missed[inside[:, horizon - 1], :horizon].double()
            total += torch.stack([whole.square().sum(), whole.abs().sum(), torch.tensor(whole.numel())])
    return {horizon: (float(s / count), float(a / count)) for horizon, (s, a, count) in sums.items()}


def told(found: dict[int, tuple[float, float]]) -> dict[str, Any]:
    """Errors by horizon, and their means."""
    mean = [sum(errors) / len(found) for errors in zip(*found.values(), strict=True)]
    rows = {str(horizon): errors for horizon, errors in found.items()} | {"mean": mean}
    return {horizon: {"mse": round(mse, 4), "mae": round(mae, 4)} for horizon, (mse, mae) in rows.items()}
