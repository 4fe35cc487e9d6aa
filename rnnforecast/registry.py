"""Runs and versions: every candidate is one MLflow run and one version of the registered model `pipeline.name`.

The route of a retrain: `open_store` (store.py), `known`?, [train, backtest], `log_candidate` for each,
`promote` (promotion.py), `log_report`, and `finish` last, so that a retrain that was killed stays unknown.
"""

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import polars as pl
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from rnnforecast import __version__, runs
from rnnforecast.config import Pipeline
from rnnforecast.frame_rows import Frame
from rnnforecast.packing import WEIGHTS, pack
from rnnforecast.runs import TrainedOn
from rnnforecast.store import RegistryError, client, hidden, open_store

if TYPE_CHECKING:  # who only looks at versions loads no torch
    from rnnforecast.fitted import FittedModel

CHAMPION: Final = "champion"
FINISHED_TAG: Final = "finished_retrain"
DECISION_TAG: Final = "decision"
UI: Final = "http://127.0.0.1:5000"  # where `mlflow ui` serves if nothing else is said
UI_MODE: Final = "workflowType=machine_learning"  # otherwise the pages open in their mode for language model agents


def retrain_key(pipeline: Pipeline, table_digest: str) -> str:
    """What decides the outcome of a retrain: the rows, the settings and the version of the library."""
    return f"{table_digest}-{pipeline.digest}-{__version__}"


@dataclass(frozen=True)
class Logged:
    """A candidate as it stands in the registry: `row` is its line of the leaderboard."""

    label: str
    version: str
    run_id: str
    row: Mapping[str, Any]
    kind: str  # network, baseline or combination


@dataclass(frozen=True)
class Registered:
    """A version loaded from the registry, ready to forecast."""

    version: str
    model: "FittedModel"
    tags: Mapping[str, str]
    run_id: str


def log_candidate(
    pipeline: Pipeline,
    model: "FittedModel",
    *,
    row: Mapping[str, Any],
    trained_on: TrainedOn,
    key: str,
    example: Frame,
    history: Sequence[Mapping[str, float]] = (),
    tables: Mapping[str, pl.DataFrame] | None = None,
) -> Logged:
    """Log one candidate as a run and register its model as the next version of `pipeline.name`.

    `row`: its leaderboard row (model, mase, ..., seconds). `key`: see `retrain_key`. `example`: the long frame (it
    is cut short here). `history`: one mapping for each recorded training step, with `step` and any metrics.
    `tables`: frames to keep beside it, such as {"leaderboard": ..., "by_series": ..., "by_step": ...}.
    """
    experiment = open_store(pipeline)
    store = client(pipeline)
    tags = {**runs.provenance(pipeline, model.candidate, trained_on), "retrain_key": key}
    with runs.run(store, experiment, pipeline, model.candidate.label, tags, float(row.get("seconds") or 0)) as run_id:
        parameters = runs.parameters(pipeline, model.candidate, model.task)
        runs.log_params(store, run_id, parameters)
        runs.log_dataset(store, run_id, pipeline, trained_on)
        runs.log_history(store, run_id, history)
        runs.log_files(store, run_id, pipeline, tables or {})
        model_id = _log_model(store, run_id, experiment, pipeline, model, example=example, parameters=parameters)
        metrics = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
        runs.log_scores(store, run_id, metrics, model_id=model_id, pipeline=pipeline, digest=trained_on.table_digest)
        scores = {name: f"{value:.6g}" for name, value in metrics.items()}
        version = _register(store, pipeline, run_id, model_id, tags={**tags, **scores})
    return Logged(model.candidate.label, version, run_id, dict(row), model.candidate.kind)


def known(pipeline: Pipeline, key: str) -> bool:
    """True if a retrain with this key has finished: nothing new, skip the training."""
    store = client(pipeline)
    experiment = open_store(pipeline)
    return len(store.search_runs([experiment], f"tags.{FINISHED_TAG} = '{key}'", max_results=1)) > 0


def finish(pipeline: Pipeline, key: str, run_ids: Iterable[str]) -> None:
    """Mark these runs as a finished retrain; call it last: what was killed before stays unknown."""
    for run_id in run_ids:
        client(pipeline).set_tag(run_id, FINISHED_TAG, key)


def champion(pipeline: Pipeline) -> Registered | None:
    """The version that serves now, loaded; None before the first promotion. Raises RegistryError if it is damaged."""
    version = version_of(pipeline, CHAMPION)
    return None if version is None else load_version(pipeline, version)


def load_version(pipeline: Pipeline, version: str) -> Registered:
    """A registered version, loaded. Raises RegistryError that names what cannot be read."""
    from rnnforecast.forecast import load_model

    store = client(pipeline)
    found = store.get_model_version(pipeline.name, version)
    # An address `models:/...` would make MLflow ask the global registry URI, whatever it is given here.
    place = store.get_model_version_download_uri(pipeline.name, version)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = download_artifacts(
                artifact_uri=f"{place}/{WEIGHTS}", dst_path=scratch, tracking_uri=pipeline.mlflow_uri
            )
            model = load_model(Path(folder))
        except (OSError, ValueError, KeyError, MlflowException) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[-1]
            raise RegistryError(
                f"{hidden(pipeline.mlflow_uri)}: version {version} of {pipeline.name} cannot be loaded from "
                f"{place} ({reason}); bring the folder back, or retrain"
            ) from None
    return Registered(version, model, dict(found.tags), found.run_id or "")


