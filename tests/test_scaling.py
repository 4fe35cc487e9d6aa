"""What must hold of units of every kind: causal, one however cut, numbers always; and each against a slow loop."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast.config_parts import Scaling
from rnnforecast.nn.scaling import trailing, units

KINDS = get_args(Scaling)
BLOCK, BLOCKS, WINDOW = 4, 5, 13
MEMORY = 22  # more than the widest needs
STATS = torch.tensor([[2.0, 3.0], [-5.0, 0.5], [0.0, 0.0]])  # the last: a constant training span


def history(length=70, *, rows=3, seed=0, share=0.7, size=1.0):
    """Values before which there is nothing: filled and observed [rows, MEMORY + length], and the values."""
    random = np.random.default_rng(seed)
    values = (100 + np.cumsum(random.normal(size=(rows, length)), axis=1)) * size
    observed = random.random((rows, length)) < share
    return *extended(torch.tensor(values).float(), torch.tensor(observed)), values


def extended(values, observed):
    """As nn.memory.extend does, by a loop: filled forward, NaN before the first reading."""
    nothing = torch.full((len(values), MEMORY), torch.nan)
    filled, seen = torch.cat([nothing, values], dim=1), torch.cat([torch.zeros_like(nothing).bool(), observed], dim=1)
    for step in range(MEMORY, filled.shape[1]):
        filled[:, step] = torch.where(seen[:, step], filled[:, step], filled[:, step - 1])
    return filled, seen


def of(kind, filled, observed, *, stats=STATS, steps=None):
    steps = filled.shape[1] - MEMORY if steps is None else steps
    return units(kind, filled, observed, block=BLOCK, blocks=BLOCKS, window=WINDOW, stats=stats, steps=steps)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(cutoff=st.integers(0, 68), noise=st.floats(-1e6, 1e6), seen=st.booleans())
def test_rewriting_everything_after_a_step_changes_no_bit_of_its_units(kind, cutoff, noise, seen):
    filled, observed, _ = history()
    before = of(kind, filled, observed)
    filled[:, MEMORY + cutoff + 1 :], observed[:, MEMORY + cutoff + 1 :] = noise, seen
    for old, new in zip(before, of(kind, filled, observed), strict=True):
        assert torch.equal(old[:, : cutoff + 1], new[:, : cutoff + 1])


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(cuts=st.sets(st.integers(1, 69), max_size=6), size=st.sampled_from([1e-3, 1.0, 1e5]))
def test_units_are_the_same_however_the_series_was_cut(kind, cuts, size):
    filled, observed, _ = history(size=size)
    whole = of(kind, filled, observed)
    pieces = []
    for start, stop in pairwise([0, *sorted(cuts), 70]):
        part = slice(start, MEMORY + stop)  # the last MEMORY values carried
        pieces.append(of(kind, filled[:, part], observed[:, part]))
    for old, *new in zip(whole, *pieces, strict=True):
        torch.testing.assert_close(torch.cat(new, dim=1), old, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(
    values=st.lists(st.one_of(st.none(), st.floats(-(2.0**50), 2.0**50, width=32)), min_size=1, max_size=40),
    stats=st.sampled_from([STATS[:1], torch.full((1, 2), torch.nan), torch.zeros(1, 2)]),
)
def test_units_are_numbers_and_scales_positive_whatever_was_read(kind, values, stats):
    row = torch.tensor([[torch.nan if value is None else value for value in values]])
    filled, observed = extended(row, ~row.isnan())
    found = of(kind, filled, observed, stats=stats)
    for part in found:
        assert part.shape == (1, len(values))
        assert part.dtype == torch.float32
        assert part.isfinite().all()
    assert (found.scale > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_reading_units_are_plain(kind):
    filled, observed = extended(torch.zeros(2, 6), torch.zeros(2, 6, dtype=torch.bool))
    found = of(kind, filled, observed, stats=torch.full((2, 2), torch.nan))
    assert not found.shift.any()
    assert not found.level.any()
    least = kind in ("robust", "ewm", "revin", "last")
    assert (found.scale == (np.float32(1e-6) if least else 1.0)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_long_gap_the_level_is_the_last_known_value(kind):
    values, observed = torch.full((1, 60), 7.0), torch.zeros(1, 60, dtype=torch.bool)
    observed[0, :10] = True
    found = of(kind, *extended(values, observed), stats=STATS[:1])
    assert float(found.level[0, -1]) == 7.0
    assert float(found.shift[0, -1]) == {"none": 0.0, "standard": 2.0, "mean": 0.0}.get(kind, 7.0)


def readings(observed, values, row, step, width):
    """(steps back, value) of the readings of the last `width` steps."""
    places = [(back, step - back) for back in range(width)]
    return [(back, values[row, place]) for back, place in places if place >= 0 and observed[row, MEMORY + place]]


@pytest.mark.parametrize(("kind", "width", "half_life"), [("ewm", BLOCK * BLOCKS, BLOCK), ("revin", WINDOW, np.inf)])
def test_running_level_and_spread_are_those_of_a_loop(kind, width, half_life):
    filled, observed, values = history(share=0.2)
    found = of(kind, filled, observed)
    for row in range(3):
        for step in range(70):
            seen = readings(observed, values, row, step, width)
            if not seen:
                continue
            weights = [0.5 ** (back / half_life) for back, _ in seen]
            level = np.average([value for _, value in seen], weights=weights)
            spread = np.sqrt(np.average([(value - level) ** 2 for _, value in seen], weights=weights))
            assert float(found.shift[row, step]) == pytest.approx(level, rel=1e-6)
            assert float(found.scale[row, step]) == pytest.approx(max(spread, 1e-3 * abs(level)), rel=1e-4)
    assert torch.equal(found.level, found.shift)


def test_the_running_mean_is_that_of_sizes_in_a_loop_and_its_level_that_of_values():
    filled, observed, values = history(share=0.2)
    filled, values = filled - 100, values - 100  # of both signs
    found = of("mean", filled, observed)
    for row in range(3):
        for step in range(70):
            seen = [value for _, value in readings(observed, values, row, step, BLOCK * BLOCKS)]
            if seen:
                assert float(found.scale[row, step]) == pytest.approx(np.mean(np.abs(seen)), rel=1e-4)
                assert float(found.level[row, step]) == pytest.approx(np.mean(seen), rel=1e-4, abs=1e-5)
    assert not found.shift.any()


def test_a_series_of_zeros_is_counted_in_ones():
    found = of("mean", *extended(torch.zeros(1, 30), torch.ones(1, 30, dtype=torch.bool)), stats=STATS[:1])
    assert (found.scale == 1).all()


def test_a_huge_reading_long_ago_leaves_no_trace_in_the_running_mean():
    values = torch.zeros(1, 60)
    values[0, 3], values[0, 40:] = 1e12, 2.0
    found = of("mean", *extended(values, torch.ones(1, 60, dtype=torch.bool)), stats=STATS[:1])
    assert (found.scale[0, 30:40] == 1).all()
    assert float(found.scale[0, -1]) == 2.0


def test_none_standard_last_and_offset_are_what_they_say():
    filled, observed, _ = history()
    found = of("none", filled, observed)
    assert not found.shift.any()
    assert (found.scale == 1).all()
    found = of("standard", filled, observed)
    assert found.shift[:, -1].tolist() == [2.0, -5.0, 0.0]
    assert found.scale[:, 0].tolist() == pytest.approx([3.0, 0.5, 1e-6])  # a constant span: the least spread
    found = of("last", filled, observed)
    assert torch.equal(found.shift, filled[:, MEMORY:].nan_to_num(0.0))
    assert torch.equal(found.scale, of("revin", filled, observed).scale)
    found = of("offset", filled, observed)
    assert torch.equal(found.shift, filled[:, MEMORY:].nan_to_num(0.0))
    assert torch.equal(found.scale, of("standard", filled, observed).scale)


def test_robust_is_the_median_of_means_as_it_always_was():
    filled, observed, _ = history()
    found = of("robust", filled, observed)
    level, spread = trailing(filled, observed, BLOCKS, BLOCK, steps=70)
    assert torch.equal(found.shift, level)
    assert torch.equal(found.level, level)
    assert torch.equal(found.scale, spread)


@pytest.mark.parametrize("kind", ["ewm", "revin", "robust"])
def test_a_constant_series_has_a_thousandth_of_its_level_as_unit(kind):
    found = of(kind, *extended(torch.full((1, 50), 300.1), torch.ones(1, 50, dtype=torch.bool)), stats=STATS[:1])
    assert found.shift[0, 20:].tolist() == pytest.approx([300.1] * 30)
    assert found.scale[0, 20:].tolist() == pytest.approx([0.3001] * 30)
