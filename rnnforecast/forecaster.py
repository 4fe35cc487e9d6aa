"""Recurrent forecasters from Python: choose the parts, fit a long frame, forecast, backtest, save, load."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch

from rnnforecast import backtest, windows
from rnnforecast.columns import CUTOFF, SERIES_ID, TIMESTAMP
from rnnforecast.config import Candidate, ConfigError, TaskSettings, Training, checked, nearest, refusals_of_task
from rnnforecast.fitted import FittedError
from rnnforecast.forecast import forecast, forecast_file, require_known
from rnnforecast.frame import FrameError
from rnnforecast.inspection import attention_weights
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.recurrent import RecurrentModel
from rnnforecast.stream import Stream
from rnnforecast.task import Task

SECTIONS: tuple[type, ...] = (TaskSettings, Candidate, Training)


class Forecaster:
    """A recurrent forecaster, put together from parts.

    >>> model = Forecaster(horizon=48, cell="gru", decoder="attention", head="student_t", max_steps=300)
    >>> model.fit(frame)              # doctest: +SKIP
    >>> model.forecast(frame)         # doctest: +SKIP

    Every choice is a keyword: those of the task (`quantile_levels`, `frequency`, `season_length`, `known_covariates`,
    `channels`, ...), of the network (`cell`, `decoder`, `head`, `scaling`, ...; `model="segrnn"` takes a preset) and of
    its training (`max_steps`, `learning_rate`, `gradient_clip_val`, ...): `rnnforecast models` and `rnnforecast schema`
    list them. Frames are long: series_id, timestamp, target and covariates. Raises ConfigError on a wrong word, naming
    the nearest right one, and on parts that do not go together, saying why.
    """

    def __init__(self, horizon: int, **choices: Any) -> None:
        given = {"horizon": horizon, "model": choices.get("cell", "gru"), **choices}
        parts: list[dict[str, Any]] = [{} for _ in SECTIONS]
        for name, value in given.items():
            home = next((place for place, section in enumerate(SECTIONS) if name in section.model_fields), None)  # type: ignore[attr-defined]
            if home is None:
                known = [field for section in SECTIONS for field in section.model_fields]  # type: ignore[attr-defined]
                raise ConfigError(f"Forecaster: unknown choice `{name}`{nearest(name, known)}")
            parts[home][name] = value
        self.settings: TaskSettings = checked(TaskSettings, parts[0])
        self.candidate: Candidate = checked(Candidate, parts[1])
        self.training: Training = checked(Training, parts[2])
        if not self.candidate.is_network:
            raise ConfigError(
                f"Forecaster: `model: {self.candidate.model}` is a {self.candidate.kind}; choose a recurrent model"
            )
        refused = refusals_of_task(self.candidate, self.settings.static_covariates)
        if refused:
            raise ConfigError("\n".join(refused))
        self._model: RecurrentModel | None = None
        self.history: list[dict[str, float]] = []

    def fit(
        self,
        frame: pl.DataFrame,
        *,
        validation_steps: int | Literal["auto"] = "auto",
        checkpoints: str | Path | None = None,
        progress: bool = False,
    ) -> "Forecaster":
        """Train on a long frame; its last `validation_steps` (auto: those of a pipeline) decide when to stop.

        `checkpoints`: a folder; a fit that was interrupted goes on from what it left there. Raises FrameError,
        WindowError, FittedError; ConfigError where the parts do not go with how they are trained.
        """
        refused = self.candidate.refusals_of_training(self.training)
        if refused:
            raise ConfigError("\n".join(refused))
        from rnnforecast import training  # Lightning takes seconds to import, and forecasting needs none of it

        task, panel = Task.of(self.settings, frame)
        _, steps = windows.spans(
            panel,
            task.horizon,
            season=task.seasons[-1],
            test_steps=task.horizon,
            validation_steps=validation_steps,
        )
        trained = training.fit(
            task,
            self.candidate,
            panel,
            windows.split(panel, 0, steps),
            training=self.training,
            progress=progress,
            checkpoints=None if checkpoints is None else Path(checkpoints),
        )
        self._model, self.history = trained.model, trained.history
        return self

    def forecast(
        self, frame: pl.DataFrame, *, horizon: int | None = None, quantile_levels: Sequence[float] | None = None
    ) -> pl.DataFrame:
        """Forecast every series of a long frame from its last reading, series never seen before included.

        Returns series_id, cutoff, timestamp, step, mean, q0.1, ...; `horizon` and `quantile_levels` may ask for
        less than was trained. Raises FrameError, ForecastError.
        """
        return forecast(self.model, frame, horizon=horizon, quantile_levels=quantile_levels)

    def forecast_file(
        self,
        source: str | Path | pl.LazyFrame,
        target: str | Path,
        *,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
    ) -> int:
        """Forecast every series of Parquet files into a Parquet file, a group of series at a time, so that neither need
        fit the memory; returns the rows written. See `rnnforecast.forecast.forecast_file`."""
        return forecast_file(self.model, source, target, horizon=horizon, quantile_levels=quantile_levels)

    def backtest(
        self, frame: pl.DataFrame, *, cutoffs: pl.DataFrame | Sequence[datetime | int] | Literal["all"] | None = None
    ) -> pl.DataFrame:
        """Forecast from many cutoffs in one pass, each seeing nothing after it; the actual value as `target`.

        `cutoffs`: timestamps for all series, or a frame of series_id and cutoff, or "all" steps; absent: rolling
        origins, half a horizon apart, over the last three horizons. Raises FrameError, ForecastError.
        """
        panel = self.model.task.panel(frame)
        places = self._cutoffs(panel, cutoffs)
        require_known(panel, self.model.task.horizon, places)
        return backtest.run(self.model, panel, places, label=self.candidate.label).scored

    def stream(self, frame: pl.DataFrame, *, lateness: int | None = None) -> Stream:
        """Follow the series of a long frame from here on: new rows in, forecasts out, one step of the recurrence each.

        Rows may come late by up to `lateness` steps, by default a horizon. Raises FrameError, StreamError.
        """
        return Stream.start(self.model, frame, lateness=lateness)

    def attention(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What the attention decoder looks at when it forecasts from the last readings.

        Returns series_id, cutoff, step, timestamp (of a step that was read) and weight, which sums to 1 for each step.
        Raises FittedError where the decoder is another one.
        """
        panel = self.model.task.panel(frame)
        return attention_weights(self.model, panel, panel.last)

    @property
    def model(self) -> RecurrentModel:
        """The fitted model, as the pipeline registers it. Raises FittedError before `fit`."""
        if self._model is None:
            raise FittedError("Forecaster: not fitted yet; call fit(frame) first, or Forecaster.load(folder)")
        return self._model

    def save(self, folder: str | Path) -> None:
        """Write the fitted model into a folder: weights as safetensors, settings as JSON, no pickle."""
        self.model.save(Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> "Forecaster":
        """The forecaster that `save` wrote, or a candidate that a pipeline kept."""
        model = RecurrentModel.load(Path(folder))
        task = model.task
        loaded = cls(
            task.horizon,
            quantile_levels=task.quantile_levels,
            frequency=str(task.frequency),
            season_length=task.seasons,
            past_covariates=task.past,
            known_covariates=task.known,
            static_covariates=task.static,
            channels=task.channels,
            resample=task.resample,
            **model.candidate.model_dump(),
        )
        loaded._model = model
        return loaded

    def _cutoffs(self, panel: Panel, asked: Any) -> Cutoffs:
        """What was asked for as places in the panel: those that stand between a series' first and last reading."""
        horizon, lengths = self.model.task.horizon, panel.lengths
        if asked is None:
            last = torch.minimum(lengths, torch.tensor(windows.SPAN_IN_HORIZONS * horizon))
            return windows.rolling(lengths - last, lengths, horizon, windows.steps_between("auto", horizon))
        if isinstance(asked, str):
            series = torch.repeat_interleave(torch.arange(len(panel)), lengths)
            return Cutoffs(series, torch.cat([torch.arange(length) for length in lengths.tolist()]))
        if isinstance(asked, pl.DataFrame):
            wanted = asked.select(SERIES_ID, pl.col(CUTOFF).alias(TIMESTAMP))
        else:
            ids = pl.DataFrame({SERIES_ID: list(panel.series_ids)})
            wanted = ids.join(pl.DataFrame({TIMESTAMP: list(asked)}), how="cross")
        number = {name: place for place, name in enumerate(panel.series_ids)}
        unknown = set(wanted[SERIES_ID]) - set(number)
        if unknown:
            raise FrameError(f"cutoffs: series {sorted(unknown)[:5]} are not in the frame")
        moment = pl.col(TIMESTAMP) if panel.frequency.is_integer else pl.col(TIMESTAMP).cast(panel.dtype)
        ordinals = wanted.select(moment).select(panel.frequency.ordinal(TIMESTAMP)).to_series().to_torch()
        series = torch.tensor([number[name] for name in wanted[SERIES_ID]], dtype=torch.int64)
        position = ordinals - panel.starts[series]
        inside = (position >= 0) & (position < lengths[series])
        if not inside.any():
            raise FrameError(f"cutoffs: none of the {len(wanted)} stands between a series' first and last reading")
        return Cutoffs(series[inside], position[inside])
