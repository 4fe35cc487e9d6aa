"""The parts of the pipeline file, each a frozen model whose fields document their keys."""

import math
from typing import Literal

from pydantic import Field, field_validator

from rnnforecast.config_section import Section


class Training(Section):
    """How the networks are trained."""

    max_steps: int = Field(500, ge=1, description="Optimiser steps at most.")
    max_seconds: float | None = Field(None, gt=0, description="Wall-clock limit for one network; absent: none.")
    batch_size: int | Literal["auto"] = Field("auto", description="Segments per step; auto: 8 to 32, by the data.")
    segment_length: int | Literal["auto"] = Field(
        "auto", description="Steps of one segment: gradients go back this far, the state goes on."
    )
    cutoffs_per_segment: int | Literal["auto"] = Field(
        "auto", description="Steps of a segment that are forecast from and bear a loss; auto: by the network."
    )
    learning_rate: float | Literal["auto"] = Field(
        4e-3, description="Peak of the one-cycle schedule; auto: found by a range test (Smith 2017)."
    )
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's.")
    gradient_clip_val: float = Field(1.0, gt=0, description="Largest gradient norm (or entry, by value).")
    gradient_clip_algorithm: Literal["norm", "value"] = Field("norm", description="What is clipped.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Exponential average of the weights; 0: none.")
    carry: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of segments that start from the state carried there; 1: each lane goes through its series "
        "to the end, `segment_length` steps at a time (truncated back-propagation through time).",
    )
    validate_every: int = Field(25, ge=1, description="Optimiser steps between validations.")
    patience: int = Field(
        8, ge=1, description="Validations without a gain before training stops, counted from half of `max_steps` on."
    )
    holdout: bool = Field(
        True,
        description="Keep the validation span from learning, and stop early by it; false: learn from it too, all "
        "`max_steps`, and take the last weights.",
    )
    members: int = Field(1, ge=1, le=100, description="Networks trained from as many seeds; their mean is forecast.")
    weighting: Literal["scale", "level", "season", "both", "spread"] = Field(
        "scale",
        description="What an error counts in: units of scaling, of the value it misses (as sMAPE), of the seasonal "
        "naive's error in its series (as MASE does), half of each, or of its series' spread (as standardised values).",
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="`auto`: a GPU where there is one.")
    devices: int = Field(1, ge=1, description="GPUs (or processes) that train one network side by side.")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="Lightning's precision.")
    seed: int = Field(1, ge=0, description="Seed of weights and batches.")

    @field_validator("batch_size", "segment_length", "cutoffs_per_segment", "learning_rate")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and not 0 < value < math.inf:
            raise ValueError(f"expected a number above 0, or auto; found {value}")
        return value


class Backtest(Section):
    """How candidates are compared: rolling origin over the last part of every series."""

    test_steps: int | Literal["auto"] = Field(
        "auto",
        description="Last steps, seen by no training; auto: 3 horizons, more where series are few or a season is "
        "longer, as far as the length of the series allows.",
    )
    validation_steps: int | Literal["auto"] = Field("auto", description="Steps before them, for early stopping.")
    stride: int | Literal["auto"] = Field("auto", description="Steps between cutoffs; auto: half a horizon.")
    metric: Literal["mase", "wql", "both", "mae", "rmse", "smape"] = Field(
        "mase", description="What the champion is best in; both: the geometric mean of MASE and WQL."
    )


class Schedules(Section):
    """Cron lines (UTC) for `rnnforecast serve`; a job without one is deployed but not scheduled."""

    ingest: str | None = Field(None, description="Cron of the ingest job, such as '5 * * * *'.")
    retrain: str | None = Field(None, description="Cron of the retrain job.")
    forecast: str | None = Field(None, description="Cron of the forecast job.")
    upkeep: str | None = Field(None, description="Cron of the upkeep job.")

    @field_validator("ingest", "retrain", "forecast", "upkeep")
    @classmethod
    def _five_fields(cls, value: str | None) -> str | None:
        if value is not None and len(value.split()) != 5:
            raise ValueError(f"expected a cron line of five fields, such as '0 6 * * 1'; found {value!r}")
        return value


class Storage(Section):
    """Where things live; relative paths count from the pipeline's project."""

    lake: str = Field("data/lake", description="Root of the Delta tables; an object store URL works too.")
    keep_days: int = Field(30, ge=1, description="Upkeep keeps all versions of so many days, and those of models.")
    reports: str = Field("data/reports", description="Folder of the report pages.")
    checkpoints: str = Field("data/checkpoints", description="Folder of the training's checkpoints.")
    mlflow: str = Field("mlflow/mlflow.db", description="SQLite file, or the URL of an MLflow server or database.")
    artifacts: str = Field("mlflow/artifacts", description="MLflow's artifacts, where no server decides it.")
    options: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Object store options (keys, endpoint); secrets as ${NAME}."
    )