def version_of(pipeline: Pipeline, alias: str) -> str | None:
    """The version that carries an alias (champion, challenger, previous), or None."""
    return aliases(pipeline).get(alias)


def aliases(pipeline: Pipeline) -> dict[str, str]:
    """Every alias of the registered model, with its version; empty before the first registration."""
    try:
        found = client(pipeline).get_registered_model(pipeline.name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    return {alias: str(version) for alias, version in found.aliases.items()}


def log_report(pipeline: Pipeline, run_ids: Iterable[str], page: Path) -> None:
    """Put the report page among the artifacts of these runs."""
    for run_id in run_ids:
        client(pipeline).log_artifact(run_id, str(page), "report")


def history(pipeline: Pipeline) -> pl.DataFrame:
    """All registered versions, newest first.

    Columns: version (int), candidate, alias (several are joined by a comma), the pipeline's metric (float),
    table_version (int), cutoff, created (UTC), decision, run_id.
    """
    names: dict[str, list[str]] = {}
    for alias, version in aliases(pipeline).items():
        names.setdefault(version, []).append(alias)
    metric = pipeline.backtest.metric
    rows = [
        {
            "version": int(found.version),
            "candidate": found.tags.get("candidate", ""),
            "alias": ", ".join(sorted(names.get(str(found.version), []))),
            metric: float(found.tags.get(metric, math.nan)),
            "table_version": int(found.tags.get("table_version", -1)),
            "cutoff": found.tags.get("cutoff", ""),
            "created": datetime.fromtimestamp(found.creation_timestamp / 1_000, tz=UTC),
            "decision": found.tags.get(DECISION_TAG, ""),
            "run_id": found.run_id or "",
        }
        for found in _versions(client(pipeline), pipeline.name)
    ]
    text, time_type = pl.String(), pl.Datetime("us", "UTC")
    schema: dict[str, pl.DataType] = {"version": pl.Int64(), "candidate": text, "alias": text, metric: pl.Float64()}
    schema |= {"table_version": pl.Int64(), "cutoff": text, "created": time_type, "decision": text, "run_id": text}
    return pl.DataFrame(rows, schema=schema).sort("version", descending=True)


def ui_link(pipeline: Pipeline, run_id: str = "", base: str = UI) -> str:
    """Address of a run's page in MLflow's UI that is served at `base`; without a run, that of all runs."""
    page = f"{base.rstrip('/')}/#/experiments/{_experiment_number(pipeline)}/runs"
    return f"{page}/{run_id}?{UI_MODE}" if run_id else f"{page}?{UI_MODE}"


def compare_link(pipeline: Pipeline, run_ids: Iterable[str], base: str = UI) -> str:
    """Address of MLflow's page that shows these runs side by side."""
    chosen, experiment = (quote(json.dumps(names)) for names in (list(run_ids), [_experiment_number(pipeline)]))
    return f"{base.rstrip('/')}/#/compare-runs?runs={chosen}&experiments={experiment}&{UI_MODE}"


def _experiment_number(pipeline: Pipeline) -> str:
    experiment = client(pipeline).get_experiment_by_name(pipeline.name)
    return str(experiment.experiment_id) if experiment else "0"


def _versions(store: MlflowClient, name: str) -> Iterator[ModelVersion]:
    token = None
    while True:
        page = store.search_model_versions(f"name = '{name}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _log_model(
    store: MlflowClient,
    run_id: str,
    experiment: str,
    pipeline: Pipeline,
    model: "FittedModel",
    *,
    example: Frame,
    parameters: dict[str, str],
) -> str:
    """The bundle as MLflow's logged model of this run; returns its id."""
    logged = store.create_logged_model(
        experiment,
        name=model.candidate.label,
        source_run_id=run_id,
        params=parameters,
        model_type=model.candidate.model,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        record = Model(artifact_path=logged.artifact_location, model_id=logged.model_id, run_id=run_id)
        pack(pipeline, model, example, folder=folder, record=record)
        store.log_model_artifacts(logged.model_id, str(folder))
    store.finalize_logged_model(logged.model_id, "READY")
    store.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return str(logged.model_id)


def _register(store: MlflowClient, pipeline: Pipeline, run_id: str, model_id: str, *, tags: dict[str, str]) -> str:
    """The next version of `pipeline.name`, tags and all in one step.

    The source is the bundle's folder: given `models:/<id>`, MLflow's database store asks the global tracking URI.
    """
    try:
        store.create_registered_model(pipeline.name, description=pipeline.description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = store.get_logged_model(model_id).artifact_location
    metric = pipeline.backtest.metric
    says = f"{tags['candidate']}: {metric} {tags.get(metric, 'unknown')}"
    found = store.create_model_version(
        pipeline.name, source, run_id=run_id, model_id=model_id, tags=tags, description=says
    )
    # A server sets this tag itself (it makes the link on the model's page); a database does not.
    link = json.dumps([{"name": pipeline.name, "version": str(found.version)}])
    store.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
    return str(found.version)
