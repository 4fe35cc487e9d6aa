"""A short name for what a frame of any size holds, found a batch at a time.

Each row is mixed to a number, and the rows' numbers are added up, so that their order does not matter: two sums of 64
bits, that two tables which differ by chance share once in 10^38.
"""

import hashlib
from typing import Any, Final

import numpy as np
import polars as pl

BATCH: Final = 1 << 20  # rows
REMEMBERED: Final = 1 << 20  # texts whose number is not worked out again
MISSING: Final = np.uint64(0x9E3779B97F4A7C15)
SECOND: Final = np.uint64(0xD1B54A32D192ED03)
Numbers = np.ndarray[Any, np.dtype[np.uint64]]


def digest(frame: pl.DataFrame | pl.LazyFrame) -> str:
    """A hash (32 hex characters) of what a frame holds, whatever the order of its rows and columns."""
    names = sorted(frame.collect_schema().names())
    kept = frame.select(names)
    parts = kept.iter_slices(BATCH) if isinstance(kept, pl.DataFrame) else kept.collect_batches(chunk_size=BATCH)
    texts: dict[str, int] = {}
    rows, sums = 0, [np.uint64(0), np.uint64(0)]
    for part in parts:
        mixed = np.zeros(len(part), dtype=np.uint64)
        for column in part.get_columns():
            mixed = _mixed(mixed ^ _numbers(column, texts))
        rows += len(part)
        for place, each in enumerate((mixed, _mixed(mixed ^ SECOND))):
            sums[place] = np.add(sums[place], each.sum(dtype=np.uint64))
    types = [dtype.base_type().__name__ for dtype in kept.collect_schema().dtypes()]
    return hashlib.sha256(repr((names, types, rows, [int(each) for each in sums])).encode()).hexdigest()[:32]


def _numbers(column: pl.Series, texts: dict[str, int]) -> Numbers:
    """A number for each value of a column; null is one of its own."""
    if column.dtype == pl.String:
        found = _of_texts(column, texts)
    elif column.dtype.is_float():
        found = (column.cast(pl.Float64).fill_null(0.0) + 0.0).to_numpy().view(np.uint64)  # -0.0 and 0.0 are one number
    else:
        found = column.to_physical().cast(pl.Int64, wrap_numerical=True).fill_null(0).to_numpy().view(np.uint64)
    return np.where(column.is_null().to_numpy(), MISSING, _mixed(found + np.uint64(1)))


def _of_texts(column: pl.Series, texts: dict[str, int]) -> Numbers:
    different = column.drop_nulls().unique()
    if len(texts) > REMEMBERED:
        texts.clear()
    for text in different:
        if text not in texts:
            texts[text] = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    known = pl.DataFrame({"text": different, "number": pl.Series([texts[text] for text in different], dtype=pl.UInt64)})
    both = pl.DataFrame({"text": column}).join(known, on="text", how="left", maintain_order="left")
    return both["number"].fill_null(0).to_numpy()


def _mixed(values: Numbers) -> Numbers:
    """Numbers spread over all 64 bits (the finaliser of SplitMix64: Steele, Lea and Flood 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
