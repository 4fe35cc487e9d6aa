"""The search as a flow and as a command: what MLflow gets of it, and what the terminal tells."""

import json
from pathlib import Path

import pytest
import yaml
from prefect.settings import temporary_settings
from prefect.testing.utilities import prefect_test_harness
from small_project import TEXT, project

from rnnforecast import cli, config, store, training
from rnnforecast.flows.ingest import ingest
from rnnforecast.flows.search import search as flow
from rnnforecast.search import FINISHED, REFUSED

SEARCH = """
search:
  trials: 3
  space: {hidden_size: [4, 8], bidirectional: [false, true], learning_rate: {low: 1.0e-3, high: 1.0e-2, log: true}}
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A pipeline with observations, under one real Prefect server. Tests that search it build on each other."""
    short = TEXT.replace("max_steps: 30, validate_every: 15", "max_steps: 6, validate_every: 3, accelerator: cpu")
    with prefect_test_harness(server_startup_timeout=120), temporary_settings({"flows.heartbeat_frequency": None}):
        file = project(tmp_path_factory.mktemp("search"), short + SEARCH)
        ingest(str(file))
        yield file


def runs_of(file):
    """All MLflow runs, as (those of searches, those of their trials), oldest first."""
    loaded = config.load(file)
    experiment = store.open_store(loaded)
    found = store.client(loaded).search_runs([experiment], order_by=["attributes.start_time ASC"])
    parents = [run for run in found if run.data.tags["job"] == "search"]
    return parents, [run for run in found if run.data.tags["job"] == "trial"]


def test_a_search_that_is_stopped_leaves_its_run_open_to_go_on_with(pipeline, monkeypatch):
    fitted, fit = [], training.fit

    def stopped(*given, **more):
        fitted.append(1)
        if len(fitted) == 2:
            raise KeyboardInterrupt
        return fit(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            flow(str(pipeline))
    parents, trials = runs_of(pipeline)
    assert [run.info.status for run in parents] == ["FAILED"]
    assert trials[-1].data.tags["trial_state"] == "stopped"
    done = flow(str(pipeline))
    assert len(fitted) == 2
    assert [run.info.run_id for run in runs_of(pipeline)[0]] == [parents[0].info.run_id] == [done["run_id"]]
    assert sum(row["state"] == FINISHED for row in done["trials"]) == 3


def test_every_trial_is_a_nested_run_and_the_parent_has_the_best(pipeline):
    done = flow(str(pipeline))  # nothing new is tried: what the test before found is told again
    (parent,), trials = runs_of(pipeline)
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    by_state = {}
    for run in trials:
        by_state.setdefault(run.data.tags["trial_state"], []).append(run)
    assert {state: {run.info.status for run in runs} for state, runs in by_state.items()} == {
        FINISHED: {"FINISHED"},
        REFUSED: {"KILLED"},
        "stopped": {"FAILED"},
    }
    assert "bidirectional: true with context_length: absent" in by_state[REFUSED][0].data.tags["reason"]
    assert (len(by_state[FINISHED]), len(by_state[REFUSED])) == (3, done["refused"])
    best = min(by_state[FINISHED], key=lambda run: run.data.metrics["validation_mase"])
    assert parent.data.metrics["validation_mase"] == best.data.metrics["validation_mase"] == done["trials"][0]["mase"]
    assert parent.data.params == best.data.params
    assert best.data.params["candidate.hidden_size"] == str(done["trials"][0]["hidden_size"])
    for run in (parent, *trials):
        assert {"table_version", "table_digest", "config_digest", "git_commit", "package_version"} <= set(run.data.tags)
        assert run.inputs.dataset_inputs[0].dataset.name == "tiny/observations"
    written = Path(store.client(config.load(pipeline)).download_artifacts(parent.info.run_id, "best.yaml"))
    assert written.read_text() == done["lines"]
    assert yaml.safe_load(done["lines"])["training"] == {"learning_rate": done["trials"][0]["learning_rate"]}


def test_the_command_ends_with_the_best_trials_and_the_lines_for_the_file(pipeline, capsys):
    assert cli.main(["search", str(pipeline), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["candidate"] == "gru"
    values = [row["mase"] for row in told["trials"] if row["state"] == FINISHED]
    assert values == sorted(values)
    assert len(values) == 3
    assert cli.main(["search", str(pipeline)]) == 0
    shown = capsys.readouterr()
    assert shown.out.endswith(told["lines"])
    assert f"{told['refused']} refused, 0 failed" in shown.out
    assert "tiny: search: gru: nothing new to try since the last search" in shown.err


def test_more_trials_are_a_search_of_their_own_that_goes_on_from_the_last(pipeline):
    before, _ = runs_of(pipeline)
    done = flow(str(pipeline), trials=4)
    parents, trials = runs_of(pipeline)
    assert parents[-1].data.tags["continues"] == before[-1].info.run_id
    new = [run for run in trials if run.data.tags["mlflow.parentRunId"] == done["run_id"]]
    assert sum(run.info.status == "FINISHED" for run in new) == 1
    assert sum(row["state"] == FINISHED for row in done["trials"]) == 4


def test_a_wrong_name_is_told_before_anything_starts(pipeline, capsys):
    assert cli.main(["search", str(pipeline), "--candidate", "gruu"]) == 1
    assert capsys.readouterr().err == (
        "error: models: expected a network, one of ['gru']; found 'gruu'; did you mean `gru`?\n"
    )
    assert cli.main(["search", str(pipeline), "--trials", "0"]) == 2
    assert "--trials" in capsys.readouterr().err
