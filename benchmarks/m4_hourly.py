"""How well the networks forecast the M4 competition's hourly series, by its official scores."""

import time
from itertools import product
from typing import Any

import polars as pl
import torch

from benchmarks.m4 import HORIZON, LEVELS, SEASONS, hourly, rounded, scores, seasonal_naive
from benchmarks.rounds import machine, options
from rnnforecast import Forecaster


def m4_hourly(given: list[str]) -> dict[str, Any]:
    """Official sMAPE, MASE and OWA on the 48 steps after 414 series: one model, and the mean of several seeds."""
    parser = options("m4_hourly", m4_hourly.__doc__)
    parser.add_argument("--models", nargs="+", default=["m4-hourly"], help="presets, m4-hourly")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="seeds, 1")
    parser.add_argument("--members", nargs="+", type=int, default=[1], help="networks whose mean is forecast, 1")
    chosen = parser.parse_args(given)
    torch.set_num_threads(chosen.threads)
    train, test = hourly(chosen.data)
    done: dict[str, Any] = {
        **machine(chosen.threads),
        "seasonal naive": rounded(scores(seasonal_naive(train), train, test)),
    }
    for model, seed, members in product(chosen.models, chosen.seeds, chosen.members):
        began = time.perf_counter()
        forecast = fitted(train, model=model, seed=seed, members=members)
        seconds = round(time.perf_counter() - began)
        done[f"{model}, seed {seed}, members {members}"] = {
            **rounded(scores(forecast, train, test)),
            "seconds": seconds,
        }
    return done


def fitted(train: pl.DataFrame, **choices: Any) -> pl.DataFrame:
    """The forecast of a model that learned from `train` alone."""
    model = Forecaster(HORIZON, season_length=SEASONS, quantile_levels=LEVELS, **choices)
    return model.fit(train, validation_steps=HORIZON).forecast(train)
