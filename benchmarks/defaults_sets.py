"""The public sets that the defaults are judged on: rows as a user would have them, long ones cut."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

SERIES: Final = 100  # of a set that has more: so many, evenly spaced among their sorted names
STEPS: Final = 20_000  # of each series at most, the last ones


@dataclass(frozen=True)
class Source:
    """Where a set's rows are: files end to end, and which of their rows; and the season that is known of them, in
    steps: seasonal naive and AutoETS are told it, the pipeline has to find it."""

    files: tuple[str, ...]
    season: int = 1
    rows: Callable[[], pl.Expr] | None = None


def _period(name: str, season: int) -> Source:
    return Source(("m3_train", "m3_test"), season, lambda: pl.col("period") == name)


SETS: Final[dict[str, Source]] = {
    "air_passengers": Source(("air_passengers",), 12),
    "beijing_pm25": Source(("beijing_pm25",), 24),
    "co2_daily": Source(("co2_mlo_daily",)),
    "co2_weekly": Source(("co2_weekly_statsmodels",), 52),
    "ecg5000": Source(("ecg5000_train",)),
    "ecg_mitbih": Source(("ecg_mitbih_208_5min",)),
    "elnino": Source(("elnino_sst",), 12),
    "energy_prices": Source(("energy_prices_daily",)),
    "ETTh1": Source(("ETTh1",), 24),
    "ETTm1": Source(("ETTm1",), 96),
    "exchange_rate": Source(("exchange_rate",)),
    "jsb_chorales": Source(("jsb_chorales_16th",)),
    "m3_yearly": _period("Yearly", 1),
    "m3_quarterly": _period("Quarterly", 4),
    "m3_monthly": _period("Monthly", 12),
    "m3_other": _period("Other", 1),
    "m4_hourly": Source(("m4_hourly_train", "m4_hourly_test"), 24),
    "pjm": Source(("pjm_in_zone_utc",), 24),
    "sp500": Source(("sp500_daily_2000_2020",)),
    "sunspots": Source(("sunspots_monthly",)),
    "taylor": Source(("taylor_halfhourly",), 48),
    "ucr_basicmotions": Source(("ucr_basicmotions",)),
    "ucr_italypowerdemand": Source(("ucr_italypowerdemand",)),
    "ucr_japanesevowels": Source(("ucr_japanesevowels",)),
    "vix": Source(("vix_daily",)),
}

LEFT_OUT: Final = {
    "sst2_sentences": "text",
    "multi30k": "text",
}


def rows(name: str, data: Path) -> pl.DataFrame:
    """The rows of a set, cut: unique_id, ds, y, in the order of both. Raises FileNotFoundError."""
    source = SETS[name]
    parts = [pl.read_parquet(data / "parquet" / f"{file}.parquet") for file in source.files]
    frame = pl.concat(part if source.rows is None else part.filter(source.rows()) for part in parts)
    frame = frame.select("unique_id", "ds", "y").sort("unique_id", "ds")
    names = frame["unique_id"].unique().sort()
    if len(names) > SERIES:
        kept = names.gather([place * len(names) // SERIES for place in range(SERIES)])
        frame = frame.filter(pl.col("unique_id").is_in(kept.implode()))
    return frame.group_by("unique_id", maintain_order=True).tail(STEPS)
