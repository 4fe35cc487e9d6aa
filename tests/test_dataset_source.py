"""The packaged data sets: against the packages' own files, read by other means."""

import csv
import gzip
import math
import sys
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import polars as pl
import pytest

from rnnforecast.config import parse
from rnnforecast.sources import SourceError, open_source

pytest.importorskip("statsmodels")
pytest.importorskip("river")
pytest.importorskip("arch")


def source(name, more=""):
    pipeline = parse(f"name: p\nhorizon: 1\nsources: [{{kind: dataset, name: {name}}}]\n{more}", file=Path("p.yaml"))
    return open_source(pipeline, pipeline.sources[0])


def frame(name):
    (batch,) = source(name).read(None)
    assert batch.rejected.is_empty()
    return batch.frame


def packaged(package, file):
    with resources.files(package).joinpath(file).open() as lines:
        return list(csv.DictReader(lines))


def test_co2_is_the_weekly_series_with_its_missing_weeks():
    rows = packaged("statsmodels.datasets.co2", "co2.csv")
    co2 = frame("co2")
    assert co2["series_id"].unique().to_list() == ["mauna_loa"]
    assert co2["target"].to_list() == [float(row["co2"]) if row["co2"] else None for row in rows]
    assert co2["timestamp"].dt.strftime("%Y%m%d").to_list() == [row["date"] for row in rows]
    assert (len(co2), co2["target"].null_count()) == (2284, 59)


def test_water_flow_is_put_in_utc_over_the_clock_change():
    rows = packaged("river.datasets", "water-flow.csv")
    flow = frame("water_flow")
    expected = sorted(
        (datetime.fromisoformat(row["Time"]).astimezone(UTC), float(row["Water flow [l/s]"])) for row in rows
    )
    assert flow.select("timestamp", "target").rows() == expected
    assert flow["timestamp"].is_unique().all()


def test_markets_have_closes_and_volatilities():
    markets = frame("markets")
    names = [f"{market} {what}" for market in ("nasdaq", "sp500", "wti") for what in ("price", "volatility")]
    assert markets["series_id"].unique().sort().to_list() == names
    text = gzip.decompress(resources.files("arch.data.wti").joinpath("wti.csv.gz").read_bytes()).decode()
    rows = list(csv.reader(text.splitlines()))[1:]
    days = [datetime.strptime(day, "%m/%d/%Y").date().isoformat() for day, _ in rows]
    closes = {day: None if close == "." else float(close) for day, (_, close) in zip(days, rows, strict=True)}
    wti = markets.filter(pl.col("series_id") == "wti price")
    assert dict(zip(wti["timestamp"].dt.strftime("%Y-%m-%d"), wti["target"], strict=True)) == closes
    volatility, last = {}, None
    for day, close in closes.items():
        if last is not None:
            volatility[day] = 100 * abs(math.log(close / last)) * math.sqrt(252 * math.pi / 2) if close else None
        last = close or last
    found = markets.filter(pl.col("series_id") == "wti volatility")
    assert found["timestamp"].dt.strftime("%Y-%m-%d").to_list() == list(volatility)
    assert found["target"].to_list() == pytest.approx(list(volatility.values()))


def test_the_volatility_is_unbiased_for_normal_returns():
    from rnnforecast.sources.dataset import _volatility

    sigma = 0.2 / math.sqrt(252)  # 20 percent a year
    normal = [sigma * value for value in pl.Series(_normal_quantiles(20_000)).shuffle(seed=1)]
    prices = pl.DataFrame({"series_id": "x", "timestamp": range(20_001), "target": [100.0, *_compound(100.0, normal)]})
    assert _volatility(prices, "v")["target"].mean() == pytest.approx(20, rel=0.001)


def _normal_quantiles(count):
    from statistics import NormalDist

    return [NormalDist().inv_cdf((step + 0.5) / count) for step in range(count)]


def _compound(price, returns):
    for value in returns:
        price *= math.exp(value)
        yield price


def test_a_set_played_as_a_stream_comes_once_and_whole():
    reader, cursor, parts = source("co2"), None, []
    for until in (datetime(1970, 1, 1), datetime(1970, 1, 1), datetime(1990, 1, 1, tzinfo=UTC), None, None):
        for batch in reader.read(cursor, until=until):
            parts.append(batch.frame)
            cursor = batch.cursor
    assert len(parts) == 3
    assert parts[0]["timestamp"].max() <= datetime(1970, 1, 1, tzinfo=UTC) < parts[1]["timestamp"].min()
    assert pl.concat(parts).equals(frame("co2"))


def test_what_a_set_does_not_have_is_refused():
    with pytest.raises(SourceError, match=r"dataset co2: has no column 'rain'; take the covariates out"):
        source("co2", "past_covariates: [rain]")
    with pytest.raises(SourceError, match=r"dataset co2: until: expected a time; found 3"):
        list(source("co2").read(None, until=3))


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(
        SourceError, match=r"water_flow: comes with a package .*\(river\); pip install 'rnnforecast\[data"
    ):
        frame("water_flow")
