"""How well intervals and quantiles are forecast: the M4 competition's hourly series, and a transformer's hours."""

import time
from pathlib import Path
from typing import Any, Final

import polars as pl
import torch

from benchmarks.m4 import DECILES, LEVELS, OUTERMOST, hourly, rounded, scores, weighted_quantile_loss
from benchmarks.m4_hourly import fitted
from benchmarks.rounds import data_file, machine, options
from rnnforecast import Forecaster
from rnnforecast.columns import CUTOFF, MEDIAN, SERIES_ID, TARGET, TIMESTAMP, quantile

LEARNED, TESTED = 11_520, 14_400  # rows of ETTh1: training and validation, test
VALIDATION = 2_880  # rows of them, which end the training and correct the intervals
HORIZON, STRIDE, SEASON = 48, 24, 24
NAMES: Final = {"unique_id": SERIES_ID, "ds": TIMESTAMP, "y": TARGET}


def intervals(given: list[str]) -> dict[str, Any]:
    """MSIS and coverage of 95 % intervals on M4 Hourly (the competition's scores), weighted quantile losses there and
    on ETTh1 (seven series, a forecast of 48 hours from each day of the test span)."""
    parser = options("intervals", intervals.__doc__)
    parser.add_argument("--model", default="m4-hourly", help="preset, m4-hourly")
    parser.add_argument("--members", type=int, default=1, help="networks whose mean is forecast, 1")
    chosen = parser.parse_args(given)
    torch.set_num_threads(chosen.threads)
    train, test = hourly(chosen.data)
    began = time.perf_counter()
    forecast = fitted(train, model=chosen.model, members=chosen.members)
    seconds = {"seconds": round(time.perf_counter() - began)}
    done: dict[str, Any] = machine(chosen.threads)
    done[f"M4 Hourly, {chosen.model}"] = rounded(scores(forecast, train, test)) | seconds
    return done | ett(chosen.data, chosen.model, chosen.members)


def ett(folder: Path, model: str, members: int) -> dict[str, Any]:
    """The scores of the test span of ETTh1, with and without a correction on the validation span, and those of the
    seasonal naive's median."""
    frame = pl.read_parquet(data_file(folder, "parquet/ETTh1.parquet")).rename(NAMES).sort(SERIES_ID, TIMESTAMP)
    frame = frame.group_by(SERIES_ID, maintain_order=True).head(TESTED)
    done: dict[str, Any] = {}
    for label, conformal in ((f"ETTh1, {model}", False), (f"ETTh1, {model}, conformal", True)):
        began = time.perf_counter()
        scored = backtested(frame, model=model, members=members, conformal=conformal)
        low, high = (scored[quantile(level)] for level in OUTERMOST)
        found = {
            "WQL": weighted_quantile_loss(scored, list(DECILES)),
            "WQL of the median alone": weighted_quantile_loss(scored, [0.5]),
            "coverage": float(scored[TARGET].is_between(low, high).mean()),  # type: ignore[arg-type]
        }
        done[label] = rounded(found) | {"seconds": round(time.perf_counter() - began)}
    naive = {"WQL of the median alone": weighted_quantile_loss(seasonal_naive(frame, scored), [0.5])}
    return done | {"ETTh1, seasonal naive": rounded(naive)}


def backtested(frame: pl.DataFrame, **choices: Any) -> pl.DataFrame:
    """Forecasts of the test span by a network that learned from the rows before it.

    The values cross zero: no logarithm, and no errors relative to them. Sensors that stand still have units near 0,
    so errors count in the series' spread. The months forecast are not the next ones: the last weights are not the best.
    """
    stamps = frame[TIMESTAMP].unique().sort()
    own = {"transform": "none", "weighting": "spread", "max_steps": 800, "holdout": True, "validate_every": 50}
    forecaster = Forecaster(HORIZON, quantile_levels=LEVELS, **own, **choices)
    forecaster.fit(frame.filter(pl.col(TIMESTAMP) <= stamps[LEARNED - 1]), validation_steps=VALIDATION)
    return forecaster.backtest(frame, cutoffs=stamps[LEARNED - 1 : TESTED - HORIZON : STRIDE].to_list())


def seasonal_naive(frame: pl.DataFrame, scored: pl.DataFrame) -> pl.DataFrame:
    """The last day before each cutoff again, twice, beside what came."""
    hour = pl.duration(hours=1)
    ahead = (pl.col(TIMESTAMP) - pl.col(CUTOFF)).dt.total_hours()
    source = pl.col(TIMESTAMP) - hour * SEASON * ((ahead - 1) // SEASON + 1)
    values = frame.select(SERIES_ID, pl.col(TIMESTAMP).alias("source"), pl.col(TARGET).alias(MEDIAN))
    return scored.select(SERIES_ID, TARGET, source=source).join(values, on=[SERIES_ID, "source"])
