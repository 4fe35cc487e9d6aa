"""The combination: whose mean it is, with which weights, and that it is a model like any other."""

import numpy as np
import pytest
import torch
from builders import task, untrained, waves

from rnnforecast.baselines import BaselineModel
from rnnforecast.combination import average, chosen_by, combine
from rnnforecast.config import Candidate
from rnnforecast.fitted import FittedError
from rnnforecast.forecast import load_model
from rnnforecast.panel import Cutoffs, Panel

AT = Cutoffs(torch.tensor([0, 0, 1]), torch.tensor([60, 80, 70]))
VALUES = ["mean", "q0.1", "q0.5", "q0.9"]
TOGETHER = Candidate(model="combination", name="together")


def models(*names, of=None):
    of = of or task()
    baselines = {name: BaselineModel(of, Candidate(model=name)) for name in names}
    return {"gru": untrained("gru", of), "lstm": untrained("lstm", of), **baselines}


def test_it_is_the_best_network_and_the_two_best_baselines_weighted_by_the_inverses_of_their_scores(tmp_path):
    kept = models("naive", "seasonal_naive", "auto_theta")
    scores = {"gru": 0.9, "lstm": 0.5, "naive": 0.8, "seasonal_naive": 0.625, "auto_theta": 0.9}
    model = combine(TOGETHER, kept, scores)
    assert [member.candidate.label for member in model.members] == ["lstm", "seasonal_naive", "naive"]
    panel = Panel.from_frame(waves(), "1h")
    found = model.forecast_at(panel, AT)
    parts = {name: kept[name].forecast_at(panel, AT) for name in ("lstm", "seasonal_naive", "naive")}
    for row in (0, 7, 17):
        for name in VALUES:
            # weights 1 / 0.5, 1 / 0.625, 1 / 0.8
            expected = 2 * parts["lstm"][name][row] + 1.6 * parts["seasonal_naive"][name][row]
            expected += 1.25 * parts["naive"][name][row]
            assert found[name][row] == pytest.approx(expected / 4.85)
    assert found.drop(VALUES).equals(parts["lstm"].drop(VALUES))
    assert (found["q0.1"] <= found["q0.5"]).all()
    assert (found["q0.5"] <= found["q0.9"]).all()
    model.save(tmp_path / "kept")
    again = load_model(tmp_path / "kept")
    assert (again.candidate, again.task) == (TOGETHER, model.task)
    assert again.forecast_at(panel, AT).equals(found)


def test_a_seasonal_naive_without_a_season_is_the_naive_one_and_is_not_taken_twice():
    of = task(seasons=(1,))
    kept = models("naive", "seasonal_naive", "auto_theta", of=of)
    scores = {"gru": None, "lstm": 1.9, "naive": 1.0, "seasonal_naive": 1.0, "auto_theta": 1.5}
    assert [each.candidate.label for each in combine(TOGETHER, kept, scores).members] == ["lstm", "naive", "auto_theta"]


@pytest.mark.parametrize(
    "scores", [{"naive": 1.0}, {"gru": 1.0}, {"gru": 1.0, "lstm": 1.1}, {"gru": 1.0, "naive": 2.1}, {"gru": None}]
)
def test_of_one_that_is_near_the_best_there_is_no_combination(scores):
    kept = {label: models("naive")[label] for label in scores}
    with pytest.raises(FittedError, match=r"nothing to combine: .* near the best"):
        combine(TOGETHER, kept, scores)


def test_what_errs_more_than_twice_as_much_as_the_best_has_no_part():
    kept = models("naive", "seasonal_naive", "auto_theta")
    scores = {"gru": 0.5, "lstm": 0.6, "naive": 1.01, "seasonal_naive": 0.99, "auto_theta": 5.0}
    assert [each.candidate.label for each in combine(TOGETHER, kept, scores).members] == ["gru", "seasonal_naive"]


def test_equal_weights_give_the_plain_mean():
    kept = models("naive")
    panel = Panel.from_frame(waves(), "1h")
    alone, naive = (kept[name].forecast_at(panel, AT) for name in ("gru", "naive"))
    halves = average([alone, naive], [3.0, 3.0])["mean"].to_numpy()
    assert halves == pytest.approx(np.mean([alone["mean"].to_numpy(), naive["mean"].to_numpy()], axis=0))


def test_a_combination_is_chosen_up_to_five_percent_behind():
    assert chosen_by("combination", 1.04) < chosen_by("network", 1.0) < chosen_by("combination", 1.06)
