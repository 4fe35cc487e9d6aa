"""A retrain as plain values, and its files on disk: what the tasks of `retrain` hand to each other.

A study is one retrain: these observations, these settings, this version of the library. It has a folder under
`storage.checkpoints`, one sub-folder per candidate, each written whole or not at all: a retrain that was killed
goes on with the candidates that were finished.
"""

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import polars as pl

from rnnforecast import backtest, config, registry, table, windows
from rnnforecast.config import Candidate, Pipeline
from rnnforecast.fitted import FittedModel
from rnnforecast.flows.jobs import Until, observations
from rnnforecast.forecast import load_model
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.task import Task
from rnnforecast.windows import Split

SCORED: Final = "scored.parquet"
FACTS: Final = "facts.json"
FINISHED: Final = "finished.json"  # in the pipeline's folder: the last retrain that came to its end


@dataclass(frozen=True)
class Study:
    """One retrain of one pipeline file; plain values, so that it may travel between tasks."""

    pipeline: str
    project: str | None
    until: Until
    table_version: int
    table_digest: str
    key: str  # see registry.retrain_key

    @classmethod
    def of(cls, path: str, project: str | None, until: Until) -> "Study":
        """The study that the newest observations call for. Raises TableError where there is no table."""
        pipeline = config.load(path, project=project)
        place, options = pipeline.table("observations"), pipeline.storage.options
        version = table.version(place, options)
        frame = observations(pipeline, version=version, until=until)
        assert version is not None  # observations() has refused a table that is not there
        digest = table.digest(frame)
        return cls(path, project, until, version, digest, registry.retrain_key(pipeline, digest))

    @property
    def loaded(self) -> Pipeline:
        return config.load(self.pipeline, project=self.project)

    @property
    def folder(self) -> Path:
        """Where the candidates of this study lie."""
        return home(self.loaded) / self.key

    def candidate(self, label: str) -> Candidate:
        return next(each for each in self.loaded.models if each.label == label)

    def place(self, candidate: Candidate) -> Path:
        return self.folder / f"{self.loaded.models.index(candidate):02d}-{candidate.model}"


@dataclass(frozen=True)
class Setting:
    """What every candidate of a study is trained and scored on."""

    frame: pl.LazyFrame  # read anew by whoever asks for rows of it
    task: Task
    panel: Panel
    parts: Split
    cutoffs: Cutoffs

    @property
    def trained_until(self) -> Any:
        """The last timestamp that training or its early stopping may see."""
        ends = self.panel.starts + self.parts.valid_end - 1
        return self.panel.stamps(ends[self.parts.valid_end > 0]).max()


@lru_cache(maxsize=1)
def setting(study: Study) -> Setting:
    """Read the observations of a study and divide them by time. Raises FrameError, WindowError."""
    frame = observations(study.loaded, version=study.table_version, until=study.until)
    return divided(study.loaded, frame)


def divided(pipeline: Pipeline, frame: pl.LazyFrame) -> Setting:
    """Observations divided by time, as the pipeline says. Raises FrameError, WindowError."""
    task, panel = Task.of(pipeline, frame)
    plan = pipeline.backtest
    spans = windows.spans(
        panel,
        task.horizon,
        season=task.seasons[-1],
        test_steps=plan.test_steps,
        validation_steps=plan.validation_steps,
    )
    parts = windows.split(panel, *spans)
    return Setting(frame, task, panel, parts, windows.backtest_cutoffs(panel, parts, task.horizon, plan.stride))


def home(pipeline: Pipeline) -> Path:
    """The pipeline's folder under `storage.checkpoints`."""
    return Path(pipeline.resolve(pipeline.storage.checkpoints)) / pipeline.name


def keep(folder: Path, model: FittedModel, scored: pl.DataFrame, facts: dict[str, Any]) -> None:
    """Write a fitted model, its backtest and facts about it (JSON-able) into `folder`, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        model.save(draft)
        scored.write_parquet(draft / SCORED)
        (draft / FACTS).write_text(json.dumps(facts), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def kept_model(folder: Path) -> FittedModel:
    return load_model(folder)


def kept_facts(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / FACTS).read_text(encoding="utf-8")))


def kept_result(folder: Path, label: str) -> backtest.Result:
    """A candidate's backtest as it was kept."""
    return backtest.Result(label, pl.read_parquet(folder / SCORED), float(kept_facts(folder)["seconds"]))


def finish(study: Study, **facts: Any) -> None:
    """Note a retrain that came to its end, and clear away the candidates of earlier ones."""
    place = home(study.loaded)
    draft = place / f".{FINISHED}"
    draft.write_text(json.dumps(asdict(study) | facts, default=str), encoding="utf-8")
    draft.replace(place / FINISHED)
    for folder in place.iterdir():
        if folder.is_dir() and folder != study.folder:
            shutil.rmtree(folder, ignore_errors=True)


def finished(pipeline: Pipeline) -> dict[str, Any] | None:
    """The last retrain that came to its end: its study's values and what `finish` was told; None before the first."""
    place = home(pipeline) / FINISHED
    return dict(json.loads(place.read_text(encoding="utf-8"))) if place.exists() else None


def recall(facts: dict[str, Any]) -> Study:
    """The study that `finish` noted."""
    return Study(**{field.name: facts[field.name] for field in fields(Study)})
