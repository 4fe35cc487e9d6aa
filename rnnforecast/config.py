"""The pipeline file: one YAML per pipeline, as frozen models.

`load(path)` reads, checks and returns a `Pipeline`. Every key is documented by its field; an unknown
key is refused with the nearest right name. `${NAME}` in any value is taken from the environment, and
only the text as written (never the secret) is kept for the records.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from rnnforecast import secrets
from rnnforecast.config_candidate import BASELINES as BASELINES
from rnnforecast.config_candidate import COMBINATION as COMBINATION
from rnnforecast.config_candidate import DEFAULT_MODELS as DEFAULT_MODELS
from rnnforecast.config_candidate import NETWORKS as NETWORKS
from rnnforecast.config_candidate import PRESETS as PRESETS
from rnnforecast.config_candidate import TRAININGS as TRAININGS
from rnnforecast.config_candidate import Candidate as Candidate
from rnnforecast.config_candidate import Model as Model
from rnnforecast.config_errors import ConfigError as ConfigError
from rnnforecast.config_errors import checked as checked
from rnnforecast.config_errors import explain as explain
from rnnforecast.config_errors import nearest as nearest
from rnnforecast.config_parts import Parts as Parts
from rnnforecast.config_quality import AnyCheck as AnyCheck
from rnnforecast.config_quality import Check as Check
from rnnforecast.config_quality import FrozenCheck as FrozenCheck
from rnnforecast.config_quality import RangeCheck as RangeCheck
from rnnforecast.config_quality import SentinelCheck as SentinelCheck
from rnnforecast.config_quality import SpikeCheck as SpikeCheck
from rnnforecast.config_rules import refusals as refusals
from rnnforecast.config_rules import refusals_of_task as refusals_of_task
from rnnforecast.config_search import Range as Range
from rnnforecast.config_search import Search as Search
from rnnforecast.config_section import Section as Section
from rnnforecast.config_sections import Backtest as Backtest
from rnnforecast.config_sections import Schedules as Schedules
from rnnforecast.config_sections import Storage as Storage
from rnnforecast.config_sections import Training as Training
from rnnforecast.config_sources import Columns as Columns
from rnnforecast.config_sources import DatasetSource as DatasetSource
from rnnforecast.config_sources import FileSource as FileSource
from rnnforecast.config_sources import HttpSource as HttpSource
from rnnforecast.config_sources import KafkaSource as KafkaSource
from rnnforecast.config_sources import MqttSource as MqttSource
from rnnforecast.config_sources import Paging as Paging
from rnnforecast.config_sources import RowSource as RowSource
from rnnforecast.config_sources import Source as Source
from rnnforecast.config_sources import SqlSource as SqlSource
from rnnforecast.config_task import TaskSettings as TaskSettings
from rnnforecast.frequency import span

ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
NULL_VALUES = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "-")


class Pipeline(TaskSettings):
    """One pipeline: from sources to forecasts."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$", description="Names tables, models and flow runs.")
    description: str = Field("", description="One line for people.")
    project: str = Field(".", description="Folder that relative paths count from, itself relative to this file.")
    sources: tuple[Source, ...] = Field(min_length=1, description="Where rows come from.")
    allow_future: bool = Field(False, description="Take target values dated after now (simulations).")
    allowed_lateness: Annotated[int, Field(ge=0)] | str | None = Field(
        None,
        description="How far behind the newest reading of its series a row may come and still be taken: 7d, 6h, or "
        "integer steps; later ones go to quarantine; absent: any.",
    )
    checks: tuple[AnyCheck, ...] = Field((), description="What every reading must be like to be taken.")
    models: tuple[Candidate, ...] = Field(
        tuple(Candidate(model=name) for name in DEFAULT_MODELS),
        min_length=1,
        description="Who competes; a bare name means that model's defaults.",
    )
    training: Training = Field(default_factory=Training, description="How networks are trained.")
    search: Search = Field(default_factory=Search, description="What a search for better settings may try.")
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

    @field_validator("allowed_lateness")
    @classmethod
    def _a_span(cls, value: str | int | None) -> str | int | None:
        if isinstance(value, str) and span(value) is None:
            raise ValueError(f"expected a span such as 7d, 6h, 30m, or whole steps; found {value!r}")
        return value

    @model_validator(mode="after")
    def _checks_of_known_columns(self) -> "Pipeline":
        known = ("target", *self.covariates)
        for place, check in enumerate(self.checks):
            if check.column not in known:
                hint = nearest(check.column, known) or f"; there are {', '.join(known)}"
                raise ValueError(
                    f"checks.{place}: column: expected target or a covariate; found {check.column!r}{hint}"
                )
        return self

    @model_validator(mode="after")
    def _models_of_this_task(self) -> "Pipeline":
        labels = [candidate.label for candidate in self.models]
        if len(set(labels)) < len(labels):
            raise ValueError(f"models: two candidates of one name in {labels}; give one of them a `name:`")
        for place, candidate in enumerate(self.models):
            task = refusals_of_task(candidate, self.static_covariates)
            for line in task + candidate.refusals_of_training(self.training):
                raise ValueError(f"models.{place}: {line}")
        return self

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
        aside = {"storage", "schedules", "description", "project", "search"}
        relevant = json.loads(self.model_dump_json(exclude=aside))
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
        raise ConfigError(explain(error, Pipeline, prefix=f"{file}: ")) from None
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
        secrets.remember(match[1], os.environ[match[1]])
        return os.environ[match[1]]

    return ENVIRONMENT.sub(lookup, value)
