"""The allocator keeps its memory: a freed block is reused without a page fault."""

import resource

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
