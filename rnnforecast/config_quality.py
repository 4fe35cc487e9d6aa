"""What a reading must be like: the checks of the pipeline file."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rnnforecast.config_section import Section


class Check(Section):
    """What all checks have in common."""

    column: str = Field("target", description="Which column is checked: target or a covariate.")
    series: str = Field("*", description="Glob of the series that it is for.")
    action: Literal["quarantine", "report"] = Field(
        "quarantine", description="What becomes of rows that fail: out of the table, or only told."
    )


class RangeCheck(Check):
    """A reading lies between two limits, both included."""

    check: Literal["range"] = "range"
    min: float | None = Field(None, description="Lowest value; absent: no limit.")
    max: float | None = Field(None, description="Highest value; absent: no limit.")

    @model_validator(mode="after")
    def _limits(self) -> "RangeCheck":
        if self.min is None and self.max is None:
            raise ValueError("range: give `min:` or `max:` or both; a range without limits checks nothing")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"range: min {self.min:g} is above max {self.max:g}: no reading lies there; swap them")
        return self


class SpikeCheck(Check):
    """A reading lies near the last ones: within `deviations` of their robust standard deviations from the median.

    The robust standard deviation is their interquartile range / 1.35 (an eighth of their whole range at least). Too
    few readings (less than half a window), equal ones, and ones long past judge nothing, so that a new level is taken
    once the old one is two windows old.
    """

    check: Literal["spike"] = "spike"
    window: int = Field(48, ge=5, le=10_000, description="How many of the last readings taken it is compared with.")
    deviations: float = Field(8.0, gt=0, description="Distance from their median in robust standard deviations.")


class FrozenCheck(Check):
    """A sensor does not repeat one value longer than `steps` readings."""

    check: Literal["frozen"] = "frozen"
    steps: int = Field(24, ge=2, le=10_000, description="Equal readings in a row that are still taken.")


class SentinelCheck(Check):
    """A reading is none of these constants, which stand for no reading."""

    check: Literal["sentinel"] = "sentinel"
    values: tuple[float, ...] = Field((-999.0, -9999.0, -9.99, -99.99), min_length=1, description="The constants.")


AnyCheck = Annotated[RangeCheck | SpikeCheck | FrozenCheck | SentinelCheck, Field(discriminator="check")]
