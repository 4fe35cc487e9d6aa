"""The command: what it prints where, how it ends, and that its JSON stands alone."""

import json
import subprocess
import sys
import time

import pytest
from small_project import TEXT, project

from rnnforecast import __version__, cli, cli_demo, cli_show, config


def command(*arguments, cwd):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "rnnforecast.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    return done, time.monotonic() - started


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run in a project folder, started from elsewhere, with a Prefect home of its own."""
    folder = tmp_path_factory.mktemp("cli")
    file = project(folder / "project", TEXT.replace(", {model: gru, hidden_size: 8}", ""))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        patch.delenv("PREFECT_API_URL", raising=False)
        yield file, elsewhere, command("run", file, "--json", cwd=elsewhere)[0]


def test_help_is_quick_and_lists_the_commands(tmp_path):
    done, seconds = command("--help", cwd=tmp_path)
    assert done.returncode == 0
    listed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ ")}
    assert {"init", "run", "ingest", "retrain", "forecast", "serve", "ui", "demo", "schema"} <= listed
    assert {"leaderboard", "models", "versions", "table", "rollback"} <= listed
    assert seconds < 3  # a busy machine; alone it takes 0.4


def test_json_stands_alone_on_standard_output_and_the_steps_on_standard_error(ran):
    _, elsewhere, done = ran
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ingest"]["inserted"] == 400
    lines = [line for line in done.stderr.splitlines() if "tiny: " in line]
    assert any("ingest: 400 rows read: 400 new rows" in line for line in lines)
    assert any("champion v" in line for line in lines)
    assert len(lines) == len(done.stderr.splitlines()) <= 12  # one line a step, and nothing of Prefect's own
    assert not list(elsewhere.iterdir())  # relative paths count from the project


def test_looking_needs_no_prefect_and_prints_tables_or_json(ran, capsys):
    file, _, done = ran
    told = json.loads(done.stdout)
    assert cli.main(["leaderboard", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told["leaderboard"]
    assert cli.main(["versions", str(file)]) == 0
    assert "champion" in capsys.readouterr().out
    assert cli.main(["table", str(file), "--rows", "3", "--series", "a", "--json"]) == 0
    assert [row["timestamp"] for row in json.loads(capsys.readouterr().out)] == [
        "2024-01-09T05:00:00+00:00",
        "2024-01-09T06:00:00+00:00",
        "2024-01-09T07:00:00+00:00",
    ]
    assert cli.main(["table", str(file), "forecasts", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 12
    assert cli.main(["table", str(file), "quarantine"]) == 0
    assert "nothing yet" in capsys.readouterr().out


def test_a_rollback_without_a_former_champion_is_refused_in_one_line(ran, capsys):
    assert cli.main(["rollback", str(ran[0])]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "no previous champion" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.replace("horizon", "horizont"), "unknown key; did you mean `horizon`?"),
        (TEXT.replace("horizon: 6", "horizon: 0"), "horizon: "),
        ("[1, 2", "not YAML"),
    ],
)
def test_a_broken_pipeline_file_is_told_without_a_traceback_and_at_once(text, said, tmp_path, capsys):
    file = tmp_path / "tiny.yaml"
    file.write_text(text)
    started = time.monotonic()
    assert cli.main(["run", str(file)]) == 1
    assert time.monotonic() - started < 2  # no server was started for it
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert cli.main(["run", str(file), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_error_inside_a_flow_ends_the_command_with_one_line_too(ran, tmp_path):
    file = project(tmp_path)
    (tmp_path / "readings.csv").write_text("")
    done, _ = command("ingest", file, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: readings.csv: the file is empty")
    assert done.stderr.count("\n") == 1


def test_a_wrong_option_and_a_wrong_table_are_told(tmp_path, capsys):
    file = project(tmp_path)
    assert cli.main(["run", str(file), "--nope"]) == 2
    assert "--nope" in capsys.readouterr().err
    assert cli.main(["table", str(file), "nothing"]) == 1
    assert (
        "expected one of observations, quarantine, forecasts, ingests, stale; found 'nothing'"
        in capsys.readouterr().err
    )
    assert cli.main(["ingest", str(file), "--until", "soon"]) == 1
    assert "--until soon: expected an ISO time" in capsys.readouterr().err


def test_init_writes_a_pipeline_file_that_loads_and_never_over_another(tmp_path, capsys):
    project(tmp_path)
    mine = tmp_path / "my readings.yaml"
    assert cli.main(["init", str(mine), "--file", str(tmp_path / "readings.csv")]) == 0
    loaded = config.load(mine)
    assert loaded.name == "my-readings"
    assert loaded.sources[0].columns.series_id == "sensor"
    assert capsys.readouterr().out == mine.read_text()
    assert cli.main(["init", str(mine), "--file", str(tmp_path / "readings.csv")]) == 1
    assert "is there already" in capsys.readouterr().err


def test_schema_and_version_print_what_they_say(capsys):
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == config.json_schema()
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_models_lists_every_part_preset_and_refusal(capsys):
    assert cli.main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "rnn | lstm | gru" in shown
    assert "deepar" in shown
    assert "bidirectional without context_length" in shown
    assert "bidirectional: true with decoder: autoregressive" in shown
    assert cli.main(["models", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [part["key"] for part in told["parts"]] == list(config.Parts.model_fields)
    assert all(part["choices"] and part["meaning"] for part in told["parts"])
    ranges = {part["key"]: (part["choices"], part["default"]) for part in told["parts"]}
    assert ranges["dropout"] == ("0 to below 1", "0.0")
    assert ranges["context_length"] == ("2 or more | absent", "absent")
    assert ranges["lags"] == ("[1, 24, ...] | seasons | cycles", "seasons")
    assert [preset["model"] for preset in told["presets"]] == list(config.NETWORKS)
    for preset in told["presets"]:
        assert config.refusals(config.Parts(**preset["parts"])) == []
    assert {"bidirectional": True, "context_length": None, "because": ["bidirectional without context_length"]} in told[
        "pairs_apart"
    ]


def test_models_takes_no_pipeline_and_says_what_lists_its_versions(tmp_path, capsys):
    assert cli.main(["models", str(project(tmp_path))]) == 2
    assert cli.main(["models", "--help"]) == 0
    assert "versions" in capsys.readouterr().out


def test_the_demo_knows_its_pipelines_and_refuses_others():
    assert [file.stem for file in cli_demo.shipped([])] == ["climate", "finance", "signal"]
    assert [file.stem for file in cli_demo.shipped(["signal"])] == ["signal"]
    with pytest.raises(config.ConfigError, match="expected one of climate, finance, signal; found 'weather'"):
        cli_demo.shipped(["weather"])


def test_json_has_no_nan_and_cells_are_short():
    assert cli_show.plain({"a": float("nan"), "b": [1.5, None, "x"]}) == {"a": None, "b": [1.5, None, "x"]}
    assert [cli_show.cell(value) for value in (None, 0.123456, 123456.7, 3)] == ["-", "0.1235", "123,457", "3"]
