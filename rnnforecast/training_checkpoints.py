"""A training on disk: what is needed to go on after it was stopped, written whole or not at all."""

import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor

from rnnforecast import __version__
from rnnforecast.config import Candidate, Parts, Training
from rnnforecast.fitted import FittedError
from rnnforecast.panel import Panel
from rnnforecast.task import Task
from rnnforecast.windows import Split

BEST, LAST = "best.ckpt", "last.ckpt"
FREE = ("max_seconds", "accelerator")  # may be others when a training goes on: they change none of its steps

log = logging.getLogger(__name__)


class Keeper(Checkpoint):
    """Writes two files at each validation: the weights that did best so far (or the last ones, where the validation
    is of what was learned), and all that the next step needs.

    The best weights come first, and each file appears under its name when it is complete: killed at any moment, a
    training goes on from the validation before and comes to the same end.
    """

    def __init__(self, folder: Path, about: dict[str, str], *, takes_best: bool = True) -> None:
        self.folder, self.about, self.takes_best = folder, about, takes_best
        self.rate = 0.0
        self.best: float | None = None

    def kept(self) -> "Kept | None":
        """What the folder holds of this training; None where it holds nothing.

        Raises FittedError where it holds another one.
        """
        kept = _read(self.folder)
        if kept is None or kept.about == self.about:
            return kept
        names = [name for name in self.about | kept.about if self.about.get(name) != kept.about.get(name)]
        differ = ", ".join(f"{name} {kept.about.get(name)} (now {self.about.get(name)})" for name in names)
        raise FittedError(
            f"{self.folder}: holds the checkpoints of another training: {differ}; choose another folder, or remove it"
        )

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        stopping: Any = trainer.early_stopping_callback
        if stopping is not None and stopping.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True  # it had come to its end when it was killed

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True  # Lightning validates then, so that the last steps count too

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        loss = float(trainer.callback_metrics["val_loss"].nan_to_num(torch.inf))
        if self.best is None or loss < self.best or not self.takes_best:
            self.best = loss
            self._write(trainer, BEST)
        self._write(trainer, LAST)

    def _write(self, trainer: pl.Trainer, name: str) -> None:
        draft = self.folder / f".{name}"
        trainer.save_checkpoint(draft)  # by all processes, the first of which writes
        if trainer.is_global_zero:
            draft.replace(self.folder / name)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "about": self.about, "rate": self.rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


class Kept(NamedTuple):
    """What a folder holds of a training."""

    weights: dict[str, Tensor]  # of the network, where it validated best
    best: float  # the loss there
    history: list[dict[str, float]]
    steps: int  # so many were made
    rate: float  # the learning rate, which may have been found
    about: dict[str, str]


def _read(folder: Path) -> Kept | None:
    """What lies in `folder`; None where there is nothing that can be read. Raises FittedError on files of others."""
    if not (folder / LAST).exists():
        return None
    try:
        best, last = (torch.load(folder / name, map_location="cpu", weights_only=True) for name in (BEST, LAST))
    except Exception as error:  # whatever a torn file makes torch raise; the training begins anew then
        log.warning("%s: cannot be read (%s): the training begins anew", folder, str(error).splitlines()[0])
        return None
    if "Keeper" not in last["callbacks"]:
        raise FittedError(f"{folder}: {LAST} is not of rnnforecast; choose another folder for the checkpoints")
    prefix = "network."
    weights = {name.removeprefix(prefix): part for name, part in best["state_dict"].items() if name.startswith(prefix)}
    keeper, recorder = last["callbacks"]["Keeper"], last["callbacks"]["Recorder"]
    steps = int(last["global_step"])
    return Kept(weights, keeper["best"], recorder["rows"], steps, keeper["rate"], keeper["about"])


def identity(task: Task, candidate: Candidate, panel: Panel, parts: Split, *, training: Training) -> dict[str, str]:
    """All that decides what a training comes to, by name."""
    chosen = {
        **task.to_dict(),
        **candidate.model_dump(include=set(Parts.model_fields)),
        **training.model_dump(exclude=set(FREE)),
    }
    found = {"version": __version__, "observations": _digest(panel, parts)}
    return {name: str(value) for name, value in chosen.items()} | found


def _digest(panel: Panel, parts: Split) -> str:
    """A short name for the observations and how they are divided."""
    found = hashlib.sha256(repr((panel.series_ids, str(panel.frequency), panel.channels)).encode())
    tensors = (panel.offsets, panel.starts, panel.values, panel.mask, panel.past, panel.known, panel.static)
    for tensor in (*tensors, parts.train_end, parts.valid_end):
        found.update(tensor.contiguous().view(-1).numpy().view(np.uint8).data)  # as it lies, without a copy
    return found.hexdigest()[:12]
