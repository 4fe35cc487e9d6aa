"""The model as MLflow carries it: loads without pickle, takes frames of every kind, answers over HTTP."""

import json
import math
import os
import pickletools
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from rnnforecast import __version__
from rnnforecast.baselines import BaselineModel
from rnnforecast.config import Pipeline, parse
from rnnforecast.forecast import forecast
from rnnforecast.promotion import promote
from rnnforecast.registry import TrainedOn, log_candidate
from rnnforecast.store import client
from rnnforecast.task import Task
from rnnforecast.training import fit
from rnnforecast.windows import split

TEXT = """
name: {name}
sources: [{{kind: file, path: "tides.csv"}}]
horizon: 6
season_length: 12
past_covariates: [wind]
models: [seasonal_naive, {{model: gru, hidden_size: 8}}]
training: {{max_steps: 10, batch_size: 4, segment_length: 24, validate_every: 10}}
"""
TRAINED_ON = TrainedOn(table_version=0, table_digest="d", cutoff=0, git_commit="")
PICKLE_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".cloudpickle", ".ckpt"}


def tides(times: pl.Series) -> pl.DataFrame:
    values = [math.sin(index / 12 * math.tau) + index / 200 for index in range(len(times))]
    wind = [math.cos(index / 5) for index in range(len(times))]
    frame = pl.DataFrame({"timestamp": times, "target": values, "wind": wind})
    return frame.select(pl.lit("pier").alias("series_id"), pl.all())


def register(pipeline: Pipeline, frame: pl.DataFrame, label: str):
    """One candidate, logged and crowned; returns the model that was logged."""
    task, panel = Task.of(pipeline, frame)
    seasonal, gru = pipeline.models
    if label == "gru":
        model = fit(task, gru, panel, split(panel, 24, 24), training=pipeline.training, progress=False).model
    else:
        model = BaselineModel(task, seasonal)
    entry = log_candidate(pipeline, model, row={"mase": 1.0}, trained_on=TRAINED_ON, key="k", example=frame)
    promote(pipeline, [entry], champion_row=None, cutoffs=1)
    return model


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def hourly(project):
    """(pipeline, frame, network) on an hourly grid."""
    pipeline = parse(TEXT.format(name="tides"), file=project / "tides.yaml")
    times = pl.datetime_range(datetime(2024, 1, 1), datetime(2024, 1, 11), "1h", time_zone="UTC", eager=True)
    frame = tides(times.cast(pl.Datetime("us", "UTC")))
    return pipeline, frame, register(pipeline, frame, "gru")


@pytest.fixture
def champion(hourly, monkeypatch):
    """The champion as any MLflow user loads it, with pickle forbidden and no warning."""
    pipeline, _, _ = hourly
    return load(pipeline, monkeypatch)


