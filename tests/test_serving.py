"""What runs the flows: deployments with their schedules, and servers that end when they should."""

import importlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.settings import temporary_settings
from small_project import TEXT, project

from rnnforecast import config
from rnnforecast.flows import serve, servers

ROOT = Path(__file__).resolve().parents[1]


def test_a_job_without_a_schedule_is_deployed_but_not_scheduled(tmp_path):
    file = project(tmp_path, TEXT + "schedules: {ingest: '5 * * * *'}\n")
    made = {each.name: each for each in serve.deployments(file)}
    assert set(made) == {"tiny-ingest", "tiny-retrain", "tiny-forecast", "tiny-upkeep"}
    assert [each.schedule.cron for each in made["tiny-ingest"].schedules] == ["5 * * * *"]
    assert not made["tiny-retrain"].schedules
    assert made["tiny-ingest"].entrypoint == "rnnforecast.flows.ingest.ingest"
    assert made["tiny-ingest"].parameters == {"pipeline": str(file), "project": None}


def test_prefect_yaml_deploys_the_shipped_pipelines_as_they_say_themselves():
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    expected = {}
    for file in (ROOT / "flows" / "pipelines").glob("*.yaml"):
        loaded = config.load(file)
        for job in serve.JOBS:
            path = file.relative_to(ROOT).as_posix()
            cron = [{"cron": getattr(loaded.schedules, job), "timezone": "UTC"}]
            expected[f"{loaded.name}-{job}"] = (f"rnnforecast.flows.{job}.{job}", {"pipeline": path}, cron)
    assert {d["name"]: (d["entrypoint"], d["parameters"], d["schedules"]) for d in listed} == expected
    for entrypoint, _, _ in expected.values():
        module, _, name = entrypoint.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), Flow)
    assert {d["work_pool"]["name"] for d in listed} == {"rnnforecast"}


@pytest.mark.parametrize("name", ["climate", "finance", "signal"])
def test_the_shipped_pipelines_load_and_name_their_schedules(name):
    loaded = config.load(ROOT / "flows" / "pipelines" / f"{name}.yaml")
    assert loaded.name == name
    assert loaded.root == ROOT
    assert all(getattr(loaded.schedules, job) for job in serve.JOBS)
    assert {candidate.model for candidate in loaded.models} >= {"naive", "seasonal_naive", "gru", "lstm", "seq2seq"}


def is_refused(address):
    """Nobody listens there any more; while a server ends, it may reset a connection instead."""
    try:
        urllib.request.urlopen(address, timeout=1)
    except OSError as error:
        return "refused" in str(error)
    return False


def test_a_server_ends_with_the_process_that_started_it_even_if_that_is_killed():
    code = (
        "import sys\nfrom rnnforecast.flows.servers import Server, free_port\n"
        "port = free_port()\n"
        "server = Server('files', [sys.executable, '-m', 'http.server', '--bind', '127.0.0.1', str(port)],\n"
        "                f'http://127.0.0.1:{port}', health='/', env={}).ready()\n"
        "print(server.address, flush=True)\nimport time\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        address = parent.stdout.readline().strip()
        assert servers.answers(address)
        os.kill(parent.pid, signal.SIGKILL)
    for _ in range(100):
        if is_refused(address):
            break
        signal.sigtimedwait([], 0.1)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=1)


def test_a_server_that_does_not_start_says_its_last_words():
    command = [sys.executable, "-c", "raise SystemExit('no room at the inn')"]
    with (
        servers.Server("Inn", command, "http://127.0.0.1:9", health="/", env={}) as server,
        pytest.raises(servers.ServerError, match="last words: no room at the inn"),
    ):
        server.ready()


def test_the_server_that_serves_schedules_runs(tmp_path):
    """Prefect 3.8.8 with SQLAlchemy 2.1 deploys, and then never schedules anything."""
    file = project(tmp_path, TEXT + "schedules: {ingest: '5 * * * *'}\n")
    with servers.environment({"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_SERVER_DATABASE_CONNECTION_URL": ""}):
        os.environ.pop("PREFECT_SERVER_DATABASE_CONNECTION_URL")
        server = servers.prefect_server(pages=True)
    with server, temporary_settings({"api.url": f"{server.ready().address}/api"}):
        for each in serve.deployments(file):
            each.apply()
        with get_client(sync_client=True) as client:
            for _ in range(100):
                runs = client.read_flow_runs()
                if runs:
                    break
                time.sleep(0.2)
    assert {run.state.name for run in runs} == {"Scheduled"}
    assert {run.expected_start_time.minute for run in runs} == {5}
