"""The examples, at small size: each says what the theory says, and measures it as a second way does."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from rnnforecast.nn import Recurrence

FOLDER = Path(__file__).resolve().parents[1] / "examples"


def example(name):
    """The script examples/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_has_at_most_eighty_lines_and_its_place_in_the_readme(file):
    assert len(file.read_text().splitlines()) <= 80
    assert file.name in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("figure", sorted((FOLDER / "figures").glob("*.png")), ids=lambda figure: figure.stem)
def test_a_figure_is_small_and_shown_in_the_readme(figure):
    assert figure.stat().st_size < 100_000
    assert f"(figures/{figure.name})" in (FOLDER / "README.md").read_text()


def test_descent_falls_off_the_cliff_unless_it_is_clipped(tmp_path):
    found = example("cliff").main(small=True, out=tmp_path)
    assert found["not clipped: largest norm"] > 10
    assert found["not clipped: error"] == pytest.approx(0.3**2, rel=1e-3)  # the plateau on which the unit says 1
    assert found["clipped at norm 1: error"] < 1e-6
    assert found["clipped at norm 1: arrive"] >= found["not clipped: arrive"]
    assert (tmp_path / "cliff.png").exists()


def test_the_cliff_s_surface_is_flat_at_a_fixed_point_and_its_gradient_is_the_descent_s():
    cliff = example("cliff")
    weight, bias = (torch.tensor(number).double() for number in (1.2, 0.0))
    hold = torch.atanh(torch.tensor(0.7).double()) - 0.7 * weight  # 0.7 = tanh(w 0.7 + b): the unit settles there
    assert cliff.errors(weight, hold) < 1e-8
    row, tiny = cliff.descend(1.2, 0.0, clip=1e12, updates=1)[0], 1e-6
    slopes = [
        (cliff.errors(weight + tiny * one, bias + tiny * other) - cliff.errors(weight, bias)) / tiny
        for one, other in ((1, 0), (0, 1))
    ]
    assert row[2].item() == pytest.approx(cliff.errors(weight, bias).item(), rel=1e-5)
    assert row[3].item() == pytest.approx(torch.stack(slopes).norm().item(), rel=1e-3)


def test_gradients_vanish_at_the_start_in_all_but_the_identity_and_not_in_networks_that_learnt_to_recall(tmp_path):
    found = example("vanishing").main(small=True, out=tmp_path)
    for name in ("tanh", "GRU", "LSTM"):
        assert found[f"{name}: at the start"] < 1e-6
    assert found["LSTM: at the start"] < found["LSTM, forget bias 1: at the start"] < 0.01
    assert found["ReLU, identity: at the start"] > 0.1
    for name in ("GRU", "LSTM", "LSTM, forget bias 1"):
        assert found[f"{name}: after learning to recall"] > 0.1
        assert found[f"{name}: came to"] > found["tanh: came to"]


def test_the_norms_of_vanishing_gradients_are_those_of_a_product_of_jacobians():
    vanishing, steps = example("vanishing"), 7
    torch.manual_seed(3)
    recurrence, readout = Recurrence(2, 5, cell="rnn").double(), nn.Linear(5, 1).double()
    torch.manual_seed(4)
    found = vanishing.norms(recurrence, readout, steps)
    torch.manual_seed(4)
    outputs, _ = recurrence(vanishing.draw(16, steps).double())
    weight, expected = recurrence.layers[0].weight_hh_l0, []
    for start in range(steps):
        lanes = []
        for lane in outputs:
            slope = readout.weight[0]
            for hidden in lane[start:].flip(0):
                slope = (slope * (1 - hidden**2)) @ weight
            lanes.append(slope.norm())
        expected.append(torch.stack(lanes).mean())
    torch.testing.assert_close(found, torch.stack(expected))


def test_an_lstm_keeps_time_better_than_a_vanilla_recurrence(tmp_path):
    timer = example("timer")
    found = timer.main(small=True, out=tmp_path)
    assert found["LSTM"] < 3
    assert found["LSTM"] < 0.6 * found["vanilla"]
    inputs, answer, length = timer.draw(50, 60)
    for lane in range(50):
        start = int(inputs[lane, :, 0].argmax())
        told = [0.5 if start <= step < start + round(60 * inputs[lane, start, 1].item()) else 0.0 for step in range(90)]
        assert answer[lane].tolist() == told
        assert length[lane] == sum(told) * 2


def test_the_adding_problem_is_solved_with_a_truncated_gradient_but_not_when_nothing_marked_is_in_its_reach(tmp_path):
    found = example("adding").main(small=True, out=tmp_path)
    unreachable = found.pop("LSTM, 200 steps, reach 50, one mark, out of reach")
    assert max(found.values()) < 0.01  # who always says 1 has 1/6
    assert unreachable == pytest.approx(1 / 12, rel=0.15)  # the variance of the one number that is marked


def test_the_adding_problem_marks_one_number_in_each_half():
    inputs, answer = example("adding").draw(100, 30, first_only=False)
    assert (inputs[:, :15, 1].sum(1) == 1).all()
    assert (inputs[:, 15:, 1].sum(1) == 1).all()
    for lane in range(100):
        assert answer[lane].item() == pytest.approx(sum(value for value, mark in inputs[lane].tolist() if mark))


def test_a_unit_follows_the_beat_of_a_real_ecg_more_than_the_ecg_does(tmp_path, shared):
    found = example("ecg").main(shared("parquet/ecg_mitbih_208_5min.parquet"), small=True, out=tmp_path)
    assert found["error / last value's"] < 0.8
    assert found["trained"] > found["ecg"]
    assert found["trained"] > found["untrained"]


def test_beats_of_a_made_ecg_are_found_and_only_what_follows_them_is_explained():
    ecg, period = example("ecg"), 60
    steps = torch.arange(1200)
    phase = ecg.beat_phase(torch.exp(-0.5 * ((steps % period - 30) / 2.0) ** 2))
    inner = slice(2 * period, -2 * period)
    assert phase[inner].unfold(0, period, period).amin(1).tolist() == [0.0] * 16  # one beat in every period
    torch.testing.assert_close(phase[inner][period:], phase[inner][:-period])
    torch.manual_seed(0)
    units = torch.stack([torch.sin(6.2832 * phase) * 3 + 1, torch.randn(1200)], 1)[inner]
    shares = ecg.followed(units, phase[inner])
    assert shares[0] > 0.95
    assert shares[1] < 0.1


def test_a_sine_is_continued_by_a_recurrence_in_five_lines_and_by_the_library(tmp_path):
    found = example("sine").main(small=True, out=tmp_path)
    assert found["from scratch"] < 0.54  # the root mean square of these waves: who always says 0
    assert found["Forecaster"] < 0.25
    assert (tmp_path / "sine.png").exists()


def test_a_ball_is_foreseen_better_than_by_flying_straight_on(tmp_path):
    ball = example("ball")
    found = ball.main(small=True, out=tmp_path)
    assert found["rnnforecast"] < found["straight on"] < found["last position"]
    paths = ball.throws(50, 7)
    assert paths.min() > -0.05  # the camera is a little off, the room's walls are not
    assert paths.max() < 1.05


def test_attention_weighs_every_hour_of_its_reach_before_it_has_learnt_where_to_look(tmp_path):
    found = example("attention").main(small=True, out=tmp_path)
    assert 0.02 < found["share 46 to 50 hours before"] < 0.6  # 5 of 64 hours: 0.08 if all are weighed alike
    assert (tmp_path / "attention.png").exists()
