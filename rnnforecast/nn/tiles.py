"""Rows of a tensor a few at a time, so that what is worked out on the way stays near the processor."""

from torch import Tensor

TILE = 1 << 16  # numbers of a tensor that are worked on together


def tiles(values: Tensor) -> list[slice]:
    """The rows of values [R, ...], evenly as many together as hold about as many numbers as a tile; on a GPU all."""
    rows = len(values)
    number = 1 if values.is_cuda else max(round(values.numel() / TILE), 1)
    count = max(-(-rows // number), 1)
    return [slice(start, start + count) for start in range(0, rows, count)] if rows else []
