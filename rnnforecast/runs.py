"""What one MLflow run keeps of a candidate: where it comes from, its settings, its training, its scores, its tables."""

import getpass
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from rnnforecast import __version__
from rnnforecast.config import Candidate, Pipeline
from rnnforecast.store import HOST_TAG, PROCESS_TAG, process

if TYPE_CHECKING:  # whose module loads torch
    from rnnforecast.task import Task

BATCH: Final = 1_000  # metrics that MLflow takes in one call; parameters: 100
PARAMETERS: Final = 100


def code_commit() -> str:
    """The git commit of this code, with `-dirty` where files were changed; empty where it is not a checkout."""
    package = Path(__file__).parent
    tracked = ["git", "-C", str(package), "ls-files", "--error-unmatch", Path(__file__).name]
    commit = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        subprocess.run(tracked, check=True, capture_output=True)
        return subprocess.run(commit, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


@dataclass(frozen=True)
class TrainedOn:
    """What a model saw: the table's version and digest, and the last timestamp used in training."""

    table_version: int
    table_digest: str  # 36 characters at most
    cutoff: Any
    git_commit: str = field(default_factory=code_commit)


@contextmanager
def run(
    store: MlflowClient, experiment: str, pipeline: Pipeline, label: str, tags: dict[str, str], seconds: float
) -> Iterator[str]:
    """A run that ends FINISHED, or FAILED when its body raises; it began `seconds` ago, when training did."""
    run_id = start(store, experiment, pipeline, label, tags=tags, seconds=seconds)
    try:
        yield run_id
    except BaseException:
        store.set_terminated(run_id, status="FAILED")
        raise
    store.set_terminated(run_id)


def start(
    store: MlflowClient, experiment: str, pipeline: Pipeline, label: str, *, tags: dict[str, str], seconds: float = 0.0
) -> str:
    """A new run of this process, RUNNING since `seconds` ago; returns its id."""
    now = datetime.now(UTC)
    made = store.create_run(
        experiment,
        start_time=int((now.timestamp() - seconds) * 1_000),
        run_name=f"{pipeline.name} {label} {now:%Y-%m-%d %H:%M}",
        tags={
            **tags,
            **of_this_process(),
            "pipeline": pipeline.name,
            "mlflow.user": getpass.getuser(),
            "mlflow.source.name": "rnnforecast",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": tags["git_commit"].removesuffix("-dirty"),
        },
    )
    return str(made.info.run_id)


def of_this_process() -> dict[str, str]:
    """The tags by which a run that a dead process left RUNNING is told from one at work."""
    return {PROCESS_TAG: process(), HOST_TAG: socket.gethostname()}


def provenance(pipeline: Pipeline, candidate: Candidate, trained_on: TrainedOn) -> dict[str, str]:
    """What runs and versions both say about where they come from."""
    return {
        "candidate": candidate.label,
        "model": candidate.model,
        "kind": candidate.kind,
        "table_version": str(trained_on.table_version),
        "table_digest": trained_on.table_digest,
        "cutoff": str(trained_on.cutoff),
        "config_digest": pipeline.digest,
        "git_commit": trained_on.git_commit,
        "package_version": __version__,
    }


def parameters(pipeline: Pipeline, candidate: Candidate, task: "Task") -> dict[str, str]:
    """Candidate, task (what was `auto` as it was found), backtest and, for a network, training settings, flat."""
    chosen = candidate.model_dump()
    found = {**task.to_dict(), "frequency": str(task.frequency)}
    parts: dict[str, Any] = {"task": found, "backtest": pipeline.backtest.model_dump()}
    if candidate.is_network:
        parts |= {"candidate": chosen, "training": candidate.trained_by(pipeline.training).model_dump()}
    else:
        parts |= {"candidate": {name: chosen[name] for name in ("model", "name")}}
    return dict(_flat(parts))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(item)


def log_params(store: MlflowClient, run_id: str, parameters: Mapping[str, str]) -> None:
    entries = [Param(name, value) for name, value in parameters.items()]
    for start in range(0, len(entries), PARAMETERS):
        store.log_batch(run_id, params=entries[start : start + PARAMETERS])


def log_history(store: MlflowClient, run_id: str, history: Sequence[Mapping[str, float]]) -> None:
    """The training's metrics, a thousand to a call; `step` is the optimiser's."""
    now = int(time.time() * 1_000)
    entries = [
        Metric(name, float(value), now, int(point["step"]))
        for point in history
        for name, value in point.items()
        if name != "step" and value is not None
    ]
    for start in range(0, len(entries), BATCH):
        store.log_batch(run_id, metrics=entries[start : start + BATCH])


def _dataset_name(pipeline: Pipeline) -> str:
    return f"{pipeline.name}/observations"


def log_dataset(store: MlflowClient, run_id: str, pipeline: Pipeline, trained_on: TrainedOn) -> None:
    source = {"path": pipeline.table("observations"), "version": trained_on.table_version}
    dataset = Dataset(_dataset_name(pipeline), trained_on.table_digest, "delta", json.dumps(source))
    store.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def log_files(store: MlflowClient, run_id: str, pipeline: Pipeline, tables: Mapping[str, pl.DataFrame]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, table in tables.items():
            table.write_csv(Path(scratch) / f"{name}.csv")
        if pipeline.text:
            (Path(scratch) / "pipeline.yaml").write_text(pipeline.text, encoding="utf-8")
        store.log_artifacts(run_id, scratch)


def log_scores(
    store: MlflowClient, run_id: str, metrics: Mapping[str, float], *, model_id: str, pipeline: Pipeline, digest: str
) -> None:
    """The leaderboard row, tied to model and data, so that MLflow shows it on the pages of both."""
    now, name = int(time.time() * 1_000), _dataset_name(pipeline)
    entries = [Metric(key, value, now, 0, model_id, name, digest, run_id) for key, value in metrics.items()]
    store.log_batch(run_id, metrics=entries)
