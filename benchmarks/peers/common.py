"""What the peers' sides share. Runs in the environment of a peer: nothing of ours is installed there."""

import importlib.util
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

_spec = importlib.util.spec_from_file_location("series", Path(__file__).resolve().parents[1] / "series.py")
assert _spec is not None
assert _spec.loader is not None
series: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(series)

UNCOUNTED = 3  # the first steps of a training
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}


class Clock(Callback):
    """Seconds of an optimiser step, without those of setting a training up: from the third step to the last."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def __deepcopy__(self, _: Any) -> "Clock":
        return self  # neuralforecast trains a copy

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    def figures(self) -> dict[str, float]:
        seconds = (self.ends[-1] - self.ends[UNCOUNTED - 1]) / (len(self.ends) - UNCOUNTED)
        return {"seconds": seconds, "per second": series.WINDOWS / seconds}


def prepare(*, flush: bool) -> None:
    """Quiet libraries, threads as OMP_NUM_THREADS says; `flush`: numbers too small to be normal are zero."""
    torch.set_flush_denormal(flush)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
