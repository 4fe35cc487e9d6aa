"""The median place by place, and the units of series that begin, against numpy."""

import warnings

import numpy as np
import pytest
import torch

from rnnforecast.nn.median import middle
from rnnforecast.nn.scaling import trailing


def known_median(values: np.ndarray, axis: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where all are missing
        return np.nanmedian(values, axis=axis)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7, 8, 13, 16, 33, 40])
@pytest.mark.parametrize("missing", [0.0, 0.1, 0.9])
def test_the_middle_of_what_is_there(count, missing):
    generator = torch.Generator().manual_seed(count)
    values = torch.randn(count, 9, 11, generator=generator)
    values[torch.rand(values.shape, generator=generator) < missing] = torch.nan
    before = values.clone()
    np.testing.assert_allclose(middle(list(values)), known_median(values.numpy(), 0), rtol=1e-6)
    torch.testing.assert_close(values, before, equal_nan=True, rtol=0.0, atol=0.0)  # not written to


@pytest.mark.parametrize("begins", [0, 5, 12, 40, 59])
@pytest.mark.parametrize("steps", [1, 30])
def test_the_units_of_rows_that_begin_are_those_of_the_blocks_that_were_read(begins, steps):
    blocks, length = 5, 6
    values = torch.randn(3, 60, generator=torch.Generator().manual_seed(begins)) + 3
    observed = torch.arange(60).expand(3, -1) >= begins
    observed[1, 33:47] = False  # and one that drops out
    level, spread = trailing(values, observed, blocks, length, steps=steps)
    told = values.double().masked_fill(~observed, torch.nan).numpy()
    for row in range(3):
        for step in range(steps):
            stop = 60 - steps + step + 1
            ended = told[row, stop - blocks * length : stop].reshape(blocks, length)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                mean, deviation = (known_median(how(ended, axis=1), 0) for how in (np.nanmean, np.nanstd))
            wanted = float(values[row, stop - 1]) if np.isnan(mean) else mean
            assert level[row, step] == pytest.approx(wanted, rel=1e-5)
            least = max(1e-3 * abs(wanted), 1e-6)
            assert spread[row, step] == pytest.approx(max(np.nan_to_num(deviation), least), rel=1e-4, abs=1e-6)
