"""The places of a pass: a stretch of it is read in place, and holds what a place for each of its steps does."""

import pytest
import torch

from rnnforecast.nn.places import Ends, Places

STEPS, LANES, CHANNELS = 12, 3, 2
SERIES = torch.arange(float(LANES * CHANNELS * 30)).view(LANES * CHANNELS, 30)  # 18 steps before the pass, 12 of it


@pytest.mark.parametrize(("start", "stop"), [(0, 12), (0, 1), (11, 12), (3, 9), (0, 11)])
def test_a_stretch_holds_what_its_steps_hold(start: int, stop: int) -> None:
    at = torch.arange(start, stop).expand(LANES, -1)
    stretch, each = Places.among(STEPS, at), Places(STEPS, at)
    assert stretch.at is None
    assert torch.equal(stretch.of(SERIES, back=2), each.of(SERIES, back=2))
    assert torch.equal(stretch.windows(SERIES, 11, 6), each.windows(SERIES, 11, 6))
    assert torch.equal(Ends(stretch, 3, 2).of(SERIES, back=1), Ends(each, 3, 2).of(SERIES, back=1))
    # ... and that is, in row 0, the number of the step itself.
    assert stretch.of(SERIES)[0].tolist() == [18 + step for step in range(start, stop)]
    assert stretch.windows(SERIES, 17, 2)[0].tolist() == [[17 + step, 18 + step] for step in range(start, stop)]


def test_a_stretch_is_a_view_of_the_pass() -> None:
    stretch = Places.among(STEPS, torch.arange(4, 8).expand(LANES, -1))
    for found in (stretch.of(SERIES), stretch.windows(SERIES, 10, 5)):
        assert found.untyped_storage().data_ptr() == SERIES.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "at",
    [
        [[1, 2, 3], [1, 2, 3], [1, 2, 4]],  # not the same in each lane
        [[1, 2, 3], [2, 3, 4], [1, 2, 3]],
        [[1, 3, 3], [1, 3, 3], [1, 3, 3]],  # not every step, though from 1 to 3
        [[0, 2, 4]] * 3,
        [[3, 2, 1]] * 3,
    ],
)
def test_other_steps_are_no_stretch(at: list[list[int]]) -> None:
    places = Places.among(STEPS, torch.tensor(at))
    assert places.at is not None
    found = places.of(SERIES)
    for row in range(len(SERIES)):
        assert found[row].tolist() == [float(SERIES[row, 18 + step]) for step in at[row // CHANNELS]]


def test_of_no_steps_nothing_is_held() -> None:
    assert Places.among(STEPS, torch.zeros(LANES, 0, dtype=torch.int64)).of(SERIES).shape == (LANES * CHANNELS, 0)
