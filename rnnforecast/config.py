"""The pipeline file: one YAML per pipeline, as frozen models.

`load(path)` reads, checks and returns a `Pipeline`. Every key is documented by its field; an unknown
key is refused with the nearest right name. `${NAME}` in any value is taken from the environment, and
only the text as written (never the secret) is kept for the records.
"""

import difflib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from rnnforecast.frequency import Frequency

ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
NULL_VALUES = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "-")
NETWORKS = ("gru", "lstm", "seq2seq")
BASELINES = ("naive", "seasonal_naive", "auto_ets", "auto_theta")

Model = Literal["naive", "seasonal_naive", "auto_ets", "auto_theta", "gru", "lstm", "seq2seq"]


class ConfigError(ValueError):
    """The pipeline file cannot be used; the message names file, key and fix."""


class Section(BaseModel):
    """A part of the pipeline file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(Section):
    """Which columns of the source hold what."""

    timestamp: str | list[str] = Field(
        "timestamp", description="Column of the time; several (year, month, day, hour) are put together."
    )
    target: str | list[str] = Field(
        "target", description="Column of the value to forecast; several make a wide file, one series each."
    )
    series_id: str | None = Field(None, description="Column that tells the series apart; absent: one series.")


class FileSource(Section):
    """Files: CSV, Parquet or JSON lines, plain paths or globs, local or in an object store."""

    kind: Literal["file"] = "file"
    path: str | list[str] = Field(description="Path or glob, or several; relative ones count from the project.")
    format: Literal["auto", "csv", "parquet", "jsonl"] = Field("auto", description="Told from the suffix if auto.")
    columns: Columns = Field(default_factory=Columns, description="Which columns hold what.")
    layout: Literal["auto", "long", "wide", "year_month"] = Field(
        "auto", description="`wide`: one column per series; `year_month`: one row per year, twelve month columns."
    )
    series: str | None = Field(None, description="Name of the one series, where no column names it.")
    timestamp_format: str | None = Field(None, description="strptime format, such as '%d %B %Y'; absent: found.")
    timezone: str | None = Field(None, description="Zone of stamps without one, such as Europe/Berlin; absent: UTC.")
    null_values: tuple[str, ...] = Field(NULL_VALUES, description="Texts and sentinels that mean: no reading.")
    separator: str = Field(",", description="Field separator of CSV files.")
    rename: dict[str, str] = Field(
        default_factory=dict, description="Covariate columns: name in the file to name here."
    )


class DatasetSource(Section):
    """A data set that comes inside an installed package, for demonstrations without a network."""

    kind: Literal["dataset"] = "dataset"
    name: Literal["co2", "markets", "water_flow"] = Field(description="Which set.")


Source = Annotated[FileSource | DatasetSource, Field(discriminator="kind")]


class Candidate(Section):
    """One model that competes; a bare name in the file means all defaults."""

    model: Model = Field(description="A baseline (naive, seasonal_naive, auto_ets, auto_theta) or gru, lstm, seq2seq.")
    name: str = Field("", description="How it is called in leaderboards; absent: the model's name.")
    hidden_size: int = Field(64, ge=1, le=4096, description="Units of the recurrent state, per layer.")
    num_layers: int = Field(1, ge=1, le=16, description="Stacked recurrent layers.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout between stacked layers.")

    @property
    def label(self) -> str:
        return self.name or self.model

    @property
    def is_network(self) -> bool:
        return self.model in NETWORKS


class Training(Section):
    """How the networks are trained."""

    max_steps: int = Field(1_000, ge=1, description="Optimiser steps at most.")
    max_seconds: float | None = Field(None, gt=0, description="Wall-clock limit for one network; absent: none.")
    batch_size: int = Field(32, ge=1, description="Segments per step.")
    segment_length: int | Literal["auto"] = Field("auto", description="Steps of one segment, warm-up not counted.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak of the one-cycle schedule.")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's.")
    gradient_clip_val: float = Field(1.0, gt=0, description="Largest gradient norm (or entry, by value).")
    gradient_clip_algorithm: Literal["norm", "value"] = Field("norm", description="What is clipped.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Exponential average of the weights; 0: none.")
    carry: float = Field(0.5, ge=0, le=1, description="Share of segments that start from the state carried there.")
    validate_every: int = Field(100, ge=1, description="Optimiser steps between validations.")
    patience: int = Field(5, ge=1, description="Validations without a gain before training stops.")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="`auto`: a GPU where there is one.")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="Lightning's precision.")
    seed: int = Field(1, ge=0, description="Seed of weights and batches.")


class Backtest(Section):
    """How candidates are compared: rolling origin over the last part of every series."""

    test_steps: int | Literal["auto"] = Field("auto", description="Last steps, seen by no training; auto: 3 horizons.")
    validation_steps: int | Literal["auto"] = Field("auto", description="Steps before them, for early stopping.")
    stride: int | Literal["auto"] = Field("auto", description="Steps between cutoffs; auto: half a horizon.")
    metric: Literal["mase", "wql", "mae", "rmse", "smape"] = Field("mase", description="What the champion is best in.")


class Schedules(Section):
    """Cron lines (UTC) for `rnnforecast serve`; a job without one is deployed but not scheduled."""

    ingest: str | None = Field(None, description="Cron of the ingest job, such as '5 * * * *'.")
    retrain: str | None = Field(None, description="Cron of the retrain job.")
    forecast: str | None = Field(None, description="Cron of the forecast job.")

    @field_validator("ingest", "retrain", "forecast")
    @classmethod
    def _five_fields(cls, value: str | None) -> str | None:
        if value is not None and len(value.split()) != 5:
            raise ValueError(f"expected a cron line of five fields, such as '0 6 * * 1'; found {value!r}")
        return value


class Storage(Section):
    """Where things live; relative paths count from the pipeline's project."""

    lake: str = Field("data/lake", description="Root of the Delta tables; an object store URL works too.")
    reports: str = Field("data/reports", description="Folder of the report pages.")
    checkpoints: str = Field("data/checkpoints", description="Folder of the training's checkpoints.")
    mlflow: str = Field("mlflow/mlflow.db", description="SQLite file, or the URL of an MLflow server or database.")
    artifacts: str = Field("mlflow/artifacts", description="MLflow's artifacts, where no server decides it.")
    options: dict[str, str] = Field(
        default_factory=dict, description="Object store options (keys, endpoint); secrets as ${NAME}."
    )


