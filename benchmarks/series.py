"""The series of `training` and its peers: hourly, with a day, a week and noise. numpy alone, for the peers' sake."""

from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import polars

SERIES: Final = 400
STEPS: Final = 1_000
CONTEXT: Final = 168
HORIZON: Final = 48
HIDDEN: Final = 64
WINDOWS: Final = 256  # per optimiser step
START: Final = datetime(2024, 1, 1)


def values(series: int = SERIES, steps: int = STEPS, *, seed: int = 1) -> np.ndarray:
    """Values [series, steps], float32."""
    random = np.random.default_rng(seed)
    time = np.arange(steps)
    level = random.uniform(50, 500, (series, 1))
    day, week = random.uniform(0.05, 0.3, (2, series, 1))
    phase = random.uniform(0, 2 * np.pi, (2, series, 1))
    waves = day * np.sin(2 * np.pi * time / 24 + phase[0]) + week * np.sin(2 * np.pi * time / 168 + phase[1])
    noise = 0.05 * random.standard_normal((series, steps))
    return np.asarray(level * (1 + waves + noise), dtype=np.float32)


def frame(series: int = SERIES, steps: int = STEPS) -> "polars.DataFrame":
    """The same as a long frame: series_id, timestamp, target."""
    import polars as pl

    moments = np.datetime64(START, "us") + np.arange(steps) * np.timedelta64(1, "h")
    names = [f"s{number:06}" for number in range(series)]
    return pl.DataFrame(
        {
            "series_id": pl.Series(np.repeat(np.array(names, dtype=object), steps), dtype=pl.String),
            "timestamp": np.tile(moments, series),
            "target": values(series, steps).reshape(-1),
        }
    )
