"""darts: training windows per second, and `historical_forecasts` from many cutoffs."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from common import QUIET, UNCOUNTED, Clock, prepare, series
from darts import TimeSeries
from darts.models import BlockRNNModel

Side = Callable[[], dict[str, float]]


def training(steps: int, *, flush: bool = False) -> Side:
    """A BlockRNNModel of the size of ours; windows that are trained on, per second."""
    prepare(flush=flush)
    told = _series(series.values())

    def side() -> dict[str, float]:
        clock = Clock()
        _fitted(told, steps + UNCOUNTED, callbacks=[clock])
        return clock.figures()

    return side


def backtest(file: str, cutoffs: int, *, flush: bool = False) -> Side:
    """Forecasts from the last so many cutoffs of each series [S, T] of a .npy file; seconds and cutoffs per second."""
    prepare(flush=flush)
    told = _series(np.load(file))
    model = _fitted(_series(series.values(20)), 1)

    def side() -> dict[str, float]:
        started = time.perf_counter()
        found = model.historical_forecasts(
            told,
            forecast_horizon=series.HORIZON,
            start=-(cutoffs + series.HORIZON - 1),
            start_format="position",
            stride=1,
            retrain=False,
            last_points_only=False,
            verbose=False,
            predict_kwargs={"batch_size": 1_024},
        )
        seconds = time.perf_counter() - started
        count = sum(len(each) for each in found)
        assert count == cutoffs * len(told), f"{count} forecasts, not {cutoffs * len(told)}"
        return {"seconds": seconds, "per second": count / seconds}

    return side


def _fitted(told: list[TimeSeries], steps: int, **trainer: object) -> BlockRNNModel:
    model = BlockRNNModel(
        input_chunk_length=series.CONTEXT,
        output_chunk_length=series.HORIZON,
        model="LSTM",
        hidden_dim=series.HIDDEN,
        n_rnn_layers=1,
        batch_size=series.WINDOWS,
        n_epochs=1,
        loss_fn=torch.nn.L1Loss(),
        optimizer_kwargs={"lr": 1e-3},
        pl_trainer_kwargs={**QUIET, "limit_train_batches": steps, **trainer},
    )
    model.fit(told)
    return model


def _series(values: np.ndarray) -> list[TimeSeries]:
    moments = pd.date_range(series.START, periods=values.shape[1], freq="h")
    return [TimeSeries.from_times_and_values(moments, each.astype(np.float32)) for each in values]
