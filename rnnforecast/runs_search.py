"""What a search leaves in MLflow: a run for the search, and nested in it a run for every trial."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from rnnforecast import runs
from rnnforecast.config import Candidate, Parts, Pipeline
from rnnforecast.config_search import lines
from rnnforecast.runs import TrainedOn
from rnnforecast.search import FAILED, FINISHED, REFUSED, Found, Trial
from rnnforecast.store import client, open_store
from rnnforecast.task import Task

PARENT_TAG: Final = "mlflow.parentRunId"  # MLflow nests by it
KEY_TAG: Final = "search_key"
JOB_TAG: Final = "job"
STATE_TAG: Final = "trial_state"
BEST: Final = "best.yaml"
REASON_LENGTH: Final = 2_000
STATUS: Final = {FINISHED: "FINISHED", FAILED: "FAILED", REFUSED: "KILLED"}  # MLflow has no word for refused


@dataclass(frozen=True)
class SearchRun:
    """The run of a search, and what those of its trials share with it."""

    pipeline: Pipeline
    candidate: Candidate
    task: Task
    trained_on: TrainedOn
    key: str  # one for the same rows, settings and space
    experiment: str
    run_id: str

    @property
    def store(self) -> MlflowClient:
        return client(self.pipeline)

    @contextmanager
    def trial(self, trial: Trial) -> Iterator[Callable[[Trial], None]]:
        """A nested run for one trial: FINISHED, FAILED with the error, or KILLED with the reason why it was refused."""
        tags = self._tags(trial.candidate or self.candidate) | {PARENT_TAG: self.run_id, JOB_TAG: "trial"}
        label = f"trial {trial.number} of {self.candidate.label}"
        run_id = runs.start(self.store, self.experiment, self.pipeline, label, tags=tags)
        try:
            runs.log_params(self.store, run_id, self._parameters(trial))
            runs.log_dataset(self.store, run_id, self.pipeline, self.trained_on)
            yield lambda ended: self._end(run_id, ended)
        except BaseException:
            self.store.set_tag(run_id, STATE_TAG, "stopped")
            self.store.set_terminated(run_id, status="FAILED")
            raise

    def log_best(self, found: Found) -> None:
        """The best of a search: its settings, its scores, and the lines that make a pipeline file have it."""
        best = found.best
        runs.log_params(self.store, self.run_id, self._parameters(best))
        counts = {state: found.count(state) for state in STATUS}
        _log_metrics(self.store, self.run_id, {**_of_validation(best), **counts, "best_trial": best.number})
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / BEST).write_text(lines_of(best), encoding="utf-8")
            if self.pipeline.text:
                (Path(scratch) / "pipeline.yaml").write_text(self.pipeline.text, encoding="utf-8")
            self.store.log_artifacts(self.run_id, scratch)

    def _end(self, run_id: str, trial: Trial) -> None:
        runs.log_history(self.store, run_id, trial.history)
        _log_metrics(self.store, run_id, {**_of_validation(trial), "seconds": trial.seconds})
        self.store.set_tag(run_id, STATE_TAG, trial.state)
        if trial.reason:
            self.store.set_tag(run_id, "reason", trial.reason[:REASON_LENGTH])
        self.store.set_terminated(run_id, status=STATUS[trial.state])

    def _tags(self, candidate: Candidate) -> dict[str, str]:
        return runs.provenance(self.pipeline, candidate, self.trained_on) | {KEY_TAG: self.key}

    def _parameters(self, trial: Trial) -> dict[str, str]:
        """All settings of a trial's network and training; of one that was refused, what was drawn."""
        if trial.candidate is None or trial.training is None:
            section = {True: "candidate", False: "training"}
            return {f"{section[key in Parts.model_fields]}.{key}": str(value) for key, value in trial.choices.items()}
        pipeline = self.pipeline.model_copy(update={"training": trial.training})
        return runs.parameters(pipeline, trial.candidate, self.task)


@contextmanager
def search_run(
    pipeline: Pipeline, candidate: Candidate, *, task: Task, trained_on: TrainedOn, key: str
) -> Iterator[SearchRun]:
    """The run of a search: a new one, or the one that an interrupted search with this key left open to go on with."""
    experiment, store = open_store(pipeline), client(pipeline)
    tags = runs.provenance(pipeline, candidate, trained_on) | {KEY_TAG: key, JOB_TAG: "search"}
    earlier = _newest(pipeline, key)
    if earlier is not None and earlier.info.status != "FINISHED":
        run_id = str(earlier.info.run_id)
        store.update_run(run_id, status="RUNNING")
        for name, value in runs.of_this_process().items():
            store.set_tag(run_id, name, value)
    else:
        more = {} if earlier is None else {"continues": str(earlier.info.run_id)}
        run_id = runs.start(store, experiment, pipeline, f"search {candidate.label}", tags={**tags, **more})
        runs.log_dataset(store, run_id, pipeline, trained_on)
    try:
        yield SearchRun(pipeline, candidate, task, trained_on, key, experiment, run_id)
    except BaseException:
        store.set_terminated(run_id, status="FAILED")
        raise
    store.set_terminated(run_id)


def finished(pipeline: Pipeline, key: str) -> str | None:
    """The run of the newest search with this key, if it came to its end."""
    found = _newest(pipeline, key)
    return str(found.info.run_id) if found is not None and found.info.status == "FINISHED" else None


def _newest(pipeline: Pipeline, key: str) -> Run | None:
    wanted = f"tags.{KEY_TAG} = '{key}' and tags.{JOB_TAG} = 'search'"
    found = client(pipeline).search_runs(
        [open_store(pipeline)], wanted, order_by=["attributes.start_time DESC"], max_results=1
    )
    return found[0] if found else None


def lines_of(trial: Trial) -> str:
    """What to put into the pipeline file to have a trial's network compete."""
    assert trial.candidate is not None
    return lines(trial.candidate, {key: value for key, value in trial.choices.items() if key not in Parts.model_fields})


def _of_validation(trial: Trial) -> dict[str, float | None]:
    """A trial's scores under names of their own: those of retrains are of the test span."""
    return {f"validation_{name}": score for name, score in trial.scores.items()}


def _log_metrics(store: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    now = int(time.time() * 1_000)
    entries = [Metric(name, float(value), now, 0) for name, value in values.items() if value is not None]
    store.log_batch(run_id, metrics=entries)
