"""Recurrent forecasters from Python, as a user of the library meets them."""

import json
import re
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from builders import START, rich, waves
from polars.testing import assert_frame_equal

from rnnforecast import Forecaster
from rnnforecast.config import ConfigError
from rnnforecast.fitted import FittedError
from rnnforecast.frame import FrameError

QUICK = {"hidden_size": 8, "max_steps": 20, "validate_every": 10, "segment_length": 48, "batch_size": 8}
QUICK |= {"accelerator": "cpu", "frequency": "1h", "season_length": 12}


@pytest.fixture(scope="module")
def fitted():
    return Forecaster(horizon=6, decoder="attention", head="student_t", **QUICK).fit(waves((240, 200)))


def test_a_long_frame_becomes_a_long_forecast(fitted):
    out = fitted.forecast(waves((240, 200)))
    assert out.columns == ["series_id", "cutoff", "timestamp", "step", "mean", "q0.1", "q0.5", "q0.9"]
    assert out.group_by("series_id").len().sort("series_id")["len"].to_list() == [6, 6]
    assert (out["q0.1"] < out["q0.5"]).all()
    assert (out["q0.5"] < out["q0.9"]).all()
    assert fitted.history[-1]["step"] == 20


def test_the_lines_in_the_readme_run_as_they_stand(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "Forecaster(" in block)
    waves((240, 200)).write_parquet(tmp_path / "readings.parquet")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code.replace('head="student_t")', 'head="student_t", hidden_size=8, max_steps=4, accelerator="cpu")'), names)
    assert len(names["ahead"]) == 2 * 24
    assert len(names["past"]) == 440 * 24
    assert (tmp_path / "plant-model").is_dir()


def test_less_can_be_asked_for_than_was_trained(fitted):
    frame = waves((240,))
    short, whole = fitted.forecast(frame, horizon=2, quantile_levels=[0.9]), fitted.forecast(frame)
    assert short.columns == ["series_id", "cutoff", "timestamp", "step", "mean", "q0.9"]
    assert short.equals(whole.filter(pl.col("step") <= 2).select(short.columns))


def test_a_series_never_seen_is_forecast(fitted):
    other = waves((150,), seed=9).with_columns(series_id=pl.lit("new"))
    assert fitted.forecast(other)["q0.5"].is_finite().all()


def test_a_backtest_stands_at_the_cutoffs_asked_for_and_carries_the_actual_values(fitted):
    frame = waves((240, 200))
    moments = [START + timedelta(hours=hour) for hour in (150, 199, 230)]
    found = fitted.backtest(frame, cutoffs=moments)
    assert sorted(found.group_by("series_id").agg(pl.col("cutoff").n_unique())["cutoff"]) == [2, 3]
    joined = found.join(frame, on=["series_id", "timestamp"], how="left")
    assert joined.filter(pl.col("target").is_not_null())["target"].to_list() == pytest.approx(
        joined.filter(pl.col("target").is_not_null())["target_right"].to_list(), rel=1e-6
    )
    named = pl.DataFrame({"series_id": ["s1"], "cutoff": [moments[0]]})
    alone = found.filter((pl.col("series_id") == "s1") & (pl.col("cutoff") == moments[0]))
    assert_frame_equal(fitted.backtest(frame, cutoffs=named), alone, rel_tol=1e-5)
    assert fitted.backtest(frame)["cutoff"].n_unique() > 3
    everywhere = fitted.backtest(frame, cutoffs="all")
    assert len(everywhere) == 440 * 6
    one = everywhere.filter((pl.col("series_id") == "s0") & (pl.col("cutoff") == moments[1]))
    other = found.filter((pl.col("series_id") == "s0") & (pl.col("cutoff") == moments[1]))
    assert one["q0.5"].to_list() == pytest.approx(other["q0.5"].to_list(), rel=1e-5)


def test_a_stored_forecaster_forecasts_the_same(fitted, tmp_path):
    fitted.save(tmp_path)
    assert Forecaster.load(tmp_path).forecast(waves((240,))).equals(fitted.forecast(waves((240,))))


