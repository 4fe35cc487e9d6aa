"""The flows, end to end on a small file: the first run does everything, a second nothing, new rows what is new."""

import importlib
import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.settings import temporary_settings
from prefect.testing.utilities import prefect_test_harness
from small_project import START, TEXT, project, write_rows

from rnnforecast import config, registry, table
from rnnforecast.fitted import FittedError
from rnnforecast.flows import forecast, ingest, jobs, pages, pipeline, replay, retrain, study, upkeep
from rnnforecast.forecast import ForecastError
from rnnforecast.learner import Learner
from rnnforecast.sources import SourceError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _prefect():
    """One real Prefect server for all tests here; no heartbeats, each of which makes a run end a second later."""
    with prefect_test_harness(server_startup_timeout=120), temporary_settings({"flows.heartbeat_frequency": None}):
        yield


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """A pipeline that ran once: its file and what the flow returned. Tests that change it come last in this file."""
    file = project(tmp_path_factory.mktemp("first"))
    return file, pipeline.pipeline(str(file))


def versions(file):
    loaded = config.load(file)
    return {name: table.version(loaded.table(name)) for name in ("observations", "quarantine", "forecasts")}


def test_every_flow_of_the_package_is_a_flow_and_not_a_placeholder():
    for name in ("ingest", "retrain", "forecast", "upkeep", "pipeline", "replay", "search"):
        flow = getattr(importlib.import_module(f"rnnforecast.flows.{name}"), name)
        assert isinstance(flow, Flow)
        assert flow.name == name
        assert "pipeline" in flow.parameters.properties


def test_the_first_run_ingests_trains_promotes_forecasts_and_reports(first_run):
    file, done = first_run
    loaded = config.load(file)
    assert done["ingest"]["inserted"] == 400
    assert {row["model"] for row in done["leaderboard"]} == {"naive", "seasonal_naive", "gru"}
    assert done["champion"] == registry.champion(loaded).version
    assert done["forecast"]["written"] == 2 * 6
    assert Path(done["report"]).read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    stored = table.read(loaded.table("forecasts"))
    assert stored["model"].unique().to_list() == [f"tiny/{done['champion']}"]
    assert stored["cutoff"].unique().to_list() == [START + timedelta(hours=199)]
    assert stored["step"].unique().sort().to_list() == [1, 2, 3, 4, 5, 6]


def test_the_first_run_leaves_the_page_that_a_later_one_would_be(first_run):
    """The retrain writes it, and the forecasts that follow change nothing on it: once is enough."""
    file, done = first_run
    left = Path(done["report"]).read_text(encoding="utf-8")
    pages.write(config.load(file))
    assert Path(done["report"]).read_text(encoding="utf-8") == left


def test_the_champion_is_the_best_of_the_leaderboard(first_run):
    _, done = first_run
    best = min(done["leaderboard"], key=lambda row: row["mase"])
    assert done["leaderboard"][0] == best
    assert done["decision"].startswith(f"{best['model']}: mase")


def test_a_second_run_has_no_new_rows_no_new_version_no_training_and_no_second_forecast(first_run, monkeypatch):
    file, done = first_run
    before, runs = versions(file), len(registry.history(config.load(file)))
    monkeypatch.setattr(retrain, "fit", lambda *_: pytest.fail("nothing is new, so nothing may be trained"))
    again = pipeline.pipeline(str(file))
    assert (again["ingest"]["read"], again["ingest"]["inserted"]) == (0, 0)
    assert again["forecast"]["written"] == 0
    assert versions(file) == before
    assert len(registry.history(config.load(file))) == runs
    assert again["leaderboard"] == done["leaderboard"]


def test_runs_say_what_they_do_and_leave_the_leaderboard_and_links_as_artifacts(first_run):
    with get_client(sync_client=True) as client:
        names = {run.name for run in client.read_flow_runs()}
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts()}
    assert {"tiny: pipeline", "tiny: ingest", "tiny: retrain on table v0", "tiny: forecast on table v0"} <= names
    board = json.loads(artifacts["tiny-leaderboard"].data)
    assert {row["model"] for row in board} == {"naive", "seasonal_naive", "gru"}
    counts = json.loads(artifacts["tiny-ingest"].data)[0]
    assert counts["read"] == counts["inserted"] == 400
    assert "400 rows read: 400 new rows" in artifacts["tiny-quality"].data
    links = artifacts["tiny-report"].data
    assert pages.page_of(config.load(first_run[0])).as_uri() in links
    assert registry.champion(config.load(first_run[0])).run_id in links