class Pipeline(Section):
    """One pipeline: from sources to forecasts."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$", description="Names tables, models and flow runs.")
    description: str = Field("", description="One line for people.")
    project: str = Field(".", description="Folder that relative paths count from, itself relative to this file.")
    sources: tuple[Source, ...] = Field(min_length=1, description="Where rows come from.")
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
    allow_future: bool = Field(False, description="Take target values dated after now (simulations).")
    models: tuple[Candidate, ...] = Field(
        tuple(Candidate(model=name) for name in ("naive", "seasonal_naive", "auto_theta", "gru", "lstm", "seq2seq")),
        min_length=1,
        description="Who competes; a bare name means that model's defaults.",
    )
    training: Training = Field(default_factory=Training, description="How networks are trained.")
    backtest: Backtest = Field(default_factory=Backtest, description="How candidates are compared.")
    schedules: Schedules = Field(default_factory=Schedules, description="When `serve` runs what.")
    storage: Storage = Field(default_factory=Storage, description="Where tables, runs and reports live.")

    _root: Path = PrivateAttr(default_factory=Path.cwd)
    _text: str = PrivateAttr(default="")

    @field_validator("models", mode="before")
    @classmethod
    def _bare_names(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"model": item} if isinstance(item, str) else item for item in value]

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

    @model_validator(mode="after")
    def _distinct_names(self) -> "Pipeline":
        labels = [candidate.label for candidate in self.models]
        if len(set(labels)) < len(labels):
            raise ValueError(f"models: two candidates of one name in {labels}; give one of them a `name:`")
        if len(set(self.covariates)) < len(self.covariates):
            raise ValueError(f"covariates: a column is declared twice in {list(self.covariates)}; once is enough")
        return self

    @property
    def covariates(self) -> tuple[str, ...]:
        """All covariate columns: past, static, known."""
        return self.past_covariates + self.static_covariates + self.known_covariates

    @property
    def root(self) -> Path:
        """The project folder, absolute."""
        return self._root

    @property
    def text(self) -> str:
        """The file as written, without the values of secrets."""
        return self._text

    @property
    def digest(self) -> str:
        """A hash of everything that decides a model: what is trained, on what, how it is compared."""
        relevant = json.loads(self.model_dump_json(exclude={"storage", "schedules", "description", "project"}))
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]

    def resolve(self, path: str) -> str:
        """A path of the file as an absolute one; URLs stay as they are."""
        return path if "://" in path else str((self._root / Path(path).expanduser()).resolve())

    def table(self, name: str) -> str:
        """Path of one of the pipeline's Delta tables: observations, quarantine or forecasts."""
        return f"{self.resolve(self.storage.lake).rstrip('/')}/{self.name}/{name}"

    @property
    def mlflow_uri(self) -> str:
        """MLflow's tracking URI."""
        place = self.resolve(self.storage.mlflow)
        return place if "://" in place else f"sqlite:///{place}"


