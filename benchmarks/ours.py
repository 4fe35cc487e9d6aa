"""Our network as the measurements of `training`, `overhead` and `gpu` train it: through the product's own `fit`."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from unittest.mock import patch

import polars as pl
import torch

from benchmarks import series
from rnnforecast import windows
from rnnforecast.batches import Segment
from rnnforecast.config import Training
from rnnforecast.forecaster import Forecaster
from rnnforecast.learner import Learner
from rnnforecast.nn.network import Encoding, Network
from rnnforecast.panel import Panel
from rnnforecast.task import Task
from rnnforecast.training import fit

# The network of the bare loop and of the peers: one LSTM layer of 64 that sees the value, a linear layer, L1.
PLAIN: Final = {"lags": (), "calendar": False, "base": "none", "head": "point", "loss": "mae"}
NETWORKS: Final[Mapping[str, Mapping[str, Any]]] = {"plain": PLAIN, "defaults": {}}
UNCOUNTED: Final = 3  # the first steps of a training
MODES: Final[Mapping[str, Mapping[str, Any]]] = {
    "one pass": {"batch_size": 64},
    "windowed": {"context_length": series.CONTEXT, "batch_size": series.WINDOWS},
}


class Fits:
    """Trainings of one network on the same panel: `fits(steps)` makes a whole one of so many steps."""

    def __init__(self, mode: str, network: str, frame: pl.DataFrame | None = None, **more: Any) -> None:
        choices = {"cell": "lstm", "hidden_size": series.HIDDEN, "season_length": (24, 168)}
        choices |= {**NETWORKS[network], **MODES[mode], **more}
        self.forecaster = Forecaster(series.HORIZON, **choices)
        self.task: Task
        self.panel: Panel
        self.task, self.panel = Task.of(self.forecaster.settings, series.frame() if frame is None else frame)
        self.parts = windows.split(self.panel, 0, series.HORIZON)

    def __call__(self, steps: int) -> None:
        """Train for so many optimiser steps, with one validation at the end."""
        # Adam's rate stays at 1e-3 whatever the count is: the peak of the schedule.
        changed = {"max_steps": steps, "validate_every": steps, "learning_rate": 1e-3}
        training: Training = self.forecaster.training.model_copy(update=changed)
        fit(self.task, self.forecaster.candidate, self.panel, self.parts, training=training, progress=False)

    def seconds_per_step(self, steps: int) -> float:
        """Seconds of an optimiser step, without those of setting a training up: from the third step to the last."""
        begins: list[float] = []

        def step(learner: Learner, batch: Segment, number: int) -> torch.Tensor:
            begins.append(time.perf_counter())
            return was(learner, batch, number)

        was: Callable[..., torch.Tensor] = Learner.training_step
        with patch.object(Learner, "training_step", step):
            self(steps + UNCOUNTED + 1)
        return (begins[-1] - begins[UNCOUNTED]) / steps

    def cutoffs_per_step(self, steps: int = 12) -> float:
        """Cutoffs that bear a loss in one optimiser step, on average: behind the warm-up, with something to compare."""
        found: list[int] = []
        batches: list[Segment] = []

        def step(learner: Learner, batch: Segment, number: int) -> torch.Tensor:
            batches.append(batch)
            return was_step(learner, batch, number)

        def decode(network: Network, encoding: Encoding, at: torch.Tensor | None = None, **more: Any) -> Any:
            if network.training:
                batch, horizon = batches[-1], network.config.learned_horizon
                told = batch.target_mask.unfold(1, horizon, 1).any(dim=-1)[:, : batch.first.shape[1]]
                may = batch.first & told
                found.append(int((may if at is None else may.gather(1, at)).sum()))
            return was_decode(network, encoding, at, **more)

        was_step: Callable[..., torch.Tensor] = Learner.training_step
        was_decode: Callable[..., Any] = Network.decode
        with patch.object(Learner, "training_step", step), patch.object(Network, "decode", decode):
            self(steps)
        return sum(found) / len(found)
