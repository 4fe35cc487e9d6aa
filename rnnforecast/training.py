"""Train a network: segments in, the best weights on the validation span out."""

import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar, WeightAveraging
from torch import Tensor
from torch.utils.data import DataLoader

from rnnforecast.allocator import keep_memory
from rnnforecast.batches import Segment, TrainingSegments, segment
from rnnforecast.config import Candidate, Training
from rnnforecast.forecaster import Forecaster
from rnnforecast.nn.network import Network
from rnnforecast.panel import Panel
from rnnforecast.recurrent import RecurrentModel, network_config
from rnnforecast.task import Task
from rnnforecast.windows import Split

SEGMENT_SEASONS = 3  # auto segment: so many of the longest season ...
SEGMENT_BOUNDS = (128, 512)  # ... within these steps
VALIDATION_LANES = 256
BATCH_BOUNDS = (8, 32)
SMALLEST_GAIN = 1e-4  # in spreads: what a validation must gain to count


@dataclass(frozen=True)
class Trained:
    """A trained network and how it came about: one row of history per logged step."""

    model: RecurrentModel
    history: list[dict[str, float]]
    best_validation: float


def fit(
    task: Task, candidate: Candidate, panel: Panel, parts: Split, *, training: Training, progress: bool = True
) -> Trained:
    """Train `candidate` on the training span of `panel`, stop early on its validation span, return the best weights.

    Deterministic on one machine: the same panel, settings and seed give the same weights.
    """
    keep_memory()
    pl.seed_everything(training.seed, verbose=False)
    network = Network(network_config(task, candidate))
    _standardise(network, panel, parts.train_end)
    forecaster = Forecaster(network, training)
    steps = segment_length(task, parts, training)
    with tempfile.TemporaryDirectory(prefix="rnnforecast-") as folder, _Quiet():
        recorder = _Recorder()
        best = ModelCheckpoint(folder, monitor="val_loss", mode="min", save_top_k=1)
        trainer = _trainer(training, [recorder, best], progress=progress)
        resident = panel.to(trainer.strategy.root_device)
        trainer.fit(
            forecaster,
            DataLoader(_segments(resident, parts, task, training, steps, network.memory), batch_size=None),
            DataLoader(_validation(resident, parts, task, steps, network.memory), batch_size=None),  # type: ignore[arg-type]
        )
        assert best.best_model_score is not None  # every training validates at least once
        stored = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)})
    return Trained(RecurrentModel(task, candidate, network), recorder.rows, best.best_model_score.item())


def segment_length(task: Task, parts: Split, training: Training) -> int:
    """Steps of a training segment; auto: three longest seasons within 128 to 512, no more than the longest series."""
    if training.segment_length != "auto":
        return training.segment_length
    low, high = SEGMENT_BOUNDS
    wanted = min(max(SEGMENT_SEASONS * max(task.seasons), low), high)
    return max(2, min(wanted, int(parts.train_end.max())))


def batch_size(parts: Split, training: Training, steps: int) -> int:
    """Segments per training step; auto: as many as the training span holds side by side, within 8 to 32."""
    if training.batch_size != "auto":
        return training.batch_size
    low, high = BATCH_BOUNDS
    return min(max(int(parts.train_end.clamp(min=0).sum()) // steps, low), high)


def _trainer(training: Training, callbacks: list[Callback], *, progress: bool) -> pl.Trainer:
    callbacks = [*callbacks, EarlyStopping("val_loss", min_delta=SMALLEST_GAIN, patience=training.patience)]
    if training.ema_decay:
        callbacks.append(WeightAveraging(avg_fn=_average(training.ema_decay)))
    if progress:
        callbacks.append(RichProgressBar(leave=True))
    return pl.Trainer(
        max_steps=training.max_steps,
        max_time=timedelta(seconds=training.max_seconds) if training.max_seconds else None,
        gradient_clip_val=training.gradient_clip_val,
        gradient_clip_algorithm=training.gradient_clip_algorithm,
        accelerator=training.accelerator,
        devices=1,
        precision=training.precision,
        val_check_interval=min(training.validate_every, training.max_steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
    )


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """An exponential average of the weights that forgets its first steps quickly, so that short trainings gain too."""

    def average(averaged: Tensor, current: Tensor, count: Tensor) -> Tensor:
        steps = float(count)
        return averaged.lerp(current, 1 - min(decay, (1 + steps) / (10 + steps)))

    return average


def _segments(panel: Panel, parts: Split, task: Task, training: Training, steps: int, memory: int) -> TrainingSegments:
    return TrainingSegments(
        panel,
        parts.train_end,
        steps=steps,
        horizon=task.horizon,
        memory=memory,
        lanes=batch_size(parts, training, steps),
        carry=training.carry,
        seed=training.seed,
    )


def _validation(panel: Panel, parts: Split, task: Task, steps: int, memory: int) -> list[Segment]:
    """The validation span of every series that has one, after a run-up of one segment that bears no loss."""
    has_span = torch.nonzero(parts.valid_end >= parts.train_end.clamp(min=1) + task.horizon)[:, 0]
    longest = int((parts.valid_end - parts.train_end)[has_span].max())
    batches = []
    for series in has_span.split(VALIDATION_LANES):
        start = parts.train_end[series] - 1 - steps
        total = steps + longest
        lanes = (series.to(panel.values.device), start.to(panel.values.device))
        batch = segment(
            panel, lanes, parts.valid_end.to(panel.values.device), steps=total, horizon=task.horizon, memory=memory
        )
        inside = torch.arange(total, device=panel.values.device) >= steps
        batches.append(batch._replace(first=inside.expand(len(series), -1)))
    return batches


def _standardise(network: Network, panel: Panel, train_end: Tensor) -> None:
    """Covariates in units of the training span's mean and deviation."""
    series, place = panel.places()
    inside = place < train_end[series]
    for name, values in (("past_stats", panel.past), ("known_stats", panel.known)):
        seen = values[inside]
        if seen.shape[1] == 0:
            continue
        mean = seen.nanmean(dim=0)
        spread = (seen - mean).square().nanmean(dim=0).sqrt()
        getattr(network, name).copy_(torch.stack([mean.nan_to_num(0.0), spread.nan_to_num(1.0).clamp(min=1e-6)]))


class _Recorder(Callback):
    """Keeps what was logged at each validation and every tenth step, for the registry."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step % 10 == 0 or trainer.global_step == 1:
            self._keep(trainer, "train_loss", "grad_norm")
            self.rows[-1]["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._keep(trainer, "val_loss")

    def _keep(self, trainer: pl.Trainer, *names: str) -> None:
        found = {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        self.rows.append({"step": float(trainer.global_step), **found})


class _Quiet:
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
