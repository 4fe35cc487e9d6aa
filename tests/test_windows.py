"""Splits by time and rolling origins: no cutoff sees its own target."""

from datetime import datetime, timedelta

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnforecast.panel import Panel
from rnnforecast.windows import WindowError, backtest_cutoffs, rolling, spans, split

START = datetime(2024, 1, 1)


def panel_of(lengths, *, integer=False, late=0):
    rows = []
    for index, length in enumerate(lengths):
        for step in range(length):
            time = step + late * index
            rows.append((f"s{index}", time if integer else START + timedelta(hours=time), float(step)))
    return Panel.from_frame(pl.DataFrame(rows, schema=["series_id", "timestamp", "target"], orient="row"))


@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 12), st.integers(1, 7))
def test_every_rolling_origin_leaves_its_whole_horizon_inside_the_span(first, width, horizon, stride):
    end = first + width
    found = rolling(torch.tensor([first]), torch.tensor([end]), horizon, stride).position.tolist()
    expected = [p for p in range(max(first - 1, 0), end - horizon) if (end - horizon - 1 - p) % stride == 0]
    assert found == expected
    for position in found:
        assert first <= position + 1 or position == 0
        assert position + horizon <= end - 1


def test_datetime_series_are_cut_at_one_moment_and_ended_ones_get_no_test():
    panel = panel_of([100, 60])
    parts = split(panel, 20, 10)
    assert parts.valid_end.tolist() == [80, 60]
    assert parts.train_end.tolist() == [70, 50]
    cutoffs = backtest_cutoffs(panel, parts, 5, 5)
    assert set(cutoffs.series.tolist()) == {0}


def test_integer_series_are_cut_from_their_own_ends():
    parts = split(panel_of([100, 60], integer=True), 20, 10)
    assert parts.valid_end.tolist() == [80, 40]
    assert parts.train_end.tolist() == [70, 30]


def test_train_validation_and_test_never_overlap():
    panel = panel_of([100, 90], late=13)
    parts = split(panel, 20, 10)
    moments = panel.starts[:, None] + torch.stack([parts.train_end, parts.valid_end], dim=1)
    newest = (panel.starts + panel.lengths).max()
    assert (moments[:, 1] <= newest - 20).all()
    assert (moments[:, 0] <= newest - 30).all()


def test_auto_spans_hold_three_horizons_but_at_most_a_sixth():
    assert spans(panel_of([600] * 8), 24, season=1, test_steps="auto", validation_steps="auto") == (72, 72)
    assert spans(panel_of([120]), 12, season=12, test_steps="auto", validation_steps="auto") == (20, 20)
    assert spans(panel_of([40]), 12, season=1, test_steps="auto", validation_steps=12) == (12, 12)


@pytest.mark.parametrize(
    ("series", "length", "season", "horizons"),
    [
        (1, 20_000, 1, 24),
        (5, 20_000, 1, 5),  # 25 over all
        (7, 20_000, 1, 4),
        (8, 20_000, 1, 3),
        (100, 20_000, 1, 3),
        (1, 12 * 12 * 7, 1, 7),  # a twelfth of the series
        (1, 12 * 12 * 2, 1, 3),  # more than a twelfth, as the usual three horizons are no more than a sixth
        (8, 20_000, 12 * 9, 9),  # a cycle of the season
        (1, 20_000, 12 * 9, 24),
        (8, 12 * 12 * 7, 12 * 9, 7),  # ... a twelfth of the series
    ],
)
def test_auto_spans_hold_enough_to_choose_by(series, length, season, horizons):
    """24 horizons where series are few, and a cycle of the longest season, as far as the length allows it."""
    panel = panel_of([length] * series)
    found = spans(panel, 12, season=season, test_steps="auto", validation_steps="auto")
    assert found == (12 * horizons, 12 * horizons)


def test_too_short_series_are_refused_with_what_to_do():
    with pytest.raises(WindowError, match=r"the longest series has 20 steps.*leave nothing to train on; collect more"):
        split(panel_of([20]), 12, 12)
    with pytest.raises(WindowError, match="must each hold a horizon of 12"):
        spans(panel_of([100]), 12, season=1, test_steps=5, validation_steps="auto")
