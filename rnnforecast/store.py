"""The MLflow store of a pipeline: made once, atomically; opened by everything that logs or looks up.

`open_store(pipeline)` is the first thing that a job calls: it says in one line what is not writable, before
anything is written. `client(pipeline)` is MLflow's client of that store; no global tracking URI is set anywhere.
"""

import fcntl
import logging
import os
import re
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

# MLflow reads these: no telemetry, no progress bars, no addresses on standard output, no search for a uv project.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event
from sqlalchemy.engine import Engine

from rnnforecast.config import Pipeline

if "MLFLOW_LOGGING_LEVEL" not in os.environ:
    logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

SQLITE: Final = "sqlite:///"
IMPORTED: Final = time.time()
HEALTH_SECONDS: Final = 10

KIND: Final = {"mlflow.experimentKind": "custom_model_development"}  # not agents
HOST_TAG: Final = "host"
PROCESS_TAG: Final = "process"


class RegistryError(ValueError):
    """The MLflow store cannot be used as asked; the message names the place and the remedy."""


def client(pipeline: Pipeline) -> MlflowClient:
    """MLflow's client of the pipeline's store. Left to itself MLflow would make a missing one here, step by step."""
    if pipeline.mlflow_uri.startswith(SQLITE) and not Path(pipeline.mlflow_uri.removeprefix(SQLITE)).exists():
        open_store(pipeline)
    return MlflowClient(tracking_uri=pipeline.mlflow_uri, registry_uri=pipeline.mlflow_uri)


def open_store(pipeline: Pipeline) -> str:
    """Make the store and the experiment `pipeline.name` if they are not there; returns the experiment's id.

    Raises RegistryError, in one line, naming the path and why, if the store or the artifacts cannot be written;
    nothing is written then. Runs that a dead process of this host left RUNNING are closed as KILLED.
    """
    uri = pipeline.mlflow_uri
    if uri.startswith(("http://", "https://")):
        _must_answer(uri)
    else:
        _must_be_writable(pipeline)
        if uri.startswith(SQLITE):
            _make_once(Path(uri.removeprefix(SQLITE)), pipeline.resolve(pipeline.storage.artifacts))
    try:
        experiment = _experiment(pipeline)
        _close_dead_runs(client(pipeline), experiment)
    except RegistryError:
        raise
    except Exception as error:  # MLflow's, SQLAlchemy's or the driver's: all mean that the store is of no use
        raise RegistryError(
            f"{hidden(uri)}: MLflow cannot open this store ({hidden(_first_line(error))}); repair it, or set "
            "storage.mlflow to another place"
        ) from None
    return experiment


def _must_answer(uri: str) -> None:
    """Ask the server for a sign of life: MLflow's own client would retry for minutes."""
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=HEALTH_SECONDS).close()
    except urllib.error.HTTPError:
        return  # somebody answers: what it refuses, MLflow will say
    except (OSError, ValueError) as error:
        raise RegistryError(
            f"{hidden(uri)}: the MLflow server does not answer ({error}); start it, or set storage.mlflow "
            "to a SQLite file"
        ) from None


def _must_be_writable(pipeline: Pipeline) -> None:
    """The SQLite file and its folder (for the journal), and the artifacts' folder."""
    if pipeline.mlflow_uri.startswith(SQLITE):
        file = Path(pipeline.mlflow_uri.removeprefix(SQLITE))
        _try_writing("storage.mlflow", file, folder=file.parent)
    artifacts = pipeline.resolve(pipeline.storage.artifacts)
    if "://" not in artifacts:
        _try_writing("storage.artifacts", Path(artifacts), folder=Path(artifacts))


def _try_writing(key: str, path: Path, *, folder: Path) -> None:
    """Open a nameless file in `folder`, or in the nearest folder above it that exists; asking would not do for root."""
    place = folder
    try:
        while not place.exists():
            place = place.parent
        tempfile.TemporaryFile(dir=place).close()
        if path != folder and path.exists():
            place = path
            path.open("r+b").close()
    except OSError as error:
        raise RegistryError(
            f"{path}: cannot write in {place} ({error.strerror}); give yourself the right to write there, "
            f"or set {key} in the pipeline file to another place"
        ) from None


def _make_once(file: Path, artifacts: str) -> None:
    """Let MLflow make its tables in a file beside, then rename it: there is a whole store or none.

    The lock on the folder ends with the process that holds it, however it ends, and leaves nothing behind.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        return
    with _locked(file.parent):
        if file.exists():
            return
        for leftover in file.parent.glob(f"{file.name}.new*"):
            leftover.unlink()
        new = file.with_name(f"{file.name}.new")
        with _disk_can_wait():
            SqlAlchemyStore(f"{SQLITE}{new}", artifacts).engine.dispose()
        with new.open("rb") as whole:
            os.fsync(whole.fileno())
        new.replace(file)


@contextmanager
def _disk_can_wait() -> Iterator[None]:
    """SQLite without a wait for the disk at each of the thousand statements of MLflow's migrations: a file that is not
    whole is thrown away. Three times faster on a busy disk."""

    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _experiment(pipeline: Pipeline) -> str:
    """The id of the experiment `pipeline.name`; made with an absolute artifact location where no server decides it."""
    mlflow = client(pipeline)
    local = not pipeline.mlflow_uri.startswith(("http://", "https://"))
    location = pipeline.resolve(pipeline.storage.artifacts) if local else None
    experiment = mlflow.get_experiment_by_name(pipeline.name)
    if experiment is None:
        try:
            return mlflow.create_experiment(pipeline.name, artifact_location=location, tags=KIND)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return _experiment(pipeline)  # another process was a moment faster
    shown = hidden(pipeline.mlflow_uri)
    if experiment.lifecycle_stage != "active":
        raise RegistryError(
            f"{shown}: the experiment {pipeline.name} was deleted; bring it back with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or rename the pipeline"
        )
    if location is not None and experiment.artifact_location != location:
        raise RegistryError(
            f"{shown}: the experiment {pipeline.name} keeps its artifacts in {experiment.artifact_location}, the "
            f"pipeline wants {location}; MLflow cannot move them (was the project moved or copied?): set "
            "storage.artifacts back, or storage.mlflow to a new file"
        )
    return experiment.experiment_id


def process() -> str:
    """This process, told from one of the same number before it (containers start counting anew)."""
    return f"{os.getpid()}@{IMPORTED:.3f}"


def _close_dead_runs(mlflow: MlflowClient, experiment: str) -> None:
    """What a killed process of this host left RUNNING is KILLED; another host's runs are not ours to judge."""
    running = mlflow.search_runs(
        [experiment], f"attributes.status = 'RUNNING' and tags.{HOST_TAG} = '{socket.gethostname()}'"
    )
    for run in running:
        if not _alive(run.data.tags.get(PROCESS_TAG, "0")):
            mlflow.set_terminated(run.info.run_id, status="KILLED")


def _alive(tag: str) -> bool:
    pid = int(tag.partition("@")[0])
    if pid == os.getpid() or pid == 0:
        return tag == process()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def hidden(text: str) -> str:
    """The text without the user and password of any address in it."""
    return re.sub(r"//[^@/\s]*@", "//***@", text)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
