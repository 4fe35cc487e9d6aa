"""What every fitted model is, network or baseline: something that forecasts from any cutoff of a panel."""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch

from rnnforecast.columns import CUTOFF, MEAN, SERIES_ID, STEP, TIMESTAMP, quantile
from rnnforecast.config import Candidate
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.task import Task

SETTINGS = "config.json"
FORMAT = 3  # of stored models: what was stored in another one would be read, and be wrong


class FittedError(ValueError):
    """A model that cannot be loaded, or not be used on this data; the message says what can be done."""


class FittedModel(Protocol):
    """A model ready to forecast, and to be stored without pickle."""

    task: Task
    candidate: Candidate

    def forecast_at(self, panel: Panel, cutoffs: Cutoffs) -> pl.DataFrame:
        """A forecast frame from each cutoff, seeing nothing after it."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model into `folder` (made if absent): config.json, and weights where there are any."""
        ...


def write_settings(folder: Path, task: Task, candidate: Candidate, **more: Any) -> None:
    """The part of a stored model that every kind has."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"format": FORMAT, "task": task.to_dict(), "candidate": candidate.model_dump(), **more}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def read_settings(folder: Path) -> tuple[Task, Candidate, dict[str, Any]]:
    """Task, candidate and whatever else `write_settings` was given. Raises FittedError on another format."""
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    if (found := settings.pop("format", 1)) != FORMAT:
        raise FittedError(
            f"{folder}: a model stored in format {found} by another version of rnnforecast; this one reads format "
            f"{FORMAT}: retrain"
        )
    task, candidate = Task.from_dict(settings.pop("task")), Candidate(**settings.pop("candidate"))
    return task, candidate, settings


def forecast_frame(
    panel: Panel, cutoffs: Cutoffs, means: np.ndarray, quantiles: np.ndarray, *, levels: tuple[float, ...]
) -> pl.DataFrame:
    """Numbers as a forecast frame, one row per cutoff and step, in the order of the cutoffs.

    means [M, H], quantiles [M, H, Q]; columns series_id, cutoff, timestamp, step, mean, q0.1, ...
    """
    horizon = means.shape[1]
    steps = np.arange(1, horizon + 1, dtype=np.int32)
    origin = panel.starts[cutoffs.series] + cutoffs.position  # [M] ordinals
    row = np.repeat(np.arange(len(origin), dtype=np.uint32), horizon)  # polars looks things up by numbers of this type
    values = {MEAN: means.reshape(-1)}
    values |= {quantile(level): quantiles[:, :, index].reshape(-1) for index, level in enumerate(levels)}
    names = pl.Series(panel.series_ids, dtype=pl.String).gather(cutoffs.series.numpy())
    each = pl.col("row")
    # In one select: polars makes the columns side by side.
    return pl.DataFrame({"row": row, **values}).select(
        pl.lit(names).gather(each).alias(SERIES_ID),
        pl.lit(panel.stamps(origin)).gather(each).alias(CUTOFF),
        panel.stamps(origin[:, None] + torch.from_numpy(steps)).alias(TIMESTAMP),
        pl.Series(STEP, np.tile(steps, len(origin))),
        pl.col(*values).cast(pl.Float64),
    )
