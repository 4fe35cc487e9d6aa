"""Work on threads of its own is the work of a loop, and leaves the number of threads as it was."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast.threads import blocks, one_ahead, side_by_side


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@settings(deadline=None)
@given(count=st.integers(0, 500), most=st.integers(1, 90), least=st.integers(1, 90), threads=st.integers(1, 5))
def test_blocks_hold_everything_once_evenly_and_give_each_thread_as_many(count, most, least, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = blocks(count, most, least=least)
    finally:
        torch.set_num_threads(before)
    sizes = [block.stop - block.start for block in found]
    assert [place for block in found for place in range(block.start, block.stop)] == list(range(count))
    assert max(sizes, default=0) <= most
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    if len(found) > threads:
        assert len(found) % threads == 0
    elif len(found) > -(-count // most):  # smaller than they had to be
        assert min(sizes) >= least


def test_side_by_side_is_a_loop_without_gradients_and_with_the_users_threads(threads):
    out, seen = torch.zeros(40, 8), []

    def work(block):
        seen.append((torch.is_inference_mode_enabled(), torch.get_num_threads()))
        out[block] = torch.arange(40.0)[block, None] * torch.ones(8, requires_grad=True)

    side_by_side(work, blocks(40, 4, least=1))
    assert torch.equal(out, torch.arange(40.0)[:, None].expand(-1, 8))
    assert set(seen) == {(True, 1)}
    assert torch.get_num_threads() == threads


def test_an_error_of_any_block_is_raised(threads):
    def work(number):
        if number == 5:
            raise ValueError(f"block {number}")

    with pytest.raises(ValueError, match="block 5"):
        side_by_side(work, range(8))
    assert torch.get_num_threads() == threads


def test_one_ahead_keeps_the_order_holds_one_more_and_raises_in_its_turn():
    asked = []

    def items():
        for number in range(5):
            asked.append(number)
            yield number

    for number, made in enumerate(one_ahead(lambda item: item * 10, items())):
        assert made == number * 10
        assert len(asked) <= number + 2
    assert list(one_ahead(str, [])) == []
    numbers = one_ahead(lambda item: 6 // item, [3, 0, 1])
    assert next(numbers) == 2
    with pytest.raises(ZeroDivisionError):
        next(numbers)
