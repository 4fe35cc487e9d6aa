"""Train a network: segments in, the best weights on the validation span out."""

import math
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, RichProgressBar, WeightAveraging
from torch.utils.data import DataLoader

from rnnforecast.allocator import keep_memory
from rnnforecast.batches import Segment, Spans, TrainingSegments
from rnnforecast.config import Candidate, Training
from rnnforecast.denormals import flushed
from rnnforecast.fitted import FittedError
from rnnforecast.learner import Learner
from rnnforecast.learner_weighting import error_units
from rnnforecast.nn.committee import Committee
from rnnforecast.nn.network import Network
from rnnforecast.nn.shape import NetworkConfig
from rnnforecast.panel import Panel
from rnnforecast.recurrent import RecurrentModel, network_config, require_positive
from rnnforecast.task import Task
from rnnforecast.training_callbacks import Patience, Quiet, Recorder, average, interruptible
from rnnforecast.training_checkpoints import LAST, Keeper, identity
from rnnforecast.training_linear import solve
from rnnforecast.training_rate import find_rate
from rnnforecast.training_statistics import calibrate, standardise
from rnnforecast.windows import Split, WindowError

SEGMENT_SEASONS = 3  # auto segment: so many of the longest season ...
SEGMENT_BOUNDS = (128, 512)  # ... within these steps
VALIDATION_LANES = 256
BATCH_BOUNDS = (8, 32)
WINDOWS = 128  # of a window model, per training step
SMALLEST_GAIN = 1e-4  # in spreads: what a validation must gain to count


@dataclass(frozen=True)
class Trained:
    """A trained network and how it came about: one row of history per logged step."""

    model: RecurrentModel
    history: list[dict[str, float]]
    best_validation: float


