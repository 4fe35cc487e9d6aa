"""What the processor is asked for: memory that is kept, numbers too small to matter as zero."""

import resource
import subprocess
import sys

import pytest
import torch

from rnnforecast.allocator import keep_memory


def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(8 << 20)  # 32 MiB: 8,192 pages if they are fresh
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_large_block_that_was_freed_is_not_taken_from_the_system_again():
    if not keep_memory():
        pytest.skip("not glibc's allocator: there is nothing to ask of it")
    faults(2)
    assert faults(10) < 5 * 8_192  # ten fresh blocks would be 81,920


def test_numbers_too_small_to_be_normal_are_zero_in_every_thread_of_ours():
    """The backward pass of a long window is full of them, and each takes a processor a hundred times longer."""
    code = """
import sys, threading, torch
if sys.argv[1]:
    import rnnforecast.nn
torch.set_num_threads(2)
small = torch.full((1_000_000,), 1e-30) * 1e-10
found = [int(small.count_nonzero())]
thread = threading.Thread(target=lambda: found.append(int((torch.full((1_000_000,), 1e-30) * 1e-10).count_nonzero())))
thread.start(), thread.join()
print(*found)
"""
    counts = [
        subprocess.run([sys.executable, "-c", code, ours], capture_output=True, text=True, check=True).stdout.split()
        for ours in ("", "ours")
    ]
    assert counts == [["1000000", "1000000"], ["0", "0"]]
