"""Servers on this machine: Prefect's and MLflow's, as children that end with the command that started them."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

HOST: Final = "127.0.0.1"
PREFECT_PORT: Final = 4200
MLFLOW_PORT: Final = 5000
READY_SECONDS: Final = 120.0
NO_TELEMETRY: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class ServerError(ValueError):
    """A server could not be started; the message says which and what it said."""


class Server:
    """A server as a child process; as a context it ends with it. `ready()` waits until it answers."""

    def __init__(self, name: str, command: Sequence[str], address: str, *, health: str, env: Mapping[str, str]) -> None:
        self.name, self.address, self.health = name, address, f"{address}{health}"
        self.said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the server)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rnnforecast.flows.watchdog", *command],
            stdin=subprocess.PIPE,
            stdout=self.said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **{key: value for key, value in NO_TELEMETRY.items() if key not in os.environ}, **env},
        )

    def ready(self) -> Self:
        """Wait until the server answers. Raises ServerError, with its last words, if it does not."""
        deadline = time.monotonic() + READY_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if answers(self.health):
                return self
            time.sleep(0.05)
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        self.stop()
        raise ServerError(f"{self.name}: the server at {self.address} did not start; its last words: {last}")

    def stop(self) -> None:
        """Close the lifeline and wait for the end."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.said.close()


def wait(servers: Sequence[Server]) -> None:
    """Wait until interrupted. Raises ServerError if one of the servers ends by itself."""
    while True:
        for server in servers:
            if server.process.poll() is not None:
                raise ServerError(f"{server.name}: the server at {server.address} has ended by itself")
        time.sleep(0.5)


def answers(url: str) -> bool:
    """Whether a health page answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def free_port(wanted: int | None = None) -> int:
    """`wanted` where it is free on the loopback, else any free port."""
    for port in (wanted, 0):
        if port is None:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError(f"no free port on {HOST}; close a server, or set the port by hand")


def prefect_server(*, pages: bool) -> Server:
    """Prefect's server; `pages`: with its pages and scheduler, else only what one command needs to run its flows."""
    port = free_port(PREFECT_PORT if pages else None)
    address = f"http://{HOST}:{port}"
    command = [sys.executable, "-P", "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    env = {"PREFECT_SERVER_UI_API_URL": f"{address}/api"}
    if not pages:
        command.append("--no-ui")
        services = ("SCHEDULER", "LATE_RUNS", "FOREMAN", "CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "REPOSSESSOR")
        env = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in services}
        env["PREFECT_API_BLOCKS_REGISTER_ON_START"] = "false"  # seconds, at the first start
    return Server("Prefect", command, address, health="/api/health", env=env)


def mlflow_server(uri: str, artifacts: str) -> Server:
    """MLflow's server on a store. Raises ServerError where a SQLite store is not there yet."""
    file = uri.removeprefix("sqlite:///")
    if file != uri and not Path(file).exists():
        raise ServerError(f"{file}: there is no MLflow store yet; run a pipeline first, or name a pipeline file")
    port = free_port(MLFLOW_PORT)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--artifacts-destination", artifacts]
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Server("MLflow", command, f"http://{HOST}:{port}", health="/health", env=env)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for a while."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
