"""What watches a training: the record of its metrics, its end, the average of its weights, quiet libraries."""

import logging
import math
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import Tensor

from rnnforecast.learner import recorded


class Recorder(Callback):
    """Keeps what was logged at each validation and every tenth step, for the registry; saved with checkpoints."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def setup(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if trainer.world_size > 1:
            Quiet().__enter__()  # in a process of its own, for as long as it lives

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if recorded(trainer.global_step):
            self._keep(trainer, "train_loss", "grad_norm")
            self.rows[-1]["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._keep(trainer, "val_loss")

    def _keep(self, trainer: pl.Trainer, *names: str) -> None:
        found = {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        self.rows.append({"step": float(trainer.global_step), **found})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class Patience(EarlyStopping):
    """Ends a training that gains no more, from the middle of its cycle on: while the learning rate is high, a loss
    may rise above that of the first steps, to fall far below it when the rate does. One that is no number ends it at
    any time."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        halfway = 2 * trainer.global_step >= trainer.max_steps
        if halfway or not math.isfinite(trainer.callback_metrics[self.monitor]):
            super().on_validation_end(trainer, pl_module)


def average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """An exponential average of the weights that forgets its first steps quickly, so that short trainings gain too."""
    return partial(_averaged, decay)  # of a function of the module: processes that train side by side pickle it


def _averaged(decay: float, averages: list[Tensor], currents: list[Tensor], count: Tensor) -> None:
    steps = float(count)
    torch._foreach_lerp_(averages, currents, 1 - min(decay, (1 + steps) / (10 + steps)))


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl+C is a KeyboardInterrupt, as anywhere: Lightning would end the interpreter and ignore it ever after."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):  # another reason to end, such as SIGTERM
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


class Quiet:
    """Lightning's advertisements and hints are not for our users; its errors are."""

    def __enter__(self) -> None:
        self.loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning")]
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error: Any) -> None:
        self.caught.__exit__(*error)
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
