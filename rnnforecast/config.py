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
from typing import Any, Literal

import yaml
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from rnnforecast.config_sections import BASELINES as BASELINES
from rnnforecast.config_sections import NETWORKS as NETWORKS
from rnnforecast.config_sections import Backtest as Backtest
from rnnforecast.config_sections import Candidate as Candidate
from rnnforecast.config_sections import Columns as Columns
from rnnforecast.config_sections import DatasetSource as DatasetSource
from rnnforecast.config_sections import FileSource as FileSource
from rnnforecast.config_sections import Model as Model
from rnnforecast.config_sections import Schedules as Schedules
from rnnforecast.config_sections import Section as Section
from rnnforecast.config_sections import Source as Source
from rnnforecast.config_sections import Storage as Storage
from rnnforecast.config_sections import Training as Training
from rnnforecast.frequency import Frequency

ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
NULL_VALUES = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "-")


class ConfigError(ValueError):
    """The pipeline file cannot be used; the message names file, key and fix."""


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
    findings = error.errors()
    places = [finding["loc"] for finding in findings]
    for finding in findings:
        if finding["type"] == "too_short" and any(
            p[:-1] and p[: len(finding["loc"])] == finding["loc"] for p in places
        ):
            continue  # pydantic's echo of an item that was refused itself
        place = ".".join(str(part) for part in finding["loc"])
        message = finding["msg"].removeprefix("Value error, ")
        if finding["type"] == "extra_forbidden":
            message = _unknown_key(str(finding["loc"][-1]))
        elif finding["type"] == "missing":
            message = "this key is needed and absent"
        elif finding["type"] == "union_tag_invalid":
            known = re.findall(r"'([^']+)'", str(finding["ctx"]["expected_tags"]))
            found = str(finding["ctx"]["tag"])
            message = f"kind: expected one of {known}; found {found!r}{_nearest(found, known)}"
        elif finding["type"] != "value_error" and not isinstance(finding["input"], dict | list):
            message = f"{message}; found {finding['input']!r}"
            if finding["type"] == "literal_error":
                message += _nearest(str(finding["input"]), re.findall(r"'([^']+)'", str(finding.get("ctx", ""))))
        lines.append(f"{file}: {place}: {message}" if place else f"{file}: {message}")
    return "\n".join(lines)


def _unknown_key(key: str) -> str:
    sections: list[type[Section]] = [
        Pipeline,
        Columns,
        FileSource,
        DatasetSource,
        Candidate,
        Training,
        Backtest,
        Schedules,
        Storage,
    ]
    names = sorted({name for section in sections for name in section.model_fields})
    return f"unknown key{_nearest(key, names) or '; `rnnforecast schema` prints the known ones'}"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""
