"""The report page: whole, self-contained, true to the numbers it was given, safe with any name."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import polars as pl
import pytest

from rnnforecast import report_figures
from rnnforecast.frequency import Frequency
from rnnforecast.report import ReportData, chosen_series, headline, verdict, write
from rnnforecast.report_figures import Scale
from rnnforecast.report_page import ahead, number

HORIZON = 3
START = datetime(2024, 1, 1, tzinfo=UTC)
EVIL = "<script>alert('x')</script>%{y} var(--ink) \"&"
LEADERBOARD = pl.DataFrame({
    "model": ["lstm", "seasonal_naive", "naive"],
    "mase": [0.6613, 1.002, 1.734],
    "wql": [0.01234, 0.02468, 0.03702],
    "mae": [12.34, 23.45, 34.56],
    "rmse": [15678.9, 25678.9, 35678.9],
    "smape": [0.0456, 0.0567, 0.0678],
    "coverage": [0.783, 0.814, None],
    "skill": [0.34, 0.0, -0.731],
    "seconds": [92.13, 0.251, 0.162],
})  # fmt: skip


def times(count, integer=False):
    return list(range(1, count + 1)) if integer else [START + timedelta(days=i) for i in range(count)]


def forecasts(names, cutoffs, clock, actual=True):
    """From every cutoff (an index into `clock`) the value 10 * step, with the band of one unit on both sides."""
    rows = []
    for name in names:
        for at in cutoffs:
            for step in range(1, HORIZON + 1):
                point = 10.0 * step
                row = {"series_id": name, "cutoff": clock[at], "timestamp": clock[at + step], "step": step}
                row |= {"mean": point, "q0.1": point - 1, "q0.5": point, "q0.9": point + 1}
                rows.append(row | ({"target": point + 0.5} if actual else {}))
    return pl.DataFrame(rows)


def data(names=("Mauna Loa",), integer=False, length=30, **changes):
    clock = times(length + HORIZON, integer)
    rows = [{"series_id": n, "timestamp": clock[i], "target": float(i % 7)} for n in names for i in range(length)]
    backtests = {label: forecasts(names, (length - 7, length - 4), clock) for label in LEADERBOARD["model"]}
    by_series = pl.DataFrame([
        {"series_id": name, "model": label, "mase": score + i / 1000}
        for i, name in enumerate(names)
        for label, score in (("lstm", 0.6), ("seasonal_naive", 1.0), ("naive", 1.7))
    ])  # fmt: skip
    whole = ReportData(
        name="climate",
        description="Weekly means",
        metric="mase",
        horizon=HORIZON,
        frequency="1i" if integer else "1d",
        season_length=7,
        history=pl.DataFrame(rows),
        forecasts=forecasts(names, [length - 1], clock, actual=False),
        backtests=backtests,
        leaderboard=LEADERBOARD,
        by_series=by_series,
        champion="lstm",
        decision="lstm is champion: nobody else applied.",
        facts={"model version": "climate v7", "table version": "12", "git commit": "a653057"},
        quarantine={"target is not a number": 3},
        config_text="name: climate\n",
    )
    return replace(whole, **changes)


class Reader(HTMLParser):
    """What a browser would see: text, scripts, and addresses that something would be loaded from."""

    def __init__(self, html):
        super().__init__()
        self.text, self.scripts, self.addresses, self.inside = [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        if tag == "script":
            self.scripts.append("")
        self.addresses += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.text.append(data)

    @property
    def figures(self):
        return json.loads(self.scripts[0])

    @property
    def words(self):
        return " ".join(self.text)


@pytest.fixture
def read(tmp_path):
    return lambda report: Reader(write(tmp_path / "reports" / "page.html", report).read_text(encoding="utf-8"))


def test_the_page_loads_nothing_and_holds_plotly_once(read, tmp_path):
    page = read(data())
    assert all(address.startswith("#") for address in page.addresses)
    assert [script.count("* plotly.js v") for script in page.scripts] == [0, 1, 0]
    text = (tmp_path / "reports" / "page.html").read_text()
    assert "default-src 'none'" in text
    assert len(text) < 6_000_000


def test_every_candidate_and_number_of_the_leaderboard_is_on_the_page(read):
    words = read(data()).words.replace("\N{MINUS SIGN}", "-").replace("\xa0", " ")
    for label in ("lstm", "seasonal_naive", "naive", "champion", "baseline"):
        assert label in words
    for row in (
        ("0.6613", "0.01234", "12.34", "15,679", "0.04560", "92.13"),
        ("1.002", "0.02468", "23.45", "25,679", "0.05670", "0.2510"),
        ("1.734", "0.03702", "34.56", "35,679", "0.06780", "0.1620"),
    ):
        assert all(figure in words for figure in row)
    for share in ("78.3 %", "81.4 %", "+34.0 %", "0.0 %", "-73.1 %", "\N{EN DASH}"):
        assert share in words


def test_a_hostile_name_is_text_everywhere(read):
    page = read(data(
        names=(EVIL, "calm"),
        name=EVIL,
        description=EVIL,
        decision=EVIL,
        facts={EVIL: EVIL},
        quarantine={EVIL: 1},
        config_text=EVIL,
        unit=EVIL,
    ))  # fmt: skip
    assert len(page.scripts) == 3
    assert page.words.count(EVIL) >= 9
    drawn = json.dumps(page.figures)
    assert not any(sign in drawn for sign in ("<script", "%{y} var", "var(--ink) "))
    assert json.dumps("&lt;script&gt;alert('x')&lt;/script&gt;&#37;{y} var&#40;--ink) \"&amp;")[1:-1] in drawn


def test_a_hostile_candidate_is_text_everywhere(read):
    board = LEADERBOARD.with_columns(pl.col("model").replace("lstm", EVIL))
    given = data(leaderboard=board, champion=EVIL)
    page = read(replace(given, backtests={EVIL: given.backtests["lstm"], "naive": given.backtests["naive"]}))
    assert len(page.scripts) == 3
    assert "<script" not in json.dumps(page.figures)


def test_integer_timestamps_are_drawn_as_steps(read):
    page = read(data(integer=True))
    figure = page.figures["forecast"][0]
    assert figure["layout"]["xaxis"]["type"] == "linear"
    assert figure["data"][0]["x"] == list(range(1, 31))
    assert "step 30" in page.words
    assert f"{HORIZON} steps ahead" in page.words


def test_the_forecast_is_drawn_at_its_times_and_values(read):
    band, median = read(data()).figures["forecast"][0]["data"][1:]
    ms = [int(time.timestamp() * 1000) for time in times(33)[30:]]
    assert median["x"] == [*ms, None]
    assert median["y"] == [10, 20, 30, None]
    assert median["customdata"][1] == [19, 21]
    assert band["x"] == [*ms, *ms[::-1], None]
    assert band["y"] == [11, 21, 31, 29, 19, 9, None]


@pytest.mark.parametrize("gap", [None, float("nan"), "absent"])
def test_a_gap_breaks_the_line_and_is_counted(read, gap):
    given = data()
    hole = (pl.col("timestamp") >= START + timedelta(days=10)) & (pl.col("timestamp") < START + timedelta(days=13))
    holed = (
        given.history.with_columns(pl.when(hole).then(gap).otherwise("target").alias("target"))
        if gap != "absent"
        else given.history.filter(~hole)
    )
    page = read(replace(given, history=holed))
    line = page.figures["forecast"][0]["data"][0]
    after = line["x"].index(int((START + timedelta(days=13)).timestamp() * 1000))
    assert line["y"][after - 1] is None
    assert "10.00\xa0%" in page.words  # 3 of 30 steps


def test_error_by_step_and_residuals_are_those_of_the_backtest(read):
    figures = read(data()).figures
    assert [trace["y"] for trace in figures["steps"][0]["data"]] == [[0.5, 0.5, 0.5]] * 3
    assert set(figures["residuals"][0]["data"][0]["y"]) == {0.5}
    assert sum(figures["histogram"][0]["data"][0]["y"]) == 6


def test_several_series_count_alike_in_the_errors():
    """A series a thousand times larger, with errors a thousand times larger, has the same scaled residuals."""
    given = data(names=("a", "b"))
    clock = times(30)
    ramp = [
        {"series_id": n, "timestamp": clock[i], "target": i * k} for n, k in (("a", 1.0), ("b", 1e3)) for i in range(30)
    ]
    frame = given.backtests["lstm"].with_columns(
        (pl.col("q0.5") + pl.when(pl.col("series_id") == "a").then(3.5).otherwise(3500.0)).alias("target")
    )
    scaled = report_figures.residuals({"lstm": frame}, pl.DataFrame(ramp), 7)
    assert scaled["residual"].to_list() == pytest.approx([0.5] * 12)  # a seasonal change of a is 7


def test_coverage_counts_outcomes_at_or_below_each_quantile(read):
    frame = data().backtests["lstm"]  # the outcome is half a unit over the median, inside the band
    assert report_figures.observed(frame).rows() == [(0.1, 0.0), (0.5, 0.0), (0.9, 1.0)]
    assert "80\xa0% interval held 100.0\xa0% of the outcomes: wider than needed" in read(data()).words


def test_cutoffs_drawn_do_not_overlap():
    clock = times(60)
    every = forecasts(["a"], range(40), clock)
    assert report_figures.apart(every, 4) == [clock[i] for i in (30, 33, 36, 39)]


def test_a_long_history_keeps_its_newest_half_and_every_extreme():
    clock = [START + timedelta(hours=i) for i in range(50_000)]
    values = [float(i % 24) for i in range(50_000)]
    values[1234], values[2345] = 999.0, -999.0
    history = pl.DataFrame({"series_id": "a", "timestamp": clock, "target": values})
    figure = json.loads(
        report_figures.forecast_figure(history, data().forecasts, Scale(Frequency.parse("1h")), recent=48, points=4_000)
    )
    drawn = figure["data"][0]["y"]
    assert len(drawn) <= 4_000
    assert drawn[-2_000:] == values[-2_000:]
    assert {999.0, -999.0} <= set(drawn)


def test_four_hundred_series_stay_small_and_the_twelve_drawn_are_said(read, tmp_path):
    names = [f"H{i:03d}" for i in range(400)]
    given = data(names=names, integer=True, length=700)
    page = read(given)
    assert len(page.figures["forecast"]) == len(page.figures["backtest"]) == 12
    assert "12 of 400" in page.words
    assert {"H399 (worst)", "H000 (best)", "H004 (first)"} <= set(page.text)
    assert list(chosen_series(given).values()) == ["worst"] * 4 + ["best"] * 4 + ["first"] * 4
    assert (tmp_path / "reports" / "page.html").stat().st_size < 6_000_000


def test_a_baseline_that_wins_is_said_plainly(read):
    board = LEADERBOARD.with_columns(mase=pl.Series([1.9, 1.2, 1.0]), skill=pl.Series([-0.58, 0.0, 0.17])).sort("mase")
    won = data(leaderboard=board, champion="naive")
    assert headline(won) == "climate: no network beats the naive forecast, 3 days ahead"
    assert verdict(won).startswith(
        "A baseline won: naive has the lowest MASE, 1.000; the best network, lstm, has 1.900"
    )
    assert "A baseline won" in read(won).words
    assert "The champion is lstm all the same" in verdict(replace(won, champion="lstm"))


def test_the_headline_says_how_much_better():
    said = headline(data()).replace("\xa0", " ")
    assert said == "climate: LSTM forecasts 3 days ahead; 34 % lower MASE than the seasonal naive"


def test_a_random_walk_is_called_one(read):
    given = data(names=("walk", "season"))
    walk = pl.DataFrame({"series_id": "walk", "model": ["lstm", "seasonal_naive", "naive"], "mase": [0.99, 3.0, 1.0]})
    scores = pl.concat([given.by_series.filter(pl.col("series_id") == "season"), walk])
    assert read(replace(given, by_series=scores)).words.count("like a random walk") == 1


def test_what_is_not_there_is_left_out(read):
    """The first run: no backtest, no leaderboard, a champion of old, points without quantiles."""
    given = data()
    points = given.forecasts.drop("q0.1", "q0.5", "q0.9")
    bare = replace(
        given, backtests={}, leaderboard=LEADERBOARD.clear(), by_series=given.by_series.clear(), forecasts=points
    )
    page = read(replace(bare, quarantine={}, facts={}, description="", decision=""))
    assert "No backtest was made" in page.words
    assert page.figures["forecast"][0]["data"][1]["y"] == [10, 20, 30, None]


def test_the_leader_is_looked_at_where_the_champion_has_no_backtest(read):
    page = read(data(champion="lstm of last year"))
    assert "What LSTM would have forecast" in page.words


def test_the_stream_replay_is_drawn_where_it_was_scored(read):
    assert "Stream replay" not in read(data()).words
    page = read(data(live=data().backtests["lstm"]))
    assert "Stream replay" in page.words
    assert len(page.figures["live"]) == 1


def test_an_old_page_survives_a_write_that_fails(tmp_path):
    page = write(tmp_path / "page.html", data())
    before = page.read_bytes()
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="cutoff"):
        write(page, data(forecasts=data().forecasts.drop("cutoff")))
    assert page.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.66131, "0.6613"), (1234567.8, "1,234,568"), (0, "0"), (None, "–"), (float("nan"), "–"), (-2.5, "−2.500")],  # noqa: RUF001
)
def test_numbers_have_four_significant_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("horizon", "frequency", "text"),
    [
        (13, "1w", "13 weeks"),
        (96, "15m", "24 hours"),
        (1, "1d", "1 day"),
        (48, "1i", "48 steps"),
        (5, "1bd", "5 business days"),
        (3, "10m", "30 minutes"),
    ],
)
def test_the_horizon_is_said_in_units_of_time(horizon, frequency, text):
    assert ahead(horizon, Frequency.parse(frequency)) == text


def test_the_colours_of_the_figures_are_all_in_the_style(tmp_path):
    text = write(tmp_path / "page.html", data()).read_text(encoding="utf-8")
    used = set(re.findall(r"var\((--[a-z]+)\)", text))
    light, dark = text.split("prefers-color-scheme: dark) {", 1)
    assert all(f"{name}:" in light for name in used - {"--w"})
    assert all(f"{name}:" in dark.split("</style>")[0] for name in used - {"--w"})
