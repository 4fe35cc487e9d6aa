"""neuralforecast: training windows per second, and a forecast after a new observation of every series."""

import time
from collections.abc import Callable

import pandas as pd
from common import QUIET, UNCOUNTED, Clock, prepare, series
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MAE
from neuralforecast.models import LSTM

Side = Callable[[], dict[str, float]]


def training(steps: int, *, flush: bool = False) -> Side:
    """An LSTM of the size of ours; windows that are trained on, per second."""
    prepare(flush=flush)
    frame = _frame(series.SERIES, series.STEPS)

    def side() -> dict[str, float]:
        clock = Clock()
        _fitted(frame, steps + UNCOUNTED, callbacks=[clock])
        return clock.figures()

    return side


def update(count: int) -> Side:
    """Seconds of `predict` for so many series, each of which has a window and one new observation."""
    prepare(flush=False)
    long = _frame(count, series.CONTEXT + 1)
    fitted = _fitted(_frame(32, series.STEPS), 1)

    def side() -> dict[str, float]:
        started = time.perf_counter()
        found = fitted.predict(df=long)
        seconds = time.perf_counter() - started
        assert len(found) == count * series.HORIZON
        return {"seconds": seconds, "per second": count / seconds}

    return side


def _fitted(frame: pd.DataFrame, steps: int, **trainer: object) -> NeuralForecast:
    model = LSTM(
        h=series.HORIZON,
        input_size=series.CONTEXT,
        encoder_n_layers=1,
        encoder_hidden_size=series.HIDDEN,
        decoder_layers=1,
        decoder_hidden_size=series.HIDDEN,
        loss=MAE(),
        learning_rate=1e-3,
        windows_batch_size=series.WINDOWS,
        max_steps=steps,
        **QUIET,
        **trainer,
    )
    forecaster = NeuralForecast(models=[model], freq="h")
    forecaster.fit(df=frame)
    return forecaster


def _frame(count: int, steps: int) -> pd.DataFrame:
    values = series.values(count, steps)
    names = [f"s{number:06}" for number in range(count)]
    moments = pd.date_range(series.START, periods=steps, freq="h")
    return pd.DataFrame(
        {
            "unique_id": pd.Series(names).repeat(steps).to_numpy(),
            "ds": list(moments) * count,
            "y": values.reshape(-1),
        }
    )
