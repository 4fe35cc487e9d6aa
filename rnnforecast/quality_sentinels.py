"""Constants that stand for no reading, such as -999: told by how often they come and how far they lie off."""

from typing import Final

import polars as pl

SENTINELS: Final = (
    *(-0.99, -9.99, -99.0, -99.9, -99.99, -200.0, -999.0, -999.9, -999.99, -9999.0),
    *(999.9, 9999.0, 99999.0),
)
REPEATED: Final = 3


def stands_out(value: float, numbers: pl.Series) -> bool:
    """Whether a constant is repeated among `numbers` and far from all that are no such constant."""
    others = numbers.filter(~numbers.is_in(list(SENTINELS)))
    if (numbers == value).sum() < REPEATED or others.is_empty():
        return False
    low, high = float(others.quantile(0.01) or 0), float(others.quantile(0.99) or 0)
    reach = high - low
    outside = value < low - reach / 2 or value > high + 3 * reach
    return outside and not others.is_between(value - reach / 10, value + reach / 10).any()
