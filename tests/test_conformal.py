"""Quantiles that are moved by what they were off by hold as often as they say."""

import numpy as np
import polars as pl
import pytest
import torch
from builders import waves
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast.config import Candidate, ConfigError, Training
from rnnforecast.forecaster import Forecaster
from rnnforecast.nn.conformal import moved, offsets

LEVELS = (0.05, 0.1, 0.5, 0.9, 0.99)
HORIZON = 4


def test_the_offsets_are_the_quantiles_of_the_errors_of_each_step():
    random = np.random.default_rng(1)
    errors = random.normal(size=(300, HORIZON, len(LEVELS))) * np.arange(1, HORIZON + 1)[:, None]
    mask = random.random((300, HORIZON)) < 0.7
    found = offsets(torch.tensor(np.where(mask[..., None], errors, np.nan)), torch.tensor(mask), LEVELS)
    for step in range(HORIZON):
        for index, level in enumerate(LEVELS):
            own = errors[mask[:, step], step, index]
            assert found[step, index].item() == pytest.approx(np.quantile(own, level, method="weibull"))


def test_a_step_with_few_errors_takes_those_of_all_steps():
    errors, mask = torch.randn(40, HORIZON, 1), torch.ones(40, HORIZON, dtype=torch.bool)
    mask[19:, 2] = False
    found = offsets(errors, mask, (0.9,))
    assert found[2].item() == pytest.approx(np.quantile(errors[mask].numpy(), 0.9, method="weibull"))
    assert found[0].item() == pytest.approx(np.quantile(errors[:, 0].numpy(), 0.9, method="weibull"))
    mask[19, 2] = True  # twenty are enough
    found = offsets(errors, mask, (0.9,))
    assert found[2].item() == pytest.approx(np.quantile(errors[:20, 2].numpy(), 0.9, method="weibull"))
    assert not offsets(errors, torch.zeros_like(mask), (0.9,)).any()


def test_moved_quantiles_cover_what_comes_as_often_as_they_say():
    """Exchangeable errors: of n of them the next one lies below their level q with probability q, on the average."""
    random = torch.Generator().manual_seed(0)
    below = torch.zeros(len(LEVELS))
    for _ in range(400):
        scores = torch.randn(100, 2, len(LEVELS), generator=random).exp()  # far from any quantile of the forecast
        learned = offsets(scores[:99], torch.ones(99, 2, dtype=torch.bool), LEVELS)
        below += (scores[99] <= learned).float().mean(dim=0)
    assert (below / 400).tolist() == pytest.approx(LEVELS, abs=0.03)


@settings(deadline=None)  # a busy machine
@given(st.integers(1, HORIZON), st.integers(0, 1000))
def test_moved_quantiles_ascend_and_without_crossings_each_moves_by_its_own(steps, seed):
    random = torch.Generator().manual_seed(seed)
    quantiles = torch.randn(3, steps, 5, generator=random).sort(dim=-1).values
    quantiles[0] = quantiles[0, :, :1]  # a point
    width = quantiles[..., -1:] - quantiles[..., :1]
    width[0] = 1.0
    by = torch.randn(HORIZON, 5, generator=random)
    found = moved(quantiles, by)
    torch.testing.assert_close(found, (quantiles + by[:steps] * width).sort(dim=-1).values)
    ascending = by.sort(dim=-1).values
    torch.testing.assert_close(moved(quantiles, ascending), quantiles + ascending[:steps] * width)
    assert (found.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("choices", [{"transform": "asinh"}, {"head": "gaussian", "skip": True, "reader_size": 8}])
def test_on_the_span_that_they_were_moved_by_the_quantiles_hold_as_often_as_they_say(choices):
    """From its rows to its columns: the forecasts of the span that was kept aside, scored by a backtest."""
    frame = waves((150, 150, 150), gaps=0)
    model = Forecaster(2, quantile_levels=LEVELS[:4], conformal=True, max_steps=3, season_length=[12], **choices)
    model.fit(frame, validation_steps=50)
    stamps = frame["timestamp"].unique().sort()
    scored = model.backtest(frame, cutoffs=stamps[-51:-2].to_list()).filter(pl.col("step") == 2)
    assert len(scored) == 3 * 49
    for level in LEVELS[:4]:
        below = (scored["target"] <= scored[f"q{level}"]).mean()
        assert below == pytest.approx(level, abs=0.01)


def test_it_needs_a_span_that_was_not_learned_from():
    candidate = Candidate(model="m4-hourly", conformal=True)
    (line,) = candidate.refusals_of_training(Training())
    assert candidate.refusals_of_training(Training(holdout=True)) == []
    assert Candidate(model="m4-hourly").refusals_of_training(Training()) == []
    with pytest.raises(ConfigError, match="set holdout: true, or leave conformal out") as error:
        Forecaster(2, conformal=True, holdout=False).fit(waves((60,)))
    assert str(error.value) == line