def load(pipeline: Pipeline, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(pipeline.mlflow_uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return mlflow.pyfunc.load_model(f"models:/{pipeline.name}@champion")
    finally:
        mlflow.set_tracking_uri(before)


def test_no_file_of_the_bundle_is_a_pickle_and_the_library_is_not_copied(hourly):
    pipeline, _, _ = hourly
    folder = Path(client(pipeline).get_model_version_by_alias("tides", "champion").source)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert {"MLmodel", "bundle.py", "artifacts/model/config.json", "artifacts/model/weights.safetensors"} <= set(files)
    assert [name for name in files if name.endswith(".py")] == ["bundle.py"]
    assert not [name for name in files if Path(name).suffix in PICKLE_SUFFIXES]
    assert not [name for name in files if is_pickle((folder / name).read_bytes())]
    assert (folder / "requirements.txt").read_text().split()[-1] == f"rnnforecast=={__version__}"
    assert sum((folder / name).stat().st_size for name in files) < 100_000


def is_pickle(data: bytes) -> bool:
    """By content, whatever the name: it starts as a pickle does and reads as one to its end."""
    if data[:1] != b"\x80" and data[:2] != b"PK":
        return False
    try:
        return data[:2] == b"PK" or any(code.name == "STOP" for code, _, _ in pickletools.genops(data))
    except ValueError:
        return False


def test_the_champion_gives_the_forecasts_of_the_model_that_was_logged(hourly, champion):
    _, frame, model = hourly
    answer = champion.predict(frame.to_pandas())  # times with their zone, as polars gives them
    expected = forecast(model, frame)
    assert list(answer.columns) == expected.columns
    assert len(answer) == 6
    assert list(answer["timestamp"]) == list(expected["timestamp"])
    for column in ("mean", "q0.1", "q0.5", "q0.9"):
        assert answer[column].tolist() == expected[column].to_list()


def test_times_may_be_naive_zoned_or_text_and_mean_the_same(hourly, champion):
    _, frame, _ = hourly
    utc = frame.to_pandas()
    naive = utc.assign(timestamp=utc["timestamp"].dt.tz_localize(None))
    berlin = utc.assign(timestamp=utc["timestamp"].dt.tz_convert("Europe/Berlin"))
    text = utc.assign(timestamp=utc["timestamp"].map(lambda stamp: stamp.isoformat()))
    answers = [champion.predict(data) for data in (utc, naive, berlin, text)]
    for answer in answers[1:]:
        assert answer["mean"].tolist() == answers[0]["mean"].tolist()
    first = datetime(2024, 1, 11, 1)
    assert [answer["timestamp"][0].to_pydatetime() for answer in answers] == [
        first.replace(tzinfo=UTC), first, first.replace(tzinfo=UTC), first.replace(tzinfo=UTC)
    ]  # fmt: skip


def test_horizon_and_quantile_levels_are_parameters(hourly, champion):
    _, frame, _ = hourly
    answer = champion.predict(frame.to_pandas(), params={"horizon": 2, "quantile_levels": [0.5, 0.9]})
    assert list(answer["step"]) == [1, 2]
    assert list(answer.columns) == ["series_id", "cutoff", "timestamp", "step", "mean", "q0.5", "q0.9"]
    with pytest.raises(ValueError, match="this model forecasts 1 to 6 steps, asked for 7"):
        champion.predict(frame.to_pandas(), params={"horizon": 7})


def test_the_signature_names_columns_types_and_defaults(champion):
    signature = champion.metadata.signature
    assert signature.inputs.input_names() == ["series_id", "timestamp", "target", "wind"]
    assert [str(kind) for kind in signature.inputs.input_types()] == [
        "DataType.string", "Any", "DataType.double", "DataType.double"
    ]  # fmt: skip
    assert {spec.name: spec.default for spec in signature.params.params} == {
        "horizon": 6, "quantile_levels": [0.1, 0.5, 0.9]
    }  # fmt: skip


def test_a_missing_column_is_refused_by_name(hourly, champion):
    _, frame, _ = hourly
    with pytest.raises(mlflow.MlflowException, match=r"missing inputs.*wind"):
        champion.predict(frame.drop("wind").to_pandas())


def test_gaps_and_missing_readings_are_taken(hourly, champion):
    _, frame, _ = hourly
    data = frame.to_pandas()
    data.loc[5, "target"] = np.nan
    assert champion.predict(data.drop(index=[20, 21])).notna().all(axis=None)


def test_a_baseline_on_integer_steps_is_carried_alike(project, monkeypatch):
    pipeline = parse(TEXT.format(name="counts"), file=project / "counts.yaml")
    frame = tides(pl.Series(range(1, 121), dtype=pl.Int64))
    register(pipeline, frame, "seasonal_naive")
    answer = load(pipeline, monkeypatch).predict(frame.to_pandas())
    assert answer["timestamp"].tolist() == [121, 122, 123, 124, 125, 126]
    assert answer["mean"].tolist() == pytest.approx(frame["target"][-12:-6].to_list())  # one season of 12 before


def test_the_served_champion_answers_over_http(hourly):
    """`mlflow models serve` on loopback; the library is on no index, hence `--env-manager local`."""
    pipeline, frame, model = hourly
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/tides@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": pipeline.mlflow_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    log = Path(pipeline.root) / "serve.log"
    with log.open("w") as sink:
        server = subprocess.Popen(
            command, env=environment, stdout=sink, stderr=sink, start_new_session=True, cwd=pipeline.root
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/ping", server, log)
        text = frame.with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%d %H:%M:%S"))
        split_data = {"columns": text.columns, "data": [list(row) for row in text.rows()]}
        expected = forecast(model, frame)["mean"].to_list()
        bundle = Path(client(pipeline).get_model_version_by_alias("tides", "champion").source)
        for body in (
            json.loads((bundle / "serving_input_example.json").read_text()),  # what MLflow's page shows to copy
            {"dataframe_split": split_data},
            {"dataframe_records": text.to_dicts(), "params": {"horizon": 2, "quantile_levels": [0.5]}},
        ):
            answer = post(f"http://127.0.0.1:{port}/invocations", body)["predictions"]
            assert [row["mean"] for row in answer] == pytest.approx(expected[: len(answer)], rel=1e-6)
        assert len(answer) == 2
        assert answer[0]["timestamp"].startswith("2024-01-11T01:00:00")
        assert "q0.1" not in answer[0]
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=20)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until_up(address: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the server did not come up:\n{log.read_text()}")


def post(address: str, body: dict) -> dict:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        pytest.fail(f"{error}: {error.read().decode()[:2000]}")
