"""What the network corrects: each naive forecast, step by step, against a slow and obvious loop."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast.nn import base
from rnnforecast.nn.places import Places
from rnnforecast.nn.running import newest_sum, running_sum
from rnnforecast.nn.scaling import Units


def series(length, *, rows=2, missing=0, seed=0):
    """Filled values [rows, length], the first `missing` of which are from before the first reading."""
    filled = 100 + torch.randn(rows, length, generator=torch.Generator().manual_seed(seed))
    filled[:, :missing] = torch.nan
    return filled


@settings(deadline=None, max_examples=40)
@given(season=st.integers(2, 7), cycles=st.integers(1, 5), horizon=st.integers(1, 17), missing=st.integers(0, 40))
def test_the_profile_is_the_mean_of_the_same_place_in_the_last_seasons(season, cycles, horizon, missing):
    filled = series(50, missing=missing)
    at = torch.tensor([[35, 40, 49], [38, 36, 45]])
    found = base.profile(filled, Places(50, at), season, cycles, horizon)
    for row in range(2):
        for place in range(3):
            cutoff = int(at[row, place])
            for ahead in range(1, horizon + 1):
                step = cutoff + ahead
                while step > cutoff:
                    step -= season
                values = [float(filled[row, step - k * season]) for k in range(cycles)]
                values = [value for value in values if not math.isnan(value)]
                value = float(found[row, place, ahead - 1])
                assert math.isnan(value) if not values else value == pytest.approx(sum(values) / len(values), rel=1e-6)


def test_the_profile_does_not_see_beyond_its_cutoff_nor_change_with_where_memory_began():
    filled = series(60)
    at = torch.tensor([[40, 45], [47, 41]])
    found = base.profile(filled, Places(60, at), 6, 6, 20)
    later = filled.clone()
    later[0, 46:], later[1, 48:] = 1e9, torch.nan
    assert torch.equal(base.profile(later, Places(60, at), 6, 6, 20), found)
    # The cutoff at 40 needs 36 values: what came before them is forgotten.
    assert torch.equal(base.profile(filled[:, 5:], Places(55, at - 5), 6, 6, 20), found)


@settings(deadline=None, max_examples=40)
@given(
    season=st.integers(2, 9),
    cycles=st.integers(1, 3),
    block=st.integers(1, 6),
    horizon=st.integers(1, 17),
    missing=st.integers(0, 30),
)
def test_a_moved_profile_counts_each_season_from_the_level_it_had(season, cycles, block, horizon, missing):
    filled = series(60, missing=missing)
    at = torch.tensor([[48, 59], [52, 50]])
    found = base.moved(filled, Places(60, at), season, cycles=cycles, block=block, horizon=horizon)

    def mean(row, places):
        values = [float(filled[row, place]) for place in places]
        values = [value for value in values if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan

    for row in range(2):
        for place in range(2):
            cutoff = int(at[row, place])
            for ahead in range(1, horizon + 1):
                step = cutoff + ahead
                while step > cutoff:
                    step -= season
                values = mean(row, [step - k * season for k in range(cycles)])
                own = 0 if season == block else 1
                ends = [cutoff, *(cutoff - (k + own) * season for k in range(cycles))]
                levels = [mean(row, range(end - block + 1, end + 1)) for end in ends]
                then = [level for level in levels[1:] if not math.isnan(level)]
                expected = values + levels[0] - (sum(then) / len(then) if then else math.nan)
                value = float(found[row, place, ahead - 1])
                assert math.isnan(value) if math.isnan(expected) else value == pytest.approx(expected, rel=1e-5)


def test_moved_seasons_are_exact_where_only_the_level_changes():
    steps = torch.arange(200)
    level = torch.where(steps < 150, 10.0, 30.0)
    daily = torch.sin(2 * math.pi * steps / 12)
    at = torch.tensor([[161]])  # a season after the step in the level
    found = base.bases(
        "moved",
        (level + daily)[None],
        level=torch.zeros(1, 1),
        places=Places(200, at),
        seasons=(12, 36),
        horizon=10,
        memory=160,
    )
    expected = 30 + daily[162:172]
    for each in found[4:]:  # after the last value, the level and two seasonal naives
        assert each[0, 0].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    assert abs(float(found[3][0, 0, 0]) - float(expected[0])) > 15  # the seasonal naive of 36 steps knows nothing of it


def test_the_bases_of_each_word_are_as_many_as_counted():
    filled, at, level = series(80, missing=3), torch.tensor([[60], [79]]), torch.full((2, 1), 7.0)
    expected = {
        ("none", (1,)): 0,
        ("none", (5, 10)): 0,
        ("naive", (1,)): 2,
        ("naive", (5,)): 3,
        ("naive", (1, 5, 10)): 4,
        ("profile", (1,)): 2,
        ("profile", (5, 10)): 5,
        ("profile", (25,)): 4,
        ("profile", (26,)): 3,  # 50 remembered steps hold only one cycle
        ("moved", (1,)): 2,
        ("moved", (5, 10)): 7,  # the mean of four seasons of each, and the longer one alone
        ("moved", (25,)): 4,  # one cycle and its level fill the memory
        ("moved", (26,)): 3,
    }
    for (kind, seasons), number in expected.items():
        found = base.bases(kind, filled, level=level, places=Places(80, at), seasons=seasons, horizon=4, memory=50)
        assert [base.repeated(each, 4).shape for each in found] == [(2, 1, 4)] * number, (kind, seasons)
        assert base.count(kind, seasons, 50) == number, (kind, seasons)


def test_the_profile_joins_the_naive_forecasts_and_falls_back_on_the_level():
    filled, at, level = series(80, missing=58), torch.tensor([[60], [79]]), torch.tensor([[7.0], [8.0]])
    places = Places(80, at)
    found = base.bases("profile", filled, level=level, places=places, seasons=(10, 20), horizon=12, memory=50)
    naive = base.naive_forecasts(filled, level, places, (10, 20), 12)
    assert all(torch.equal(one, other) for one, other in zip(found, naive, strict=False))
    known = torch.tensor([k in (8, 9, 10) for k in range(1, 13)])  # places 58, 59 and 60 of the first row
    mean = base.profile(filled, places, 10, 5, 12)
    assert torch.equal(mean[0, 0].isnan(), ~known)
    assert (found[-1][0, 0] + 7.0).tolist() == pytest.approx(torch.where(known, mean[0, 0], 7.0).tolist())
    assert torch.equal(found[-1][1, 0], mean[1, 0] - 8.0)


def test_the_naive_forecasts_repeat_the_last_value_the_seasons_and_the_level():
    filled, at, level = series(60, missing=33), torch.tensor([[40, 59], [35, 50]]), torch.tensor([[1.0, 2], [3, 4]])
    distances = base.naive_forecasts(filled, level, Places(60, at), (1, 4, 7), 9)
    last, flat_, *seasons = (each + level[..., None] for each in distances)
    found = torch.stack([base.repeated(each, 9) for each in (last, *seasons, flat_)], dim=-1)
    for row in range(2):
        for place in range(2):
            cutoff, flat = int(at[row, place]), float(level[row, place])
            for ahead in range(1, 10):
                repeated = []
                for season in (4, 7):
                    step = cutoff + ahead
                    while step > cutoff:
                        step -= season
                    value = float(filled[row, step])
                    repeated.append(flat if math.isnan(value) else value)
                expected = [float(filled[row, cutoff]), *repeated, flat]
                assert found[row, place, ahead - 1].tolist() == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 20),
    stride=st.integers(1, 4),
    decay=st.sampled_from([1.0, 0.9, 0.5]),
    length=st.integers(1, 30),
)
def test_a_running_sum_is_the_sum_of_a_loop(width, stride, decay, length):
    values = torch.randn(2, length, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    found = running_sum(values, width, stride=stride, decay=decay)
    for step in range(length):
        places = [(j, step - j * stride) for j in range(width) if step - j * stride >= 0]
        expected = sum(decay**j * values[:, place] for j, place in places)
        torch.testing.assert_close(found[:, step], expected)


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 40), decay=st.sampled_from([1.0, 0.9]), more=st.integers(0, 9))
def test_the_newest_sum_is_the_last_running_sum_to_the_last_bit(width, decay, more):
    values = torch.randn(2, 3, width + more, generator=torch.Generator().manual_seed(width), dtype=torch.float64)
    assert torch.equal(newest_sum(values, width, decay=decay), running_sum(values, width, decay=decay)[..., -1:])


def test_a_huge_value_that_left_the_window_leaves_nothing_behind():
    values = torch.ones(1, 40)
    values[0, 5] = 1e30
    assert torch.equal(running_sum(values, 8)[0, 13:], torch.full((27,), 8.0))


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 2), steps=st.integers(1, 9), before=st.integers(0, 5), first=st.integers(0, 4), data=st.data()
)
def test_every_step_and_all_steps_named_are_the_same_places(rows, steps, before, first, data):
    """A view of the pass, a gather, and a loop give the same."""
    length = data.draw(st.integers(1, 5))
    values = torch.randn(3 * rows, first + steps + length, 2)
    every, named = Places(steps), Places(steps, torch.arange(steps).expand(3, -1))
    found = every.windows(values, first, length)
    assert torch.equal(found, named.windows(values, first, length))
    for step in range(steps):
        assert torch.equal(found[:, step], values[:, first + step : first + step + length])
    past = torch.randn(3 * rows, before + steps)
    assert torch.equal(every.of(past), named.of(past))
    assert torch.equal(every.of(past), past[:, before:])


@pytest.mark.parametrize("steps", [1, 4])
def test_a_mix_is_the_weighted_mean_of_the_forecasts_in_scaled_units(steps):
    last, season = torch.randn(2, 3, 1), torch.randn(2, 3, 4)
    weights = torch.rand(2, 3, steps, 2).softmax(dim=-1)
    shift, scale, level = torch.randn(2, 3, 1), torch.rand(2, 3, 1) + 0.5, torch.randn(2, 3, 1)
    units = Units(shift[..., 0], scale[..., 0], level[..., 0])
    found = base.mixed([season - level, last - level], weights, units, 4)
    expected = (weights[..., 0] * season + weights[..., 1] * last - shift) / scale
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("lengths", [(1,), (1, 1), (1, 7), (2, 4), (2, 3), (1, 2, 7, 4), (3, 3, 6), (7, 7), (5, 1)])
def test_cycles_of_any_length_are_mixed_as_if_each_were_as_long_as_the_horizon(steps, lengths):
    horizon, level = 7, torch.randn(2, 3)
    distances = [torch.randn(2, 3, length) for length in lengths]
    weights = torch.rand(2, 3, steps, len(lengths)).softmax(dim=-1)
    units = Units(torch.randn(2, 3), torch.rand(2, 3) + 0.5, level)
    found = base.mixed(distances, weights, units, horizon)
    assert found.shape == (2, 3, horizon)
    for ahead in range(horizon):
        own = weights[:, :, ahead if steps > 1 else 0]
        expected = level + sum(
            own[..., place] * distance[..., ahead % distance.shape[-1]] for place, distance in enumerate(distances)
        )
        torch.testing.assert_close(found[..., ahead], (expected - units.shift) / units.scale)
