"""Real data that comes inside installed packages, for demonstrations without a network.

`co2`: weekly CO2 at Mauna Loa, 59 weeks missing (statsmodels). `water_flow`: an hourly sensor with a clock
change and gaps (river). `markets`: S&P 500, NASDAQ and WTI, daily closes and volatilities (arch).
"""

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import polars as pl

from rnnforecast.columns import KEY, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.config import DatasetSource, Pipeline
from rnnforecast.sources.base import REJECTED, ROW, TIME, Batch, Cursor, Quiet, SourceError, Until, identity

TRADING_DAYS = 252


class DatasetReader(Quiet):
    """Yields a packaged data set in the order of time, from where the cursor stands up to `until`."""

    def __init__(self, pipeline: Pipeline, source: DatasetSource) -> None:
        if pipeline.covariates:
            raise SourceError(
                f"dataset {source.name}: has no column {pipeline.covariates[0]!r}; "
                f"take the covariates out of the pipeline file, the packaged sets have targets only"
            )
        self.label: str = source.name
        self.key = identity("dataset", source.name, source.model_dump())

    def read(self, cursor: Cursor | None, *, until: Until = None) -> Iterator[Batch]:
        """Yield one batch of the readings in (cursor, until]; nothing where there are none."""
        if until is not None and not isinstance(until, datetime):
            raise SourceError(
                f"dataset {self.label}: until: expected a time; found {until!r}: the set has no integer steps"
            )
        frame = load(self.label).with_row_index(ROW, offset=1).cast({ROW: pl.Int64})
        if cursor:
            frame = frame.filter(pl.col(TIMESTAMP) > pl.lit(cursor["timestamp"]).str.to_datetime(time_zone="UTC"))
        if until is not None:
            zoned = until.tzinfo is not None
            limit = pl.lit(until).dt.convert_time_zone("UTC") if zoned else pl.lit(until).dt.replace_time_zone("UTC")
            frame = frame.filter(pl.col(TIMESTAMP) <= limit)
        if frame.is_empty():
            return
        last = frame[TIMESTAMP].max()
        assert isinstance(last, datetime)
        yield Batch(frame, pl.DataFrame(schema=REJECTED), {"timestamp": last.isoformat()}, self.label)


def load(name: str) -> pl.DataFrame:
    """A packaged set as a long frame, sorted by time; raises SourceError where its package is not installed."""
    loaders: dict[str, Callable[[], pl.DataFrame]] = {"co2": _co2, "water_flow": _water_flow, "markets": _markets}
    try:
        frame = loaders[name]()
    except ImportError as error:
        raise SourceError(
            f"dataset {name}: comes with a package that is not installed ({error.name}); "
            f"pip install 'rnnforecast[datasets]'"
        ) from None
    return frame.with_columns(pl.col(TIMESTAMP).cast(TIME)).sort(TIMESTAMP, SERIES_ID).select(*KEY, TARGET)


def _co2() -> pl.DataFrame:
    """ppm, every Saturday from 1958 to 2001; weeks without a reading are rows with a null."""
    from statsmodels.datasets import co2

    data = co2.load_pandas().data
    return _series("mauna_loa", data.index, data["co2"])


def _water_flow() -> pl.DataFrame:
    """Litres per second, hourly in local time with its offset; missing hours are missing rows."""
    from river import datasets

    rows = [(x["Time"].timestamp(), float(y)) for x, y in datasets.WaterFlow()]
    frame = pl.DataFrame(rows, schema={"seconds": pl.Float64, TARGET: pl.Float64}, orient="row")
    stamp = (pl.col("seconds") * 1_000_000).cast(pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return frame.select(pl.lit("water_flow").alias(SERIES_ID), stamp.alias(TIMESTAMP), TARGET)


def _markets() -> pl.DataFrame:
    """Six series: the daily close and the daily volatility of each market."""
    from arch.data import nasdaq, sp500, wti

    parts = []
    for name, module, column in (
        ("sp500", sp500, "Adj Close"),
        ("nasdaq", nasdaq, "Adj Close"),
        ("wti", wti, "DCOILWTICO"),
    ):
        data = module.load()
        price = _series(f"{name} price", data.index, data[column])
        parts += [price, _volatility(price, f"{name} volatility")]
    return pl.concat(parts)


def _volatility(price: pl.DataFrame, name: str) -> pl.DataFrame:
    """Volatility of each day in percent a year: |log return| x sqrt(252 pi / 2) x 100, null where there is no close.

    The return is that since the last close there was. The factor makes it unbiased for normal returns,
    whose absolute value has the mean sigma sqrt(2 / pi).
    """
    scale = 100 * math.sqrt(TRADING_DAYS * math.pi / 2)
    before = pl.col(TARGET).forward_fill().shift(1)
    ratio = pl.col(TARGET) / before
    value = pl.when(ratio > 0).then(ratio.log().abs() * scale)  # a price may be negative, as WTI's was once
    # The first close has no return, and is no reading that is missing.
    frame = price.with_columns(value.alias(TARGET), pl.lit(name).alias(SERIES_ID), before.alias("before"))
    return frame.filter(pl.col("before").is_not_null()).drop("before")


def _series(name: str, times: Any, values: Any) -> pl.DataFrame:
    """One series from a pandas index and column; NaN becomes null."""
    stamps = pl.Series(TIMESTAMP, times.to_numpy()).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    target = pl.Series(TARGET, values.to_numpy(), dtype=pl.Float64).fill_nan(None)
    return pl.DataFrame({TIMESTAMP: stamps, TARGET: target}).select(pl.lit(name).alias(SERIES_ID), TIMESTAMP, TARGET)