def test_a_forecast_can_be_exported_and_another_suffix_is_refused(first_run, tmp_path):
    file, _ = first_run
    for name in ("out.parquet", "out.csv"):
        done = forecast.forecast(str(file), output=str(tmp_path / name))
        assert done["written"] == 0
        read = pl.read_parquet if name.endswith("parquet") else pl.read_csv
        assert len(read(tmp_path / name)) == 12
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.csv", "out.parquet"]
    with pytest.raises(ForecastError, match=r"out\.xlsx: expected a name that ends in \.parquet or \.csv"):
        forecast.forecast(str(file), output=str(tmp_path / "out.xlsx"))


def test_a_series_that_is_named_like_a_formula_is_text_in_an_exported_file(tmp_path):
    frame = pl.DataFrame({"series_id": ["=cmd|' /C calc'!A0", "-5", "plain"], "mean": [1.0, -2.0, 3.0]})
    for suffix in ("csv", "parquet"):
        forecast.export(frame, tmp_path / f"x.{suffix}")
    assert pl.read_parquet(tmp_path / "x.parquet").equals(frame)
    written = pl.read_csv(tmp_path / "x.csv")
    assert written["series_id"].to_list() == ["'=cmd|' /C calc'!A0", "'-5", "plain"]
    assert written["mean"].to_list() == [1.0, -2.0, 3.0]


def test_force_trains_all_anew_and_a_challenger_that_is_only_equal_stays_challenger(tmp_path, monkeypatch):
    file = project(tmp_path)
    first = pipeline.pipeline(str(file))
    fitted, fit = [], retrain.fit

    def counted(loaded, candidate, *more):
        fitted.append(candidate.label)
        return fit(loaded, candidate, *more)

    monkeypatch.setattr(retrain, "fit", counted)
    again = retrain.retrain(str(file), force=True)
    assert fitted == ["naive", "seasonal_naive", "gru"]
    assert again["champion"] == first["champion"]
    assert "does not beat champion" in again["decision"]
    aliases = {row["alias"] for row in registry.history(config.load(file)).to_dicts()}
    assert {"champion", "challenger"} <= aliases


def test_a_retrain_that_was_interrupted_goes_on_with_the_candidates_it_had(tmp_path, monkeypatch):
    file = project(tmp_path, TEXT.replace("{model: gru, hidden_size: 8}", "auto_theta"))
    ingest.ingest(str(file))
    fitted, fit = [], retrain.fit

    def until_killed(loaded, candidate, *more):
        if candidate.label == "auto_theta" and len(fitted) < 3:
            fitted.append("killed")
            raise KeyboardInterrupt
        fitted.append(candidate.label)
        return fit(loaded, candidate, *more)

    monkeypatch.setattr(retrain, "fit", until_killed)
    with pytest.raises(KeyboardInterrupt):
        retrain.retrain(str(file))
    assert study.finished(config.load(file)) is None
    assert len(retrain.retrain(str(file))["leaderboard"]) == 3
    assert fitted == ["naive", "seasonal_naive", "killed", "auto_theta"]


