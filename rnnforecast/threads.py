"""Blocks of work that have nothing to do with each other, one to a thread.

torch divides every operation among its threads and waits for all of them each time. Where an operation takes a tenth
of a millisecond, as a step of some thousand lanes does, most of that is waiting: a thread that does all of its block
alone is nearly as many times faster as there are threads.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")


def blocks(count: int, most: int, *, least: int) -> list[slice]:
    """So many things in even blocks of at most `most`: one for each thread, or as many for each, but none smaller than
    `least` for the sake of that."""
    threads = torch.get_num_threads()
    number = max(-(-count // most), min(threads, count // least))
    if number > threads:
        number = -(-number // threads) * threads
    return [slice(count * place // number, count * (place + 1) // number) for place in range(number)]


def side_by_side(work: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Do `work`, without gradients, for each of the items, as many at once as torch has threads here: what it writes
    must lie apart. The first error of an item is raised, when all are done."""
    threads = min(torch.get_num_threads(), len(items))

    def alone(item: Item) -> None:
        with torch.inference_mode():
            work(item)

    if threads <= 1:
        for item in items:
            alone(item)
        return
    before = torch.get_num_threads()
    # The number is each thread's own; threads that come after it take over the last one that was set, anywhere.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            done = [pool.submit(alone, item) for item in items]
        finally:
            pool.shutdown()
            torch.set_num_threads(before)
    for each in done:
        each.result()


def one_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What `make` makes of each item, in their order; the next is made while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming: Future[Made] | None = None
        for item in items:
            before, coming = coming, pool.submit(make, item)
            if before is not None:
                yield before.result()
        if coming is not None:
            yield coming.result()
