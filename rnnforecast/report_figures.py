"""The figures of the report page: Plotly figures as JSON, without colours of their own.

Every colour is a CSS variable of the page, `var(--champion)`; the page's script puts in the value of the
light or the dark theme before it draws. Times are milliseconds since the epoch, or integer steps.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.offline import get_plotlyjs

from rnnforecast.columns import (
    CUTOFF,
    FORECAST_KEY,
    MEAN,
    MEDIAN,
    SERIES_ID,
    STEP,
    TARGET,
    TIMESTAMP,
    levels_of,
    quantile,
)
from rnnforecast.frame_rows import Frame, names_of, whole_series
from rnnforecast.frequency import Frequency

HISTORY_POINTS = 30_000  # of all drawn series together: what keeps the page at a megabyte over plotly.js
BACKTEST_POINTS = 15_000
RESIDUAL_POINTS = 3_000
CUTOFFS_DRAWN = 12
CALENDAR = {"s": "%d %b %Y %H:%M:%S", "m": "%a %d %b %Y %H:%M", "h": "%a %d %b %Y %H:%M", "mo": "%b %Y", "q": "%b %Y"}
CALENDAR |= {"d": "%a %d %b %Y", "bd": "%a %d %b %Y", "w": "%d %b %Y", "y": "%Y"}
NUMBER = ",.5~r"  # five significant digits, no exponent
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
COLOURS = ("var(--blue)", "var(--violet)", "var(--olive)", "var(--rose)")
DASHES = ("dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Scale:
    """How times and values of one pipeline are written: on axes, in hovers and in the text."""

    frequency: Frequency
    value: str = "value"  # title of the value axis, with its unit

    @property
    def calendar(self) -> str:
        """The strftime pattern of a timestamp; d3 reads it too."""
        return CALENDAR.get(self.frequency.unit, "")

    @property
    def hover(self) -> str:
        return "step %{x:,d}" if self.frequency.is_integer else f"%{{x|{self.calendar}}}"

    def when(self, time: Any) -> str:
        """A timestamp in words: `29 Dec 2001`, `step 700`."""
        if time is None:
            return "–"  # noqa: RUF001
        return time.strftime(self.calendar) if isinstance(time, datetime) else f"step {time:,}"

    def x(self, times: pl.Series) -> list[int | None]:
        """Places on the time axis."""
        return (times if times.dtype.is_integer() else times.dt.epoch("ms")).to_list()

    def time_axis(self, of: pl.DataFrame | None = None, **more: Any) -> dict[str, Any]:
        """The horizontal axis; `of`: a frame of the one series drawn, which the hover then names."""
        kind = {"type": "linear", "title": "step"} if self.frequency.is_integer else {"type": "date"}
        name = f"<b>{plain(of[SERIES_ID][0])}</b>, " if of is not None and of.height else ""
        return kind | {"unifiedhovertitle": {"text": name + self.hover}} | more


def plotly_js() -> str:
    """The script that draws the figures, to be put into the page once."""
    return str(get_plotlyjs())


def centre(frame: pl.DataFrame) -> str:
    """The column that a forecast frame is drawn and judged by: the median, or the mean where there is none."""
    return MEDIAN if MEDIAN in frame.columns else MEAN


def intervals(frame: pl.DataFrame) -> list[tuple[float, str, str]]:
    """The symmetric intervals of a forecast frame, widest first: (share of outcomes promised, lower, upper)."""
    levels = levels_of(frame.columns)
    pairs = [(low, high) for low in levels for high in levels if low < 0.5 and abs(low + high - 1) < 1e-9]
    return [(round(high - low, 6), quantile(low), quantile(high)) for low, high in pairs]


def plain(text: str) -> str:
    """Text of the user as it is to be shown: neither Plotly's HTML subset, nor a %{field}, nor one of our colours."""
    return html.escape(text, quote=False).replace("%{", "&#37;{").replace("var(", "var&#40;")


def paint(labels: Sequence[str], champion: str, baselines: frozenset[str]) -> dict[str, dict[str, Any]]:
    """One line style per candidate, in drawing order: baselines grey and broken, networks, the champion on top."""
    styles: dict[str, dict[str, Any]] = {}
    for i, label in enumerate(label for label in labels[::-1] if label in baselines):
        styles[label] = {"color": "var(--baseline)", "width": 1.5, "dash": DASHES[i % len(DASHES)]}
    for i, label in enumerate(label for label in labels[::-1] if label not in baselines):
        styles[label] = {"color": COLOURS[i % len(COLOURS)], "width": 1.7}
    styles.pop(champion, None)
    return styles | {champion: {"color": "var(--champion)", "width": 2.6}}


