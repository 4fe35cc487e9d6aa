"""What an error counts in: each unit against a slow and obvious computation."""

import polars as pl
import pytest
import torch
from builders import waves

from rnnforecast.learner_weighting import error_units, weights
from rnnforecast.panel import Panel


def test_the_units_are_the_errors_of_the_seasonal_naive():
    frame = waves((90, 70), gaps=0.1).with_columns(pl.col("target") - 9.0)
    panel = Panel.from_frame(frame, "1h")
    end = torch.tensor([60, 50])
    found = error_units(panel, end, 12)
    relative = []
    for series in range(2):
        values = frame.filter(pl.col("series_id") == f"s{series}")["target"].to_list()[: int(end[series])]
        misses = [abs(b - a) for a, b in zip(values, values[12:], strict=False) if a is not None and b is not None]
        change = sum(misses) / len(misses)
        read = [abs(value) for value in values if value is not None]
        relative.append(change / (sum(read) / len(read)))
        assert float(found[series, 1]) == pytest.approx(change, rel=1e-5)
        assert float(found[series, 2]) == pytest.approx(
            pl.Series([value for value in values if value is not None]).std(ddof=0), rel=1e-5
        )
    assert found[:, 0].tolist() == pytest.approx([sum(relative) / 2] * 2, rel=1e-5)


def test_a_constant_series_and_one_of_zeros_have_units():
    frame = pl.concat(
        pl.DataFrame({"series_id": name, "timestamp": range(40), "target": [value] * 40})
        for name, value in (("a", 7.0), ("b", 0.0))
    )
    found = error_units(Panel.from_frame(frame, "1i"), torch.tensor([40, 40]), 12)
    assert found[0].tolist() == pytest.approx([0.01, 0.07, 0.07])
    assert found.isfinite().all()
    assert (found > 0).all()


@pytest.mark.parametrize("bend", ["none", "log", "asinh"])
def test_a_small_error_counts_as_in_the_measure_that_is_named(bend):
    """An error of a thousandth in the bent scale is turned back by the transform's own inverse."""
    actual = torch.tensor([[[2.0, 30.0]]], dtype=torch.float64)
    units = torch.tensor([[0.2, 3.0, 5.0]], dtype=torch.float64)
    scale, small = torch.full((1, 1, 1), 0.5, dtype=torch.float64), 1e-3
    there = {"none": lambda x: x, "log": torch.log, "asinh": torch.asinh}[bend]
    back = {"none": lambda x: x, "log": torch.exp, "asinh": torch.sinh}[bend]
    error = (back(there(actual) + scale * small) - actual).abs()
    expected = {"scale": torch.full_like(actual, small), "season": error / 3.0, "level": error / (actual * 0.2)}
    expected["spread"] = error / 5.0
    expected["both"] = (expected["season"] + expected["level"]) / 2
    for how, value in expected.items():
        found = small * weights(how, scale, there(actual), units=units, bend=bend).expand_as(actual)
        torch.testing.assert_close(found, value, rtol=2e-3, atol=0)


def test_near_zero_an_error_counts_ten_times_its_absolute_size_at_most():
    actual, units = torch.zeros(1, 1, 1), torch.tensor([[0.2, 3.0, 5.0]])
    found = weights("level", torch.ones(1, 1, 1), actual, units=units, bend="none")
    assert float(found) == pytest.approx(10 / 3.0)