def test_the_attention_can_be_read(fitted):
    frame = waves((240,))
    weights = fitted.attention(frame)
    sums = weights.group_by("step").agg(pl.col("weight").sum()).sort("step")["weight"]
    assert sums.to_list() == pytest.approx([1.0] * 6, abs=1e-5)
    assert weights["timestamp"].max() == weights["cutoff"][0] == frame["timestamp"].max()
    assert weights["timestamp"].n_unique() == 48
    with pytest.raises(FittedError, match="decoder is 'direct' and weighs nothing; use attention"):
        Forecaster(horizon=6, **QUICK).fit(frame).attention(frame)


def test_covariates_channels_and_statics_go_through(tmp_path):
    model = Forecaster(
        horizon=6,
        cell="lstm",
        past_covariates=["load"],
        known_covariates=["price"],
        static_covariates=["size"],
        channels=["x", "y"],
        start="static",
        embedding_size=2,
        **QUICK,
    )
    frame = rich((200, 150), ("x", "y"))
    ends = pl.col("timestamp").max().over("series_id") - pl.duration(hours=6)
    told = frame.with_columns(target=pl.when(pl.col("timestamp") <= ends).then("target"))
    model.fit(told)
    out = model.forecast(told)
    assert sorted(set(out["series_id"])) == ["s0/x", "s0/y", "s1/x", "s1/y"]
    model.save(tmp_path)
    assert Forecaster.load(tmp_path).forecast(told).equals(out)


def test_a_point_forecast_takes_its_interval_from_its_errors():
    frame = waves((600, 500))
    model = Forecaster(horizon=6, head="point", loss="mse", **QUICK).fit(frame)
    found = model.backtest(frame).drop_nulls("target")
    assert (found["q0.1"] < found["q0.9"]).all()
    inside = found.select(pl.col("target").is_between("q0.1", "q0.9").mean()).item()
    assert 0.6 < inside < 0.95  # 0.8 on the span that the errors are from


def test_training_and_forecasting_with_a_logarithm_need_positive_values():
    frame = waves((200,))
    moment = START + timedelta(hours=50)
    bad = frame.with_columns(target=pl.when(pl.col("timestamp") == moment).then(-3.0).otherwise("target"))
    with pytest.raises(FittedError, match=r"series 's0', 2024-01-03 .*-3 has no logarithm .*choose transform: asinh"):
        Forecaster(horizon=6, transform="log", **QUICK).fit(bad)
    out = Forecaster(horizon=6, transform="log", **QUICK).fit(frame).forecast(frame)
    assert (out["q0.1"] > 0).all()


def test_wrong_words_are_answered_with_the_nearest_right_one():
    with pytest.raises(ConfigError, match=r"unknown choice `decodr`; did you mean `decoder`\?"):
        Forecaster(horizon=6, decodr="direct")
    with pytest.raises(ConfigError, match=r"head: .*did you mean `student_t`\?"):
        Forecaster(horizon=6, head="studentt")
    with pytest.raises(ConfigError, match=r"bidirectional.*context_length"):
        Forecaster(horizon=6, bidirectional=True)
    with pytest.raises(ConfigError, match="start: static without static_covariates"):
        Forecaster(horizon=6, start="static")
    with pytest.raises(ConfigError, match="`model: naive` is a baseline"):
        Forecaster(horizon=6, model="naive")
    with pytest.raises(FittedError, match="not fitted yet"):
        Forecaster(horizon=6).forecast(waves())


def test_cutoffs_that_stand_nowhere_are_refused(fitted):
    with pytest.raises(FrameError, match="none of the 2 stands between"):
        fitted.backtest(waves((240, 200)), cutoffs=[START - timedelta(days=3)])
    with pytest.raises(FrameError, match=r"series \['nobody'\] are not in the frame"):
        fitted.backtest(waves(), cutoffs=pl.DataFrame({"series_id": ["nobody"], "cutoff": [START]}))


def test_a_model_stored_in_another_format_is_refused(fitted, tmp_path):
    """Its weights could have the same shapes and mean something else."""
    fitted.save(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["format"]  # as the first format had none
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(FittedError, match=r"stored in format 1 .* reads format 3: retrain"):
        Forecaster.load(tmp_path)
