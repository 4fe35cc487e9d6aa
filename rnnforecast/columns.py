"""The names of columns, spelt once.

Long frame: one row per (`series_id`, `timestamp`) with `target` and any covariate columns.
Forecast frame: `series_id, cutoff, timestamp, step, mean, q0.1, ...`; where stored, also `model`
and `table_version`. A peer's `item_id` / `unique_id` is our `series_id`, `ds` our `timestamp`,
`y` our `target`: the mapping is made in a source's `columns:`, never inside.
"""

from collections.abc import Iterable

SERIES_ID = "series_id"
TIMESTAMP = "timestamp"
TARGET = "target"
KEY = (SERIES_ID, TIMESTAMP)

CUTOFF = "cutoff"
STEP = "step"
MEAN = "mean"
MODEL = "model"
TABLE_VERSION = "table_version"
FORECAST_KEY = (SERIES_ID, CUTOFF, TIMESTAMP, STEP)

ORDINAL = "ordinal"

MEDIAN = "q0.5"


def quantile(level: float) -> str:
    """The column that holds the forecast quantile of `level`: 0.1 -> 'q0.1'."""
    return f"q{level:g}"


def quantiles(levels: Iterable[float]) -> list[str]:
    """The quantile columns of a forecast frame, in the order of `levels`."""
    return [quantile(level) for level in levels]


def levels_of(columns: Iterable[str]) -> list[float]:
    """The quantile levels that a forecast frame with these columns carries, ascending."""
    found = []
    for name in columns:
        if name.startswith("q"):
            try:
                found.append(float(name[1:]))
            except ValueError:
                continue
    return sorted(found)
