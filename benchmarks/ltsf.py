"""Long horizons: ETTh1 and ETTm1, by the protocol that SegRNN, PatchTST, DLinear and FITS are compared by.

Rows to 8,640 train, to 11,520 validation, to 14,400 test (times four for ETTm1); each of the seven channels a series of
its own, in units of its mean and deviation over the training rows; the last 720 steps are seen; squared and absolute
error, on average over every step of every window of the test rows, at every cutoff, none dropped.
"""

import time
from typing import Any, Final

import polars as pl
import torch

from benchmarks.rounds import data_file, machine, options
from rnnforecast import Forecaster
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.recurrent import RecurrentModel

HORIZONS: Final = (96, 192, 336, 720)
DAY: Final = {"ETTh1": 24, "ETTm1": 96}  # steps
DAYS: Final = (360, 120, 120)  # of training, validation, test
PUBLISHED: Final = {"ETTh1": (0.351, 0.392, 0.423, 0.466), "ETTm1": (0.293, 0.328, 0.357, 0.410)}  # SegRNN's
CHUNK: Final = 256  # cutoffs of each channel at once


def ltsf(given: list[str]) -> dict[str, Any]:
    """One network for the longest horizon of each data set, scored at all four; beside it its linear base alone."""
    parser = options("ltsf", ltsf.__doc__)
    parser.add_argument("--sets", nargs="+", choices=sorted(DAY), default=sorted(DAY))
    parser.add_argument("--steps", type=int, help="training steps; the preset's")
    parser.add_argument("--members", type=int, help="networks whose forecasts are averaged; the preset's")
    chosen = parser.parse_args(given)
    torch.set_num_threads(chosen.threads)
    done: dict[str, Any] = machine(chosen.threads)
    more = {"members": chosen.members, "max_steps": chosen.steps}
    more = {key: value for key, value in more.items() if value}
    for name in chosen.sets:
        frame = standardised(pl.read_parquet(data_file(chosen.data, f"parquet/{name}.parquet")), DAY[name])
        done[name] = {
            "SegRNN, published": dict(zip(map(str, HORIZONS), PUBLISHED[name], strict=True)),
            "linear base alone": scored(frame, DAY[name], members=1, max_steps=1, learning_rate=1e-12),
            "ltsf": scored(frame, DAY[name], **more),
        }
    return done


def standardised(frame: pl.DataFrame, day: int) -> pl.DataFrame:
    """The rows of the protocol as a long frame, each channel in units of its training rows: from unique_id, ds, y."""
    train, total = DAYS[0] * day, sum(DAYS) * day
    series = pl.col("unique_id")
    rows = frame.sort("unique_id", "ds").group_by("unique_id", maintain_order=True).head(total)
    first = pl.col("y").cast(pl.Float64).head(train)
    scaled = (pl.col("y") - first.mean().over(series)) / first.std(ddof=0).over(series)
    return rows.select(series.alias("series_id"), pl.col("ds").alias("timestamp"), scaled.alias("target"))


def scored(frame: pl.DataFrame, day: int, **choices: Any) -> dict[str, Any]:
    """Errors on the test rows of the preset, changed by `choices`; it never sees them while it learns."""
    train, validation, test = (days * day for days in DAYS)
    known = frame.group_by("series_id", maintain_order=True).head(train + validation)
    began = time.perf_counter()
    forecaster = Forecaster(
        max(HORIZONS), model="ltsf", season_length=day, calendar=False, quantile_levels=(0.5,), **choices
    ).fit(known, validation_steps=validation)
    trained = time.perf_counter()
    panel = forecaster.model.task.panel(frame)
    found = errors(forecaster.model, panel, train + validation, train + validation + test)
    mean = [sum(each) / len(found) for each in zip(*found.values(), strict=True)]
    rows = {str(horizon): pair for horizon, pair in found.items()} | {"mean": mean}
    return {
        **{
            horizon: {"MSE": round(squared, 4), "MAE": round(absolute, 4)}
            for horizon, (squared, absolute) in rows.items()
        },
        "training, s": round(trained - began),
        "scoring, s": round(time.perf_counter() - trained),
    }


def errors(
    model: RecurrentModel, panel: Panel, begin: int, end: int, *, stride: int = 1
) -> dict[int, tuple[float, float]]:
    """Mean squared and mean absolute error at each horizon: of all cutoffs (or one in `stride`) after which the whole
    horizon lies in the rows from `begin` to before `end` of every series."""
    longest = max(HORIZONS)
    sums = {horizon: torch.zeros(3, dtype=torch.float64) for horizon in HORIZONS}
    ahead = torch.arange(1, longest + 1)
    for places in torch.arange(begin - 1, end - min(HORIZONS), stride).split(CHUNK):
        cutoffs = Cutoffs(torch.arange(len(panel)).repeat_interleave(len(places)), places.repeat(len(panel)))
        steps = cutoffs.position[:, None] + ahead
        actual, read = panel.gather(panel.offsets[cutoffs.series][:, None] + steps, steps < end)
        missed = model.tensors_at(panel, cutoffs)[0] - actual
        for horizon, total in sums.items():
            whole = missed[read[:, horizon - 1], :horizon].double()
            total += torch.tensor([whole.square().sum(), whole.abs().sum(), whole.numel()])
    return {horizon: (float(a / count), float(b / count)) for horizon, (a, b, count) in sums.items()}
