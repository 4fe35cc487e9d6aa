"""What is forecast: horizon, quantiles, grid, seasons, covariates. Saved with every model, so that a long frame
always becomes the panel that the model was trained on."""

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from rnnforecast.config import Pipeline
from rnnforecast.frequency import Frequency
from rnnforecast.panel import Panel
from rnnforecast.seasons import calendar_periods, resolve


@dataclass(frozen=True)
class Task:
    """The forecasting task, with everything that was `auto` found from the data."""

    horizon: int
    quantile_levels: tuple[float, ...]
    frequency: Frequency
    seasons: tuple[int, ...]  # in steps, shortest first; (1,) is none
    past: tuple[str, ...] = ()  # static covariates are past covariates that do not change
    known: tuple[str, ...] = ()
    resample: str = "none"
    periods: tuple[float, ...] = ()  # calendar cycles in steps that the data has seen often enough

    @property
    def season_length(self) -> int:
        """The shortest season: what MASE and the seasonal naive forecast count in."""
        return self.seasons[0]

    @classmethod
    def of(cls, pipeline: Pipeline, frame: pl.DataFrame) -> tuple["Task", Panel]:
        """The task of a pipeline on these observations, and their panel. Raises FrameError."""
        past = pipeline.past_covariates + pipeline.static_covariates
        panel = Panel.from_frame(
            frame, pipeline.frequency, past=past, known=pipeline.known_covariates, resample=pipeline.resample
        )
        task = cls(
            horizon=pipeline.horizon,
            quantile_levels=pipeline.quantile_levels,
            frequency=panel.frequency,
            seasons=resolve(panel, pipeline.season_length),
            past=past,
            known=pipeline.known_covariates,
            resample=pipeline.resample,
            periods=calendar_periods(panel) if pipeline.calendar else (),
        )
        return task, panel

    def panel(self, frame: pl.DataFrame) -> Panel:
        """A long frame as the panel that this task's models read. Raises FrameError."""
        return Panel.from_frame(frame, self.frequency, past=self.past, known=self.known, resample=self.resample)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a model's config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Task":
        """The task that `to_dict` wrote."""
        lists = {name: tuple(data[name]) for name in ("quantile_levels", "seasons", "periods", "past", "known")}
        return cls(**{**data, **lists, "frequency": Frequency(**data["frequency"])})
