"""Tiny numbers are zeros while a network trains, and what they were before and after."""

import os
import subprocess
import sys

import pytest
import torch

from rnnforecast.denormals import flushed


def tiny() -> float:
    return float(torch.tensor(1e-40) * 1.0)


pytestmark = pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush them")


@pytest.mark.parametrize("before", [False, True])
def test_tiny_numbers_are_zeros_inside_and_what_they_were_outside(before):
    torch.set_flush_denormal(before)
    try:
        with pytest.raises(RuntimeError, match=r"inside they are 0\.0"), flushed():
            raise RuntimeError(f"inside they are {tiny()}")
        assert (tiny() == 0.0) == before
    finally:
        torch.set_flush_denormal(False)


CODE = """
import torch
{importing}
tiny = torch.full((1_000_000,), 1e-30)
outside = (tiny * 1e-10).count_nonzero()
from rnnforecast.denormals import flushed
with flushed():
    inside = (tiny * 1e-10).count_nonzero()
print(int(tiny[:10].mul(1e-10).count_nonzero()), int(outside) < 1_000_000, int(inside) > 0)
"""


@pytest.mark.parametrize(
    ("importing", "expected"),
    [("import rnnforecast.nn", ["10", "True", "False"]), ("torch.ones(1 << 20).add_(1)", ["10", "False", "True"])],
)
def test_the_threads_of_torch_flush_where_it_started_them_after_our_import(importing, expected):
    """In a process of its own: of two threads, the user's is as it was, and the other one begins as it was begun."""
    code, threads = CODE.format(importing=importing), {**os.environ, "OMP_NUM_THREADS": "2"}
    told = subprocess.run([sys.executable, "-c", code], env=threads, capture_output=True, text=True)
    assert told.stdout.split() == expected, told.stderr
