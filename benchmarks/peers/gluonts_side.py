"""GluonTS: training windows per second of DeepAR."""

import tempfile
from collections.abc import Callable

import pandas as pd
from common import QUIET, UNCOUNTED, Clock, prepare, series
from gluonts.dataset.common import ListDataset
from gluonts.torch import DeepAREstimator

Side = Callable[[], dict[str, float]]


def training(steps: int, *, flush: bool = False) -> Side:
    """A DeepAR of one layer of the size of ours with one lag; windows that are trained on, per second."""
    prepare(flush=flush)
    start = pd.Period(series.START, freq="h")
    told = ListDataset([{"start": start, "target": each} for each in series.values()], freq="h")

    def side() -> dict[str, float]:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:  # Lightning keeps the best weights there
            trainer = {**QUIET, "max_epochs": 1, "callbacks": [clock], "default_root_dir": folder}
            DeepAREstimator(
                freq="h",
                prediction_length=series.HORIZON,
                context_length=series.CONTEXT,
                num_layers=1,
                hidden_size=series.HIDDEN,
                dropout_rate=0.0,
                lr=1e-3,
                lags_seq=[1],
                batch_size=series.WINDOWS,
                num_batches_per_epoch=steps + UNCOUNTED,
                trainer_kwargs=trainer,
            ).train(told)
        return clock.figures()

    return side
