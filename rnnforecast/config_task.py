"""What is forecast: the keys of the pipeline file that describe the task, and the arguments of the same names."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from rnnforecast.config_section import Section
from rnnforecast.frequency import Frequency


class TaskSettings(Section):
    """The forecasting task as a user states it; `task.Task` is what it became on the data."""

    frequency: str = Field("auto", description="Step of the grid: 15m, 1h, 1d, 1bd (Monday to Friday), 1w, 1mo, 1i.")
    resample: Literal["none", "mean", "last", "sum"] = Field(
        "none", description="How readings off the grid are put on it; none: refused."
    )
    horizon: int = Field(ge=1, le=10_000, description="Steps to forecast.")
    season_length: int | tuple[int, ...] | Literal["auto"] = Field("auto", description="Season(s) in steps.")
    quantile_levels: tuple[float, ...] = Field((0.1, 0.5, 0.9), description="Quantiles to forecast, ascending.")
    past_covariates: tuple[str, ...] = Field((), description="Columns known up to the cutoff.")
    known_covariates: tuple[str, ...] = Field((), description="Columns known over the horizon too.")
    static_covariates: tuple[str, ...] = Field((), description="Numeric columns constant within a series.")
    calendar: bool = Field(True, description="Feed hour of day, day of week, day of year, where they apply.")
    channels: tuple[str, ...] = Field(
        (), description="Channels forecast together: series named ENTITY/CHANNEL, or CHANNEL alone, for each entity."
    )

    @field_validator("season_length", mode="after")
    @classmethod
    def _positive_seasons(cls, value: Any) -> Any:
        seasons = value if isinstance(value, tuple) else (value,)
        if value != "auto" and (not seasons or any(season < 1 for season in seasons)):
            raise ValueError(f"expected seasons of at least 1 step; found {value}")
        return value

    @field_validator("frequency")
    @classmethod
    def _known_frequency(cls, value: str) -> str:
        return value if value == "auto" else str(Frequency.parse(value))

    @field_validator("quantile_levels")
    @classmethod
    def _ascending_levels(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < level < 1 for level in value) or list(value) != sorted(set(value)):
            raise ValueError(f"expected ascending levels strictly between 0 and 1; found {list(value)}")
        if 0.5 not in value:
            raise ValueError(f"expected 0.5 (the median) among the levels; found {list(value)}")
        return value

    @field_validator("channels")
    @classmethod
    def _distinct_channels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value) or any(not name or "/" in name for name in value):
            raise ValueError(f"expected distinct names without a slash; found {list(value)}")
        return value

    @model_validator(mode="after")
    def _distinct_covariates(self) -> "TaskSettings":
        if len(set(self.covariates)) < len(self.covariates):
            raise ValueError(f"covariates: a column is declared twice in {list(self.covariates)}; once is enough")
        return self

    @property
    def covariates(self) -> tuple[str, ...]:
        """All covariate columns: past, static, known."""
        return self.past_covariates + self.static_covariates + self.known_covariates
