"""The baselines, against the arithmetic they stand for."""

import numpy as np
import polars as pl
import pytest
import torch
from builders import task, waves

from rnnforecast.baselines import BaselineModel
from rnnforecast.config import BASELINES, Candidate
from rnnforecast.forecast import load_model
from rnnforecast.panel import Cutoffs, Panel

AT = Cutoffs(torch.tensor([0, 0]), torch.tensor([60, 80]))


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_sees_nothing_after_the_cutoff_and_its_quantiles_are_ordered(name, tmp_path):
    frame = waves((100,))
    panel = Panel.from_frame(frame, "1h")
    model = BaselineModel(task(), Candidate(model=name))
    moment = panel.stamps(panel.starts + 80)[0]
    other = frame.with_columns(target=pl.when(pl.col("timestamp") > moment).then(1e5).otherwise("target"))
    found = model.forecast_at(panel, AT)
    assert found.equals(model.forecast_at(Panel.from_frame(other, "1h"), AT))
    assert (found["q0.1"] <= found["q0.5"]).all()
    assert (found["q0.5"] <= found["q0.9"]).all()
    model.save(tmp_path)
    assert load_model(tmp_path).forecast_at(panel, AT).equals(found)


def test_naive_repeats_the_last_reading_and_seasonal_naive_the_last_season():
    panel = Panel.from_frame(waves((100,), gaps=0), "1h")
    values = panel.values.double().numpy()
    naive = BaselineModel(task(), Candidate(model="naive")).forecast_at(panel, AT)
    assert naive["mean"].to_numpy() == pytest.approx(np.repeat(values[[60, 80]], 6))
    seasonal = BaselineModel(task(), Candidate(model="seasonal_naive")).forecast_at(panel, AT)
    expected = np.concatenate([values[60 - 11 : 60 - 5], values[80 - 11 : 80 - 5]])
    assert seasonal["mean"].to_numpy() == pytest.approx(expected)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("values", [[4.0] * 50, [1.0, 2.0], [3.0], [0.0, -1.0, 1e-9] * 10])
def test_degenerate_series_get_finite_forecasts(name, values):
    frame = pl.DataFrame({"series_id": ["a"] * len(values), "timestamp": list(range(len(values))), "target": values})
    panel = Panel.from_frame(frame, "1i")
    out = BaselineModel(task(), Candidate(model=name)).forecast_at(panel, panel.last)
    assert out.select(pl.col("mean", "q0.1", "q0.5", "q0.9").is_finite().all()).row(0) == (True,) * 4
