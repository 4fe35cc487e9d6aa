"""The MLflow store: whole or absent, one-line errors, dead runs closed."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from rnnforecast import store
from rnnforecast.config import Pipeline, parse
from rnnforecast.store import RegistryError, client, open_store

OPEN = """
import sys
from pathlib import Path
from rnnforecast.config import parse
from rnnforecast.store import open_store
{before}
print(open_store(parse({text!r}, file=Path({file!r}))))
"""
AS_AN_ORDINARY_USER = "import os; os.geteuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))"  # from root


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A project whose store is there; each test takes an experiment of its own in it."""
    folder = tmp_path_factory.mktemp("project")
    open_store(pipeline_in(folder))
    return folder


def pipeline_in(folder: Path, name: str = "tides", **storage: str) -> Pipeline:
    lines = [f"  {key}: {value}" for key, value in storage.items()]
    text = "\n".join([f"name: {name}", "sources: [{kind: dataset, name: co2}]", "horizon: 4", "storage:", *lines])
    return parse(text if lines else text.removesuffix("\nstorage:"), file=folder / "tides.yaml")


def in_another_process(pipeline: Pipeline, before: str = "") -> subprocess.Popen:
    code = OPEN.format(before=before, text=pipeline.text, file=str(pipeline.root / "tides.yaml"))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_store_and_the_experiment_are_made_once_with_an_absolute_artifact_location(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pipeline = pipeline_in(tmp_path / "my project")
    first = open_store(pipeline)
    assert open_store(pipeline) == first
    experiment = client(pipeline).get_experiment(first)
    assert (experiment.name, experiment.artifact_location) == ("tides", str(tmp_path / "my project/mlflow/artifacts"))
    assert [path.name for path in (tmp_path / "my project/mlflow").iterdir()] == ["mlflow.db"]
    assert list((tmp_path / "elsewhere").iterdir()) == []  # nothing lands where the command happens to run


def test_a_made_store_is_whole_and_what_is_written_to_it_later_reaches_the_disk(made):
    file = made / "mlflow/mlflow.db"
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with create_engine(f"sqlite:///{file}").connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL: the making alone did not wait


def test_a_look_up_makes_no_half_store(tmp_path):
    pipeline = pipeline_in(tmp_path)
    assert client(pipeline).get_experiment_by_name("tides") is not None


def test_two_processes_at_once_get_one_store(tmp_path):
    pipeline = pipeline_in(tmp_path)
    both = [in_another_process(pipeline), in_another_process(pipeline)]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0] == f"{open_store(pipeline)}\n"
    assert answers[0][1] == answers[1][1] == ""  # no chatter


def test_a_kill_while_the_tables_are_made_leaves_no_broken_store(tmp_path):
    pipeline = pipeline_in(tmp_path)
    process = in_another_process(pipeline)
    new, file = tmp_path / "mlflow/mlflow.db.new", tmp_path / "mlflow/mlflow.db"
    while process.poll() is None and not (new.exists() and new.stat().st_size > 0):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert new.exists()
    assert not file.exists()
    open_store(pipeline)
    assert [path.name for path in (tmp_path / "mlflow").iterdir()] == ["mlflow.db"]
    assert sqlite3.connect(file).execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_place_below_a_file_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    pipeline = pipeline_in(tmp_path, artifacts="notes.txt/artifacts")
    with pytest.raises(RegistryError, match=r"notes.txt/artifacts: cannot write in .*notes.txt \(Not a dir.*artifacts"):
        open_store(pipeline)
    assert not (tmp_path / "mlflow").exists()


def test_a_folder_of_somebody_else_is_refused_in_one_line():
    folder = Path(tempfile.mkdtemp(prefix="rnnforecast-"))
    folder.chmod(0o555)
    try:
        _, errors = in_another_process(pipeline_in(folder), before=AS_AN_ORDINARY_USER).communicate(timeout=60)
        written = list(folder.iterdir())
    finally:
        folder.rmdir()
    last = errors.strip().splitlines()[-1]
    assert f"{folder}/mlflow/mlflow.db: cannot write in {folder} (Permission denied)" in last
    assert "set storage.mlflow in the pipeline file to another place" in last
    assert written == []


def test_a_file_that_is_no_store_is_left_alone_and_named(tmp_path):
    (tmp_path / "mlflow").mkdir()
    file = tmp_path / "mlflow/mlflow.db"
    file.write_text("a diary, not a database" * 100)
    with pytest.raises(RegistryError, match=r"mlflow.db: MLflow cannot open this store \(.*not a database.*\); repair"):
        open_store(pipeline_in(tmp_path))
    assert file.read_text() == "a diary, not a database" * 100


def test_a_server_that_does_not_answer_is_named_at_once_and_without_its_password(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipeline = pipeline_in(tmp_path, mlflow=f"http://me:secret@127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(
        RegistryError, match=rf"http://\*\*\*@127.0.0.1:{port}: the MLflow server does not answer"
    ) as error:
        open_store(pipeline)
    assert time.monotonic() - started < 10
    assert "secret" not in str(error.value)


def test_a_copied_project_does_not_write_into_the_original(made, tmp_path):
    shutil.copytree(made, tmp_path / "two")
    with pytest.raises(RegistryError, match=r"keeps its artifacts in .*/project.* the pipeline wants .*/two/"):
        open_store(pipeline_in(tmp_path / "two"))


def test_a_deleted_experiment_is_named_with_the_way_back(made):
    pipeline = pipeline_in(made, "deleted")
    number = open_store(pipeline)
    client(pipeline).delete_experiment(number)
    with pytest.raises(RegistryError, match=rf"experiment deleted was deleted; .* restore --experiment-id {number}"):
        open_store(pipeline)


def test_runs_of_dead_processes_of_this_host_are_closed_and_no_others(made):
    pipeline = pipeline_in(made, "runs")
    experiment, mlflow = open_store(pipeline), client(pipeline)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = socket.gethostname()
    cases = {
        "dead": ({"host": here, "process": f"{gone.pid}@1.000"}, "KILLED"),
        "our number, before us": ({"host": here, "process": f"{os.getpid()}@1.000"}, "KILLED"),
        "ours": ({"host": here, "process": store.process()}, "RUNNING"),
        "parent's": ({"host": here, "process": f"{os.getppid()}@1.000"}, "RUNNING"),
        "another host's": ({"host": "elsewhere", "process": f"{gone.pid}@1.000"}, "RUNNING"),
    }
    runs = {name: mlflow.create_run(experiment, tags=tags).info.run_id for name, (tags, _) in cases.items()}
    open_store(pipeline)
    assert {name: mlflow.get_run(run).info.status for name, run in runs.items()} == {
        name: status for name, (_, status) in cases.items()
    }


def test_mlflow_sends_nothing_home():
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert is_telemetry_disabled()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
