"""Constants that stand for no reading, such as -999: told by how often they come and how far they lie off."""

from typing import Final

import polars as pl

SENTINELS: Final = (-9.99, -99.0, -99.9, -99.99, -200.0, -999.0, -999.9, -999.99, -9999.0, 999.9, 9999.0, 99999.0)
REPEATED: Final = 3


def sentinels(numbers: pl.Series) -> list[float]:
    """Those of the usual constants that are repeated among `numbers` and far from everything else."""
    numbers = numbers.drop_nulls()
    counts = numbers.filter(numbers.is_in(SENTINELS)).value_counts().rows()
    repeated = {value for value, count in counts if count >= REPEATED}
    others = numbers.filter(~numbers.is_in(SENTINELS)) if repeated else numbers.clear()
    if others.is_empty():
        return []
    low, high = float(others.quantile(0.01) or 0), float(others.quantile(0.99) or 0)
    reach = high - low
    found = []
    for value in sorted(repeated, key=SENTINELS.index):
        outside = value < low - reach / 2 or value > high + 3 * reach
        if outside and not others.is_between(value - reach / 10, value + reach / 10).any():
            found.append(value)
    return found