def fit(
    task: Task,
    candidate: Candidate,
    panel: Panel,
    parts: Split,
    *,
    training: Training,
    progress: bool = True,
    checkpoints: Path | None = None,
) -> Trained:
    """Train `candidate` on the training span of `panel`, stop early on its validation span, return the best weights;
    or, without a `holdout`, train on both for as many steps as are set, and return the last ones.

    Deterministic on one machine: the same panel, settings and seed give the same weights. `checkpoints`: a folder
    that keeps the training at each validation; one that was interrupted goes on from there, to the same weights.
    Raises FittedError where the target has no logarithm, where `checkpoints` holds another training, and where no
    validation loss was finite; WindowError where no series has a validation span.
    """
    training = candidate.trained_by(training)
    if training.members > 1:
        each = partial(fit, task, candidate, panel, parts, progress=progress)
        return _members(each, training, checkpoints)
    require_positive(panel, candidate.transform)
    keep_memory()
    pl.seed_everything(training.seed, verbose=False)
    config = network_config(task, candidate, entities=len(panel) // panel.channels)
    network = Network(config)
    standardise(network, panel, parts.train_end if training.holdout else parts.valid_end)
    model = RecurrentModel(task, candidate, network, entities=panel.entities)
    steps = segment_length(config, parts, training)
    learned = parts.train_end if training.holdout else parts.valid_end
    units = None if training.weighting == "scale" else error_units(panel, learned, task.season_length)
    spans = Spans(panel, learned, model.codes(panel), task.horizon, network.memory, units)
    place = nullcontext(str(checkpoints)) if checkpoints else tempfile.TemporaryDirectory(prefix="rnnforecast-")
    with place as folder, Quiet(), interruptible(), flushed():
        about = identity(task, candidate, panel, parts, training=training) if checkpoints else {}  # reads every value
        recorder, keeper = Recorder(), Keeper(Path(folder), about, takes_best=training.holdout)
        kept = keeper.kept()
        trainer = _trainer(training, [recorder, keeper], progress=progress)
        if training.devices == 1:  # resident on the one device; several take their batches from the main memory
            spans = spans.to(trainer.strategy.root_device)
        checked = validation(spans, parts, 0 if config.window else steps)  # a window needs no run-up
        if not kept:
            device = spans.end.device
            known = replace(spans, end=parts.train_end.to(device))  # judged by what they were not solved from
            solve(network.to(device), known, checked, weighting=training.weighting)
        lanes = batch_size(config, parts, training, steps)
        carry = 0.0 if config.window else training.carry  # a window carries nothing: drawn anew each time
        # Several devices have each a network of its own, and these batches lie in the main memory.
        windows_of = network if config.window and training.devices == 1 else None
        stream = TrainingSegments(spans, steps=steps, lanes=lanes, carry=carry, seed=training.seed, network=windows_of)
        if kept:
            keeper.rate, stream.skip = kept.rate, kept.steps
        elif training.learning_rate == "auto":
            keeper.rate = find_rate(network, training, stream)
            recorder.rows.append({"step": 0.0, "found_learning_rate": keeper.rate})
        else:
            keeper.rate = training.learning_rate
        trainer.fit(
            Learner(network.train(), training.model_copy(update={"learning_rate": keeper.rate})),
            stream,
            DataLoader(checked, batch_size=None),  # type: ignore[arg-type]
            ckpt_path=str(keeper.folder / LAST) if kept else None,
            weights_only=True,
        )
        kept = keeper.kept()
    assert kept is not None  # Lightning has validated once at least
    if not math.isfinite(kept.best):
        raise FittedError(
            f"{candidate.label}: the training diverged, no validation loss was finite; choose a smaller learning_rate "
            "(auto finds one) or gradient_clip_val"
        )
    network.cpu().load_state_dict(kept.weights)
    calibrate(network, [_on_cpu(batch) for batch in checked])
    return Trained(RecurrentModel(task, candidate, network, entities=panel.entities), kept.history, kept.best)


def _members(each: Callable[..., Trained], training: Training, checkpoints: Path | None) -> Trained:
    """Train the members of a committee one after the other, and seat them."""
    found = []
    for number in range(training.members):
        alone = training.model_copy(update={"members": 1, "seed": training.seed + number})
        folder = None if checkpoints is None else checkpoints / f"member-{number}"
        found.append(each(training=alone, checkpoints=folder))
    before = [number * training.max_steps for number in range(len(found))]  # one member's steps after the other's
    history = [{**row, "step": row["step"] + n} for n, one in zip(before, found, strict=True) for row in one.history]
    model = found[0].model
    committee = Committee([one.model.network for one in found])
    whole = RecurrentModel(model.task, model.candidate, committee, entities=model.entities)
    return Trained(whole, history, sum(one.best_validation for one in found) / len(found))


def segment_length(config: NetworkConfig, parts: Split, training: Training) -> int:
    """Steps of a training segment; auto: three longest seasons within 128 to 512, no more than the longest series.

    A window model has one: each of its lanes is a window.
    """
    if config.window:
        return 1
    if training.segment_length != "auto":
        return training.segment_length
    low, high = SEGMENT_BOUNDS
    wanted = min(max(SEGMENT_SEASONS * max(config.seasons), low), high)
    return max(2, min(wanted, int(parts.train_end.max())))


def batch_size(config: NetworkConfig, parts: Split, training: Training, steps: int) -> int:
    """Segments per training step; auto: as many as the training span holds side by side, within 8 to 32."""
    if training.batch_size != "auto":
        return training.batch_size
    if config.window:
        return WINDOWS
    low, high = BATCH_BOUNDS
    return min(max(int(parts.train_end.clamp(min=0).sum()) // steps, low), high)


def validation(spans: Spans, parts: Split, run_up: int) -> list[Segment]:
    """The validation span of every series that has one, after a run-up of some steps that bears no loss.

    Raises WindowError where there is none.
    """
    device = spans.end.device
    upto = replace(spans, end=parts.valid_end.to(device))
    train_end, valid_end = replace(spans, end=parts.train_end.to(device)).lane_end, upto.lane_end
    has_span = torch.nonzero(valid_end >= train_end.clamp(min=1) + spans.horizon)[:, 0]
    if not len(has_span):
        raise WindowError(
            f"backtest: no series has {spans.horizon} steps (the horizon) between the end of training and the test "
            "span; shorten the horizon, validation_steps or test_steps, or leave out series that ended long ago"
        )
    longest = int((valid_end - train_end)[has_span].max())
    batches = []
    for entity in has_span.split(VALIDATION_LANES):
        start = train_end[entity] - 1 - run_up
        batch = upto.segment(entity, start, steps=run_up + longest)
        inside = torch.arange(run_up + longest, device=device) >= run_up
        batches.append(batch._replace(first=inside.expand(len(entity), -1)))
    return batches


def _trainer(training: Training, watching: list[Callback], *, progress: bool) -> pl.Trainer:
    callbacks = [*watching]
    if training.holdout:
        callbacks.append(Patience("val_loss", min_delta=SMALLEST_GAIN, patience=training.patience))
    if training.ema_decay:
        callbacks.append(WeightAveraging(multi_avg_fn=average(training.ema_decay)))
    if progress:
        callbacks.append(RichProgressBar(leave=True))
    several: dict[str, Any] = {"strategy": "ddp_spawn", "use_distributed_sampler": False}
    return pl.Trainer(
        max_steps=training.max_steps,
        max_time=timedelta(seconds=training.max_seconds) if training.max_seconds else None,
        gradient_clip_val=training.gradient_clip_val,
        gradient_clip_algorithm=training.gradient_clip_algorithm,
        accelerator=training.accelerator,
        devices=training.devices,
        precision=training.precision,
        val_check_interval=min(training.validate_every, training.max_steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        **(several if training.devices > 1 else {}),
    )


def _on_cpu(batch: Any) -> Any:
    """A batch (tensors in tuples) on the CPU."""
    if batch is None or isinstance(batch, torch.Tensor):
        return batch if batch is None else batch.cpu()
    return type(batch)(*(_on_cpu(part) for part in batch))