def test_a_combination_is_made_of_the_others_wherever_it_stands_and_serves_like_them(tmp_path):
    text = TEXT.replace("[naive, seasonal_naive,", "[combination, naive,")
    done = pipeline.pipeline(str(project(tmp_path, text)))
    loaded = config.load(tmp_path / "tiny.yaml")
    assert len(done["leaderboard"]) == 3
    work = study.recall(study.finished(loaded))
    kept = study.kept_model(work.place(work.candidate("combination")))
    assert {each.candidate.kind for each in kept.members} == {"network", "baseline"}
    results = {result.label: result.scored for result in pages.results(work)}
    medians = [results[each.candidate.label]["q0.5"] for each in kept.members]
    parts = [median * weight for median, weight in zip(medians, kept.weights, strict=True)]
    expected = sum(parts[1:], parts[0]) / sum(kept.weights)
    assert results["combination"]["q0.5"].to_numpy() == pytest.approx(expected.to_numpy())
    setting = study.setting(work)
    again = kept.forecast_at(setting.panel, setting.cutoffs)["q0.5"].to_numpy()
    assert again == pytest.approx(expected.to_numpy(), rel=1e-5)
    version = next(row for row in registry.history(loaded).to_dicts() if row["candidate"] == "combination")
    served = registry.load_version(loaded, str(version["version"])).model
    assert served.forecast_at(setting.panel, setting.panel.last).equals(
        kept.forecast_at(setting.panel, setting.panel.last)
    )
    assert pipeline.pipeline(str(tmp_path / "tiny.yaml"))["decision"] == done["decision"]


def test_a_candidate_that_this_data_is_not_for_is_left_out_and_the_others_compete(tmp_path, caplog):
    models = "{model: gru, hidden_size: 8, name: logs, transform: log}"
    file = project(tmp_path, TEXT.replace("{model: gru, hidden_size: 8}", models))
    text = (tmp_path / "readings.csv").read_text().splitlines()
    (tmp_path / "readings.csv").write_text(
        "\n".join([*text[:50], text[50].rsplit(",", 1)[0] + ",-3", *text[51:]]) + "\n"
    )
    done = pipeline.pipeline(str(file))
    assert {row["model"] for row in done["leaderboard"]} == {"naive", "seasonal_naive"}
    assert "logs is left out: series 'a'" in caplog.text
    assert "-3 has no logarithm" in caplog.text
    assert pipeline.pipeline(str(file))["decision"] == done["decision"]
    alone = project(tmp_path / "alone", file.read_text().replace("naive, seasonal_naive, ", ""))
    (tmp_path / "alone" / "readings.csv").write_text((tmp_path / "readings.csv").read_text())
    with pytest.raises(FittedError, match=r"tiny: none of \['logs'\] could be trained"):
        pipeline.pipeline(str(alone))


def test_a_training_that_was_interrupted_goes_on_where_it_stopped_to_the_same_champion(tmp_path, monkeypatch):
    names = ("never_stopped", "interrupted")
    files = [project(tmp_path / name, TEXT.replace("[naive, seasonal_naive, ", "[")) for name in names]
    for file in files:
        ingest.ingest(str(file))
    expected = retrain.retrain(str(files[0]))["leaderboard"]
    honest, steps = Learner.training_step, []

    def until_killed(self, batch, batch_idx):
        steps.append(self.global_step)
        if len(steps) == 21:  # of 30, validated every 15
            raise RuntimeError("killed")
        return honest(self, batch, batch_idx)

    monkeypatch.setattr(Learner, "training_step", until_killed)
    with pytest.raises(RuntimeError, match="killed"):
        retrain.retrain(str(files[1]))
    found = retrain.retrain(str(files[1]))["leaderboard"]
    assert steps == [*range(21), *range(15, 30)]
    assert [row["mae"] for row in found] == [row["mae"] for row in expected]
    assert not list(tmp_path.rglob("*.training"))


def test_a_forecast_without_a_champion_says_what_to_do(tmp_path):
    file = project(tmp_path)
    ingest.ingest(str(file))
    with pytest.raises(ForecastError, match="tiny: there is no champion yet; `rnnforecast retrain"):
        forecast.forecast(str(file))


def test_an_error_comes_out_of_the_flows_as_what_it_is_and_nothing_is_written(tmp_path):
    file = project(tmp_path)
    (tmp_path / "readings.csv").write_text("")
    with pytest.raises(SourceError, match=r"readings\.csv: the file is empty"):
        pipeline.pipeline(str(file))
    assert versions(file) == {"observations": None, "quarantine": None, "forecasts": None}


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "blocked").write_text("")
    for key, place in (("lake", "blocked/lake"), ("mlflow", "blocked/mlflow.db"), ("reports", "blocked/reports")):
        folder = tmp_path / key
        file = project(folder, TEXT + f"storage: {{{key}: {tmp_path / place}}}\n")
        with pytest.raises(ValueError, match="blocked") as caught:
            pipeline.pipeline(str(file))
        assert "\n" not in str(caught.value)
        assert versions(file)["observations"] is None


