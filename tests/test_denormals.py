"""Tiny numbers are zeros while a network trains, and what they were before and after."""

import pytest
import torch

from rnnforecast.denormals import flushed


def tiny() -> float:
    return float(torch.tensor(1e-40) * 1.0)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush them")
@pytest.mark.parametrize("before", [False, True])
def test_tiny_numbers_are_zeros_inside_and_what_they_were_outside(before):
    torch.set_flush_denormal(before)
    try:
        with pytest.raises(RuntimeError, match=r"inside they are 0\.0"), flushed():
            raise RuntimeError(f"inside they are {tiny()}")
        assert (tiny() == 0.0) == before
    finally:
        torch.set_flush_denormal(False)
