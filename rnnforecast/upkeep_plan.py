"""Which files of a table are to be written anew so that few rows stand between a batch and its place.

Big files are to follow each other in time without overlap; each has the slot of time from its start to the next
one's. Small files lie within one slot and are few there. Everything here is arithmetic on what the log says of the
files (path, rows, low, high), the times as whole numbers.
"""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

FEW: Final = 8  # small files stay beside a big one while it has more than so many times their rows


class File(NamedTuple):
    """A file of a table: its rows, and the least and greatest time among them."""

    path: str
    rows: int
    low: int
    high: int


@dataclass(frozen=True)
class Group:
    """Files that are to be replaced in one commit, and where in time to cut what comes instead.

    cuts: the times at which a new file begins (none: one file); None: into equal parts of a file's usual size.
    """

    files: tuple[File, ...]
    cuts: tuple[int, ...] | None = None

    @property
    def rows(self) -> int:
        """The rows of all its files."""
        return sum(file.rows for file in self.files)


def tangled(files: Iterable[File], size: int) -> list[Group]:
    """Big files that overlap each other in time, as a bulk load of one series after the other leaves them."""
    knots: list[Group] = []
    knot: list[File] = []
    end = 0
    for file in _big(files, size):
        if knot and file.low >= end:
            knots.append(Group(tuple(knot)))
            knot = []
        end = max(end, file.high) if knot else file.high
        knot.append(file)
    knots.append(Group(tuple(knot)))
    return [knot for knot in knots if len(knot.files) > 1]


def spread(files: Sequence[File], size: int) -> list[Group]:
    """Small files that reach over several slots, in groups of `size` rows, to be cut where the slots begin."""
    starts = _starts(files, size)
    wide = [
        file
        for file in files
        if 2 * file.rows < size and bisect.bisect(starts, file.low) != bisect.bisect(starts, file.high)
    ]
    return together(wide, size, cuts=tuple(starts))


def scattered(files: Sequence[File], size: int) -> list[Group]:
    """Small files that share a slot, and the big one there too once they are an eighth of it."""
    starts = _starts(files, size)
    slots: dict[int, list[File]] = {}
    for file in sorted(files, key=lambda file: file.low):
        slots.setdefault(bisect.bisect(starts, file.low), []).append(file)
    groups = []
    for slot in slots.values():
        small = [file for file in slot if 2 * file.rows < size]
        big = [file for file in slot if 2 * file.rows >= size]
        if small and len(big) == 1 and FEW * sum(file.rows for file in small) >= big[0].rows:
            groups.append(Group((*big, *small)))
        elif len(small) > 1:
            groups += together(small, FEW * size)
    return groups


def together(files: Iterable[File], size: int, *, cuts: tuple[int, ...] | None = None) -> list[Group]:
    """Files in groups of `size` rows at most, in turn."""
    groups: list[list[File]] = []
    for file in files:
        if not groups or sum(other.rows for other in groups[-1]) + file.rows > size:
            groups.append([])
        groups[-1].append(file)
    return [Group(tuple(group), cuts) for group in groups]


def _big(files: Iterable[File], size: int) -> list[File]:
    return sorted((file for file in files if 2 * file.rows >= size), key=lambda file: (file.low, file.high))


def _starts(files: Iterable[File], size: int) -> list[int]:
    """Where the slots begin: with every big file, and after the last one."""
    big = _big(files, size)
    return sorted({*(file.low for file in big), *([max(file.high for file in big) + 1] if big else [])})