def residuals(backtests: Mapping[str, pl.DataFrame], history: Frame, season_length: int) -> pl.DataFrame:
    """Actual less forecast, as model, series_id, timestamp, step, residual.

    Of several series, each is divided by its mean seasonal change before the first cutoff, as MASE is.
    """
    parts = [
        frame.select(
            pl.lit(label).alias("model"), *FORECAST_KEY, (pl.col(TARGET) - pl.col(centre(frame))).alias("residual")
        )
        for label, frame in backtests.items()
    ]
    errors = pl.concat(parts).with_columns(pl.col("residual").fill_nan(None))
    if len(names_of(history)) < 2:
        return errors
    first = errors.group_by(SERIES_ID).agg(pl.col(CUTOFF).min())
    change = (pl.col(TARGET) - pl.col(TARGET).shift(season_length)).over(SERIES_ID).abs().fill_nan(None)
    found = []
    for part in whole_series(history.select(SERIES_ID, TIMESTAMP, TARGET)):
        past = part.join(first, on=SERIES_ID).filter(pl.col(TIMESTAMP) <= pl.col(CUTOFF)).sort(SERIES_ID, TIMESTAMP)
        found.append(past.select(SERIES_ID, change.alias("size")).group_by(SERIES_ID).agg(pl.col("size").mean()))
    sizes = pl.concat(found)
    size = pl.when(pl.col("size") > 0).then(pl.col("size"))
    return errors.join(sizes, on=SERIES_ID, how="left").with_columns(pl.col("residual") / size).drop("size")


def observed(frame: pl.DataFrame) -> pl.DataFrame:
    """Of a scored forecast frame: level, and the share of outcomes at or below that quantile."""
    levels = levels_of(frame.columns)
    actual = pl.col(TARGET).fill_nan(None)
    below = [(actual <= pl.col(quantile(level)).fill_nan(None)).mean() for level in levels]
    shares = frame.select(each.alias(str(i)) for i, each in enumerate(below)).row(0) if levels else ()
    return pl.DataFrame({"level": levels, "observed": shares}, schema={"level": pl.Float64, "observed": pl.Float64})


def forecast_figure(
    history: pl.DataFrame, forecast: pl.DataFrame, scale: Scale, *, recent: int, points: int = HISTORY_POINTS
) -> str:
    """One series: its history and the newest forecast; opens on the last `recent` steps.

    A history of more than `points` readings keeps its second half whole; the first is thinned to highs and lows.
    """
    seen = _thinned(_with_breaks(history, scale.frequency), points)
    traces = [_line(seen, TARGET, scale, "observed", {"color": "var(--history)", "width": 1.4})]
    traces += _fan(forecast, scale, pairs=intervals(forecast), markers=forecast.height <= 60)
    ends = pl.concat([history[TIMESTAMP].tail(recent), forecast[TIMESTAMP]])
    start, end = (scale.x(ends)[0] or 0, scale.x(ends)[-1] or 0) if len(ends) else (0, 1)
    window = [start, end + 0.015 * (end - start)]  # room for the last marker
    slider = {"thickness": 0.08, "bgcolor": "var(--panel)", "borderwidth": 0, "yaxis": {"rangemode": "auto"}}
    axis = scale.time_axis(history, range=window, rangeslider=slider)
    last = scale.x(history[TIMESTAMP].tail(1))
    return _figure(traces, xaxis=axis, yaxis={"title": scale.value}, height=450, shapes=[_upright(x) for x in last])


def backtest_figure(
    history: pl.DataFrame, frame: pl.DataFrame, scale: Scale, *, cutoffs: int = CUTOFFS_DRAWN, lead: int = 0
) -> str:
    """One series: what happened, and over it forecasts from the last `cutoffs` that do not overlap.

    `frame`: forecasts of one model and one series; `lead`: observations shown before the first cutoff.
    """
    chosen = apart(frame, cutoffs)
    shown = frame.filter(pl.col(CUTOFF).is_in(chosen)).sort(CUTOFF, STEP)
    seen = history.filter(pl.col(TIMESTAMP) <= (shown[TIMESTAMP].max() if shown.height else history[TIMESTAMP].max()))
    before = seen.filter(pl.col(TIMESTAMP) <= min(chosen)).tail(max(lead, 1)) if chosen else seen
    seen = seen.filter(pl.col(TIMESTAMP) >= before[TIMESTAMP].min()) if before.height else seen
    drawn = _thinned(_with_breaks(seen, scale.frequency), BACKTEST_POINTS)
    traces = [_line(drawn, TARGET, scale, "observed", {"color": "var(--history)", "width": 1.6})]
    traces += _fan(shown, scale, pairs=intervals(shown)[:1], markers=False)
    cuts = [_upright(x) for x in scale.x(pl.Series(chosen))] if chosen else []
    return _figure(traces, xaxis=scale.time_axis(seen), yaxis={"title": scale.value}, height=400, shapes=cuts)


