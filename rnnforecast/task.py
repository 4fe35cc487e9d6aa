"""What is forecast: horizon, quantiles, grid, seasons, covariates. Saved with every model, so that a long frame
always becomes the panel that the model was trained on."""

from dataclasses import asdict, dataclass
from typing import Any

from rnnforecast.config import TaskSettings
from rnnforecast.frame_rows import Frame
from rnnforecast.frequency import Frequency
from rnnforecast.panel import Panel
from rnnforecast.panel_layout import Layout
from rnnforecast.seasons import calendar_periods, resolve


@dataclass(frozen=True)
class Task:
    """The forecasting task, with everything that was `auto` found from the data."""

    horizon: int
    quantile_levels: tuple[float, ...]
    frequency: Frequency
    seasons: tuple[int, ...]  # in steps, shortest first; (1,) is none
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    resample: str = "none"
    periods: tuple[float, ...] = ()  # calendar cycles in steps that the data has seen often enough
    static: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()  # series forecast together, see Panel

    @property
    def season_length(self) -> int:
        """The shortest season: what MASE and the seasonal naive forecast count in."""
        return self.seasons[0]

    @classmethod
    def of(cls, settings: TaskSettings, frame: Frame) -> tuple["Task", Panel]:
        """The task of a pipeline's settings on these observations, and their panel. Raises FrameError."""
        layout: dict[str, Any] = {
            "past": settings.past_covariates,
            "known": settings.known_covariates,
            "static": settings.static_covariates,
            "channels": settings.channels,
            "resample": settings.resample,
        }
        panel = Panel.from_frame(frame, settings.frequency, **layout)
        task = cls(
            horizon=settings.horizon,
            quantile_levels=settings.quantile_levels,
            frequency=panel.frequency,
            seasons=resolve(panel, settings.season_length),
            periods=calendar_periods(panel) if settings.calendar else (),
            **layout,
        )
        return task, panel

    def panel(self, frame: Frame) -> Panel:
        """A long frame as the panel that this task's models read. Raises FrameError."""
        return Panel.of(self.layout(frame))

    def layout(self, frame: Frame) -> Layout:
        """Where the series of a long frame lie in that panel, which can be made in parts. Raises FrameError."""
        return Layout.of(
            frame,
            self.frequency,
            past=self.past,
            known=self.known,
            static=self.static,
            channels=self.channels,
            resample=self.resample,
        )

    def reads_like(self, other: "Task") -> bool:
        """Whether both make the same panel of a frame."""
        names = ("frequency", "past", "known", "static", "channels", "resample")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a model's config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Task":
        """The task that `to_dict` wrote."""
        lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
        return cls(**{**data, **lists, "frequency": Frequency(**data["frequency"])})