def test_only_a_network_or_a_lock_is_worth_another_try():
    class Failed:
        def __init__(self, error):
            self.error = error

        def result(self, raise_on_failure):
            return self.error

    for error in (TimeoutError("slow"), ConnectionResetError("gone"), ValueError("database is locked")):
        assert jobs.passing(None, None, Failed(error))
    for error in (FileNotFoundError("gone"), PermissionError("no"), SourceError("the file is empty"), TypeError("bug")):
        assert not jobs.passing(None, None, Failed(error))


def test_a_replay_scores_every_forecast_by_what_came_after_and_repeats_nothing(tmp_path):
    text = TEXT.replace("models: [naive, seasonal_naive, {model: gru, hidden_size: 8}]", "models: [seasonal_naive]")
    file = project(tmp_path, text)
    done = replay.replay(str(file), batches=3)
    assert [row["until"] for row in done["scores"]] == [START + timedelta(hours=199 - 6 * left) for left in (3, 2, 1)]
    assert [row["forecasts"] for row in done["scores"]] == [12, 12, 12]
    assert [row["skill"] for row in done["scores"]] == pytest.approx([0.0, 0.0, 0.0])  # against itself
    before = versions(file)
    assert before["observations"] == 3  # one version for each arrival
    again = replay.replay(str(file), batches=3)
    assert versions(file) == before
    assert again["scores"] == done["scores"]


def test_a_champion_that_cannot_be_loaded_makes_way_for_a_new_one(tmp_path):
    file = project(tmp_path, TEXT.replace(", {model: gru, hidden_size: 8}", ""))
    pipeline.pipeline(str(file))
    loaded = config.load(file)
    for settings in Path(loaded.resolve(loaded.storage.artifacts)).rglob("config.json"):
        settings.write_text("{}")
    with pytest.raises(ValueError, match="cannot be loaded"):
        forecast.forecast(str(file))
    assert "takes over" in retrain.retrain(str(file), force=True)["decision"]
    assert forecast.forecast(str(file))["rows"] == 12


def test_new_rows_are_exactly_those_and_forecasts_start_from_the_new_cutoff(first_run):
    file, _ = first_run
    added = write_rows(file.parent, since=200, until=206)
    done = pipeline.pipeline(str(file))
    assert (done["ingest"]["inserted"], done["ingest"]["updated"]) == (added, 0) == (12, 0)
    assert done["forecast"]["written"] == 12
    assert any(row["model"].startswith("champion v") for row in done["leaderboard"])  # scored on the same cutoffs
    stored = table.read(config.load(file).table("forecasts"))
    assert stored["cutoff"].unique().sort().to_list() == [START + timedelta(hours=hour) for hour in (199, 205)]


def test_upkeep_keeps_the_versions_that_models_were_trained_on_and_no_others(first_run, monkeypatch):
    file, _ = first_run
    loaded = config.load(file)
    path, clean = loaded.table("observations"), table.clean
    named = sorted(set(registry.history(loaded)["table_version"]))
    before = [table.digest(table.read(path, version=version)) for version in named]
    write_rows(file.parent, since=206, until=207)
    plain = ingest.ingest(str(file))["version"]
    assert plain not in named
    monkeypatch.setattr(table, "clean", lambda path, *, hours, **keys: clean(path, hours=0, **keys))  # a month later
    done = upkeep.upkeep(str(file))
    assert done["kept"] == named
    assert (done["tables"][0]["table"], done["tables"][0]["files_after"]) == ("observations", 1)
    assert [table.digest(table.read(path, version=version)) for version in named] == before
    with pytest.raises(table.TableError, match=f"version {plain} is not kept any more"):
        table.read(path, version=plain)
    with pytest.raises(jobs.JobError, match="keep_days: expected 1 or more; found 0"):
        upkeep.upkeep(str(file), keep_days=0)
