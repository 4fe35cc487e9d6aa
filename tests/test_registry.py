"""Candidates as MLflow runs and registered versions: real store, real baseline, a network that was really trained."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rnnforecast import runs
from rnnforecast.baselines import BaselineModel
from rnnforecast.config import Pipeline, parse
from rnnforecast.forecast import forecast
from rnnforecast.promotion import promote
from rnnforecast.registry import (
    Logged,
    TrainedOn,
    champion,
    compare_link,
    finish,
    history,
    known,
    load_version,
    log_candidate,
    log_report,
    retrain_key,
    ui_link,
)
from rnnforecast.store import RegistryError, client, open_store
from rnnforecast.task import Task
from rnnforecast.training import fit
from rnnforecast.windows import split

TEXT = """
name: tides
description: Hourly water levels
sources: [{kind: file, path: "tides.csv"}]
horizon: 6
season_length: 12
models: [seasonal_naive, {model: gru, hidden_size: 8}]
training: {max_steps: 20, batch_size: 4, segment_length: 24, validate_every: 10}
storage: {options: {secret: "${TIDES_SECRET}"}}
"""
DIGEST = "0123456789abcdef"
TRAINED_ON = TrainedOn(
    table_version=3, table_digest=DIGEST, cutoff=datetime(2024, 1, 9, tzinfo=UTC), git_commit="c0ffee"
)
BOARD = pl.DataFrame({"model": ["gru", "seasonal_naive"], "mase": [0.5, 1.0], "mae": [1.5, 3.0], "seconds": [2.0, 0.1]})


def tides() -> pl.DataFrame:
    times = pl.datetime_range(datetime(2024, 1, 1), datetime(2024, 1, 12), "1h", time_zone="UTC", eager=True)
    values = [math.sin(index / 12 * math.tau) + index / 200 for index in range(len(times))]
    frame = pl.DataFrame({"timestamp": times, "target": values}).with_columns(
        timestamp=pl.col("timestamp").cast(pl.Datetime("us", "UTC"))
    )
    both = [frame.select(pl.lit(name).alias("series_id"), "timestamp", pl.col("target") * k) for name, k in SERIES]
    return pl.concat(both)


SERIES = (("harbour", 1.0), ("pier", 3.0))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Pipeline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDES_SECRET", "hunter2")
        return parse(TEXT, file=tmp_path_factory.mktemp("my project ü") / "tides.yaml")


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return tides()


@pytest.fixture(scope="module")
def models(pipeline, frame):
    """The baseline, and the network with its history of training."""
    task, panel = Task.of(pipeline, frame)
    seasonal, gru = pipeline.models
    trained = fit(task, gru, panel, split(panel, 24, 24), training=pipeline.training, progress=False)
    return {"seasonal_naive": (BaselineModel(task, seasonal), []), "gru": (trained.model, trained.history)}


@pytest.fixture(scope="module")
def logged(pipeline, frame, models) -> dict[str, Logged]:
    return {
        row["model"]: log_candidate(
            pipeline,
            models[row["model"]][0],
            row=row,
            trained_on=TRAINED_ON,
            key=retrain_key(pipeline, DIGEST),
            example=frame,
            history=models[row["model"]][1],
            tables={"leaderboard": BOARD},
        )
        for row in BOARD.rows(named=True)
    }


def test_a_run_says_what_it_is_and_where_it_comes_from(pipeline, logged):
    run = client(pipeline).get_run(logged["gru"].run_id)
    assert run.info.run_name.startswith("tides gru 20")
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time >= 2_000  # the seconds of training count
    tags = run.data.tags
    assert (tags["table_version"], tags["table_digest"], tags["git_commit"]) == ("3", DIGEST, "c0ffee")
    assert (tags["pipeline"], tags["candidate"], tags["kind"]) == ("tides", "gru", "network")
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    parameters = run.data.params
    assert (parameters["candidate.hidden_size"], parameters["training.max_steps"]) == ("8", "20")
    assert (parameters["task.frequency"], parameters["task.horizon"]) == ("1h", "6")  # `auto` as it was found
    [data] = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("tides/observations", DIGEST)
    assert json.loads(data.dataset.source)["version"] == 3


def test_a_baseline_has_no_training_settings(pipeline, logged):
    names = client(pipeline).get_run(logged["seasonal_naive"].run_id).data.params
    assert not [name for name in names if name.startswith("training.") or name == "candidate.hidden_size"]


def test_the_training_is_there_step_by_step(pipeline, logged, models):
    said = [(int(row["step"]), row["train_loss"]) for row in models["gru"][1] if "train_loss" in row]
    kept = client(pipeline).get_metric_history(logged["gru"].run_id, "train_loss")
    assert [(point.step, point.value) for point in kept] == said
    assert len(said) >= 2


def test_the_scores_are_on_the_run_on_the_model_and_on_the_version(pipeline, logged):
    store = client(pipeline)
    run = store.get_run(logged["gru"].run_id)
    assert (run.data.metrics["mase"], run.data.metrics["mae"]) == (0.5, 1.5)
    [output] = run.outputs.model_outputs
    model = store.get_logged_model(output.model_id)
    assert {metric.key: metric.value for metric in model.metrics} == {"mase": 0.5, "mae": 1.5, "seconds": 2.0}
    version = store.get_model_version("tides", logged["gru"].version)
    assert version.tags["mase"] == "0.5"
    assert model.params["candidate.hidden_size"] == "8"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "tides", "version": logged["gru"].version}]


def test_leaderboard_and_pipeline_file_are_artifacts_and_no_secret_is_anywhere(pipeline, logged, tmp_path):
    store = client(pipeline)
    folder = store.download_artifacts(logged["gru"].run_id, "", str(tmp_path))
    assert_frame_equal(pl.read_csv(f"{folder}/leaderboard.csv"), BOARD)
    assert (tmp_path / "pipeline.yaml").read_text() == TEXT
    everything = [path for path in (pipeline.root / "mlflow").rglob("*") if path.is_file()]
    assert len(everything) > 10
    assert not [path for path in everything if b"hunter2" in path.read_bytes()]


@pytest.mark.parametrize("label", ["gru", "seasonal_naive"])
def test_a_version_loads_from_the_registry_and_forecasts_to_the_bit(pipeline, frame, models, logged, label):
    loaded = load_version(pipeline, logged[label].version)
    assert (loaded.run_id, loaded.tags["candidate"]) == (logged[label].run_id, label)
    assert_frame_equal(forecast(loaded.model, frame), forecast(models[label][0], frame), check_exact=True)


def test_the_champion_is_none_and_then_the_best_and_history_tells_it(pipeline, logged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert champion(pipeline) is None
    decision = promote(pipeline, list(logged.values()), champion_row=None, cutoffs=4)
    serving = champion(pipeline)
    assert serving is not None
    assert serving.version == decision.champion_version == logged["gru"].version
    assert serving.model.candidate == pipeline.models[1]
    table = history(pipeline)
    assert table.select("candidate", "alias", "mase", "table_version", "cutoff").rows() == [
        ("seasonal_naive", "", 1.0, 3, "2024-01-09 00:00:00+00:00"),
        ("gru", "champion", 0.5, 3, "2024-01-09 00:00:00+00:00"),
    ]
    assert list(tmp_path.iterdir()) == []  # MLflow asked no store but ours
    assert abs((table["created"][0] - datetime.now(UTC)).total_seconds()) < 600


def test_a_retrain_is_known_only_when_it_was_finished(pipeline, logged):
    key = retrain_key(pipeline, DIGEST)
    assert not known(pipeline, key)
    finish(pipeline, key, [entry.run_id for entry in logged.values()])
    assert known(pipeline, key)
    assert not known(pipeline, retrain_key(pipeline, "other rows"))


def test_the_report_page_is_logged_to_the_runs(pipeline, logged, tmp_path):
    (tmp_path / "tides.html").write_text("<h1>Tides</h1>")
    run_ids = [entry.run_id for entry in logged.values()]
    log_report(pipeline, run_ids, tmp_path / "tides.html")
    for run_id in run_ids:
        assert [file.path for file in client(pipeline).list_artifacts(run_id, "report")] == ["report/tides.html"]


def test_links_lead_to_one_run_to_several_side_by_side_or_to_all(pipeline, logged):
    one, other = (entry.run_id for entry in logged.values())
    runs_page = "http://host:5001/#/experiments/1/runs"
    assert ui_link(pipeline, one, "http://host:5001/") == f"{runs_page}/{one}?workflowType=machine_learning"
    assert ui_link(pipeline, base="http://host:5001") == f"{runs_page}?workflowType=machine_learning"
    both = unquote(compare_link(pipeline, [one, other], "http://host:5001"))
    assert both.startswith(f'http://host:5001/#/compare-runs?runs=["{one}", "{other}"]&experiments=["1"]&workflowType')


def test_a_failure_while_logging_leaves_a_failed_run_and_no_version(pipeline, frame, models, logged, monkeypatch):
    def no_space(self, folder):
        raise OSError(28, "No space left on device")

    before = history(pipeline).height
    monkeypatch.setattr(BaselineModel, "save", no_space)
    with pytest.raises(OSError, match="No space left"):
        log_candidate(
            pipeline, models["seasonal_naive"][0], row={"mase": 1.0}, trained_on=TRAINED_ON, key="k", example=frame
        )
    newest = client(pipeline).search_runs([open_store(pipeline)], "tags.retrain_key = 'k'")
    assert [run.info.status for run in newest] == ["FAILED"]
    assert history(pipeline).height == before


def die_while_logging(file: str) -> None:
    """In a process of its own: SIGKILL in the middle of writing the model."""
    pipeline, frame = parse(TEXT, file=Path(file)), tides()
    task, _ = Task.of(pipeline, frame)
    BaselineModel.save = lambda self, folder: os.kill(os.getpid(), signal.SIGKILL)
    model = BaselineModel(task, pipeline.models[0])
    log_candidate(pipeline, model, row={"mase": 1.0}, trained_on=TRAINED_ON, key="killed", example=frame)


def test_a_kill_while_logging_leaves_a_closed_run_and_an_unknown_retrain(pipeline, logged):
    before = history(pipeline).height
    code = f"import test_registry; test_registry.die_while_logging({str(pipeline.root / 'tides.yaml')!r})"
    environment = {**os.environ, "TIDES_SECRET": "hunter2"}
    died = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    experiment = open_store(pipeline)
    left = client(pipeline).search_runs([experiment], "tags.retrain_key = 'killed'")
    assert [run.info.status for run in left] == ["KILLED"]
    assert history(pipeline).height == before
    assert not known(pipeline, "killed")


def test_a_version_whose_files_are_gone_is_named_with_its_place(pipeline, frame, models):
    entry = log_candidate(
        pipeline, models["seasonal_naive"][0], row={"mase": 1.0}, trained_on=TRAINED_ON, key="gone", example=frame
    )
    source = client(pipeline).get_model_version("tides", entry.version).source
    shutil.rmtree(source)
    with pytest.raises(RegistryError, match=rf"version {entry.version} of tides .* from {source} \(No such.*retrain"):
        load_version(pipeline, entry.version)


def test_the_commit_of_the_code_is_found_in_a_checkout():
    commit = runs.code_commit()
    assert commit == "" or len(commit.removesuffix("-dirty")) == 40