def load(path: str | Path, *, project: str | Path | None = None) -> Pipeline:
    """Read and check a pipeline file; `project` overrides the folder that relative paths count from.

    Raises ConfigError that names the file, the key and the remedy.
    """
    file = Path(path).expanduser().resolve()
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the pipeline file ({error.strerror}); check the path") from None
    return parse(text, file=file, project=project)


def parse(text: str, *, file: Path, project: str | Path | None = None) -> Pipeline:
    """A pipeline from the text of `file`; see `load`."""
    try:
        mapping = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error}") from None
    if not isinstance(mapping, dict):
        raise ConfigError(f"{file}: expected keys and values, such as `name: climate`; found {type(mapping).__name__}")
    try:
        pipeline = Pipeline.model_validate(_interpolate(mapping, file))
    except ValidationError as error:
        raise ConfigError(_explain(error, file)) from None
    pipeline._root = Path(project).expanduser().resolve() if project else (file.parent / pipeline.project).resolve()
    pipeline._text = text
    return pipeline


def json_schema() -> dict[str, Any]:
    """The JSON schema of the pipeline file, for editors."""
    return Pipeline.model_json_schema()


def _interpolate(value: Any, file: Path) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(item, file) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolate(item, file) for item in value]
    if not isinstance(value, str):
        return value

    def lookup(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{file}: ${{{match[1]}}} is not set in the environment; export {match[1]} first")
        return os.environ[match[1]]

    return ENVIRONMENT.sub(lookup, value)


def _explain(error: ValidationError, file: Path) -> str:
    """Pydantic's findings as one line each: key, what is wrong, nearest right name."""
    lines = []
    for finding in error.errors():
        place = ".".join(str(part) for part in finding["loc"])
        message = finding["msg"].removeprefix("Value error, ")
        if finding["type"] == "extra_forbidden":
            message = _unknown_key(str(finding["loc"][-1]))
        elif finding["type"] == "missing":
            message = "this key is needed and absent"
        elif finding["type"] != "value_error" and not isinstance(finding["input"], dict | list):
            message = f"{message}; found {finding['input']!r}"
            if finding["type"] == "literal_error":
                message += _nearest(str(finding["input"]), re.findall(r"'([^']+)'", str(finding.get("ctx", ""))))
        lines.append(f"{file}: {place}: {message}" if place else f"{file}: {message}")
    return "\n".join(lines)


def _unknown_key(key: str) -> str:
    sections = [Pipeline, Columns, FileSource, DatasetSource, Candidate, Training, Backtest, Schedules, Storage]
    names = sorted({name for section in sections for name in section.model_fields})
    return f"unknown key{_nearest(key, names) or '; `rnnforecast schema` prints the known ones'}"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""