def apart(frame: pl.DataFrame, most: int) -> list[Any]:
    """The newest cutoffs of one series whose forecasts do not overlap, oldest first."""
    spans = frame.group_by(CUTOFF).agg(pl.col(TIMESTAMP).max()).sort(CUTOFF, descending=True)
    chosen: list[Any] = []
    for cutoff, end in spans.iter_rows():
        if not chosen or end <= chosen[-1]:
            chosen.append(cutoff)
        if len(chosen) == most:
            break
    return chosen[::-1]


def step_figure(errors: pl.DataFrame, styles: Mapping[str, dict[str, Any]], title: str) -> str:
    """Mean absolute error by step ahead, a line per candidate; `errors`: model, step, error."""
    traces = []
    for label, line in styles.items():
        rows = errors.filter(pl.col("model") == label).sort(STEP)
        mode = "lines+markers" if rows.height < 3 else "lines"
        hover = f"{plain(label)}: %{{y:{NUMBER}}}<extra></extra>"
        xy = {"x": rows[STEP].to_list(), "y": _y(rows["error"])}
        traces.append(go.Scatter(name=plain(label), mode=mode, line=line, hovertemplate=hover, **xy))
    x = {"title": "steps ahead", "unifiedhovertitle": {"text": "step %{x} ahead"}}
    return _figure(traces, xaxis=x, yaxis={"title": title, "rangemode": "tozero"}, height=360)


def coverage_figure(backtests: Mapping[str, pl.DataFrame], styles: Mapping[str, dict[str, Any]]) -> str:
    """Promised against observed share of outcomes under each quantile, a line per candidate."""
    ideal = {"color": "var(--rule)", "width": 1.5}
    traces = [go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=ideal, name="ideal", hoverinfo="skip")]
    for label, line in styles.items():
        rows = observed(backtests[label])
        hover = f"{plain(label)}<br>promised %{{x:.1%}}<br>observed %{{y:.1%}}<extra></extra>"
        xy = {"x": rows["level"].to_list(), "y": _y(rows["observed"])}
        looks: dict[str, Any] = {"mode": "lines+markers", "line": line, "marker": {"size": 7}, "showlegend": False}
        traces.append(go.Scatter(name=plain(label), hovertemplate=hover, **xy, **looks))
    axis = {"range": [-0.02, 1.02], "tickformat": ".0%"}
    x, y = axis | {"title": "promised: quantile level"}, axis | {"title": "observed below it"}
    return _figure(traces, xaxis=x, yaxis=y, height=360, hovermode="closest", showlegend=False)


def residual_figures(errors: pl.DataFrame, scale: Scale, title: str) -> tuple[str, str]:
    """The champion's errors over time and as a histogram; `errors`: series_id, timestamp, step, residual."""
    few = errors.gather_every(max(1, -(-errors.height // RESIDUAL_POINTS))).sort(TIMESTAMP)
    dots = {"mode": "markers", "marker": {"color": "var(--champion)", "size": 4, "opacity": 0.45}}
    about = [f"{plain(name)}, {step} ahead" for name, step in few.select(SERIES_ID, STEP).iter_rows()]
    hover = f"%{{text}}<br>{scale.hover}<br>%{{y:{NUMBER}}}<extra></extra>"
    over = go.Scatter(x=scale.x(few[TIMESTAMP]), y=_y(few["residual"]), text=about, hovertemplate=hover, **dots)
    bars = errors["residual"].drop_nulls().hist(bin_count=41)
    ends = bars["breakpoint"].to_list()
    width = ends[1] - ends[0] if len(ends) > 1 else 1.0
    hover = f"about %{{x:{NUMBER}}}: %{{y:,}} forecasts<extra></extra>"
    middles = _y(bars["breakpoint"] - width / 2)
    column = go.Bar(x=middles, y=bars["count"].to_list(), width=width, hovertemplate=hover, marker_line_width=0)
    column.marker.color = "var(--champion)"
    zero = {"zeroline": True, "zerolinecolor": "var(--ink)", "zerolinewidth": 1}
    one = _figure([over], xaxis=scale.time_axis(), yaxis={"title": title} | zero, height=300, hovermode="closest")
    y = {"title": "forecasts"}
    return one, _figure([column], xaxis={"title": title} | zero, yaxis=y, height=300, hovermode="closest", bargap=0.04)


def _fan(frame: pl.DataFrame, scale: Scale, *, pairs: list[tuple[float, str, str]], markers: bool) -> list[go.Scatter]:
    """Interval bands and the median of every cutoff in `frame`: one trace per band, cutoffs parted by breaks."""
    parts = frame.sort(CUTOFF, STEP).partition_by(CUTOFF, maintain_order=True)
    traces = []
    for share, low, high in pairs:
        x: list[Any] = []
        y: list[Any] = []
        for part in parts:
            whole = part.drop_nulls([low, high])
            times = scale.x(whole[TIMESTAMP])
            x += [*times, *times[::-1], None]
            y += [*_y(whole[high]), *_y(whole[low])[::-1], None]
        band = {"fill": "toself", "fillcolor": "var(--band)", "line": {"width": 0}, "mode": "lines"}
        traces.append(go.Scatter(x=x, y=y, hoverinfo="skip", name=f"{share:.0%} interval", **band))
    rows = [part.select(*frame.columns) for part in parts]
    joined = pl.concat([piece for part in rows for piece in (part, part.clear(1))]) if rows else frame
    look = {"color": "var(--champion)", "width": 2.2}
    median = _line(joined, centre(frame), scale, "forecast", look, "lines+markers" if markers else "lines")
    spread = [_y(joined[name]) for _, low, high in pairs for name in (low, high)]
    median.customdata = [list(row) for row in zip(*spread, strict=True)] if spread else None
    said = "".join(
        f"<br>{share:.0%}: %{{customdata[{2 * i}]:{NUMBER}}} to %{{customdata[{2 * i + 1}]:{NUMBER}}}"
        for i, (share, _, _) in enumerate(pairs)
    )
    median.hovertemplate = f"forecast %{{y:{NUMBER}}}{said}<extra></extra>"
    median.marker.size = 5
    return [*traces, median]


def _line(
    frame: pl.DataFrame, column: str, scale: Scale, name: str, line: dict[str, Any], mode: str = "lines"
) -> go.Scatter:
    hover = f"{name} %{{y:{NUMBER}}}<extra></extra>"
    xy = {"x": scale.x(frame[TIMESTAMP]), "y": _y(frame[column])}
    return go.Scatter(name=name, mode=mode, line=line, hovertemplate=hover, **xy)


def _with_breaks(history: pl.DataFrame, frequency: Frequency) -> pl.DataFrame:
    """One series, with a null where rows are absent, so that no line is drawn over a gap."""
    rows = history.select(TIMESTAMP, pl.col(TARGET).cast(pl.Float64)).sort(TIMESTAMP)
    ordinals = rows.select(frequency.ordinal(TIMESTAMP).alias("at"))["at"]
    last = rows.filter((ordinals.shift(-1) - ordinals > 1).fill_null(False))
    nulls = last.with_columns(pl.lit(None, dtype=pl.Float64).alias(TARGET))
    return pl.concat([rows, nulls]).sort(TIMESTAMP, maintain_order=True)


def _thinned(rows: pl.DataFrame, keep: int) -> pl.DataFrame:
    """At most `keep` rows: the newest half whole, of what is older the high and the low of every stretch."""
    if rows.height <= keep:
        return rows
    older, newer = rows.head(rows.height - keep // 2), rows.tail(keep // 2)
    stretches = max(1, keep // 4)
    older = older.with_row_index("at").with_columns((pl.col("at") * stretches // older.height).alias("stretch"))
    value = pl.col(TARGET)
    extremes = older.filter((value == value.max().over("stretch")) | (value == value.min().over("stretch")))
    extremes = extremes.unique(["stretch", TARGET], keep="first", maintain_order=True)
    return pl.concat([extremes.select(rows.columns), newer])


def _y(values: pl.Series) -> list[float | None]:
    """Values at six significant digits, what is not finite as None."""
    numbers = values.cast(pl.Float64)
    return pl.select(pl.when(numbers.is_finite()).then(numbers.round_sig_figs(6)))[numbers.name or "literal"].to_list()


def _upright(x: Any) -> dict[str, Any]:
    line = {"color": "var(--faint)", "width": 1, "dash": "dot"}
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line, "layer": "below"}


def _figure(traces: Sequence[Any], *, xaxis: dict[str, Any], yaxis: dict[str, Any], **layout: Any) -> str:
    """The common look, as JSON safe inside a <script>."""
    grid = {"gridcolor": "var(--grid)", "zeroline": False, "linecolor": "var(--rule)", "tickcolor": "var(--rule)"}
    grid |= {"automargin": True, "title_standoff": 10}
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemwidth": 30, "traceorder": "reversed"}
    clear = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "template": go.layout.Template()}
    common = {
        "font": {"family": SANS, "size": 12, "color": "var(--soft)"},
        "hoverlabel": {"bgcolor": "var(--paper)", "bordercolor": "var(--rule)", "font": {"color": "var(--ink)"}},
        "margin": {"l": 10, "r": 10, "t": 36, "b": 10},
        "legend": legend,
        "hovermode": "x unified",
        "xaxis": grid | {"showgrid": False, "showline": True, "ticks": "outside"} | xaxis,
        "yaxis": grid | {"fixedrange": True, "tickformat": NUMBER} | yaxis,
    }
    return str(go.Figure(data=list(traces), layout=clear | common | layout).to_json())
