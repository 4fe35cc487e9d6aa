"""The report page: one self-contained HTML file per pipeline, that works without a network.

`write(page, data)` puts the forecast, the backtest, the leaderboard, the errors, the data and the provenance
on one page. plotly.js is in the page, once; a content security policy keeps the page from loading anything else.
"""

import html
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from rnnforecast import config
from rnnforecast import report_figures as figures
from rnnforecast import report_page as paper
from rnnforecast.columns import CUTOFF, MODEL, SERIES_ID, STEP, TARGET, TIMESTAMP, levels_of
from rnnforecast.frame_rows import Frame, names_of, slices
from rnnforecast.frequency import Frequency
from rnnforecast.report_figures import Scale, intervals
from rnnforecast.report_page import number, percent, plural, speak

SERIES_DRAWN = 12
SERIES_LISTED = 500
METRICS = {"mase": "MASE", "wql": "WQL", "both": "mean of MASE and WQL", "mae": "MAE", "rmse": "RMSE", "smape": "sMAPE"}
COLUMNS = METRICS | {"coverage": "coverage", "skill": "skill", "seconds": "seconds"}
TOP_FACTS = ("model version", "table version")

Drawings = dict[str, list[str]]  # name of a drawing on the page -> its figures as JSON, one per series drawn


@dataclass(frozen=True)
class ReportData:
    """What the page shows: frames of one pipeline, and words about where they come from."""

    name: str
    description: str
    metric: str  # what the leaderboard is sorted by: mase, wql, mae, rmse or smape
    horizon: int
    frequency: str  # 15m, 1h, 1w, 1i, ...; not auto
    season_length: int
    history: Frame  # long frame, of any size where it is lazy
    forecasts: pl.DataFrame  # the champion's newest: forecast frame
    backtests: Mapping[str, pl.DataFrame]  # candidate -> forecast frame with `target`, what happened
    leaderboard: pl.DataFrame  # model and metrics, best first
    by_series: pl.DataFrame  # series_id, model and metrics
    champion: str
    decision: str  # a sentence: why the champion is champion
    facts: Mapping[str, str]  # provenance; `model version` and `table version` are repeated at the top
    quarantine: Mapping[str, int]  # reason -> rows
    config_text: str
    live: pl.DataFrame | None = None  # scored forecasts of a stream replay: forecast frame with `target`
    unit: str = ""  # of the target, for the axes
    baselines: frozenset[str] = frozenset(config.BASELINES)  # which labels are not networks


def write(page: Path, data: ReportData) -> Path:
    """Write the report page, in one piece or not at all; gives back its path.

    Raises OSError where the folder cannot be written; an older page of that name is then still whole.
    """
    text = _page(data)
    page.parent.mkdir(parents=True, exist_ok=True)
    draft = page.with_name(f".{page.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(page)
    finally:
        draft.unlink(missing_ok=True)
    return page


def _page(data: ReportData) -> str:
    value = f"value ({figures.plain(data.unit)})" if data.unit else "value"
    times = data.history.select(TIMESTAMP)
    scale = Scale(Frequency.parse(data.frequency).anchored_in(part[TIMESTAMP] for part in slices(times)), value)
    drawn = chosen_series(data)
    shown = data.history.lazy().filter(pl.col(SERIES_ID).is_in(list(drawn))).collect()
    drawings: Drawings = {}
    sections = {
        "forecast": _forecast(data, shown, scale, drawn, drawings),
        "backtest": _backtest(data, shown, scale, drawn, drawings),
        "leaderboard": _leaderboard(data),
        "errors": _errors(data, scale, drawings),
        "data": _data(data, scale),
        "provenance": _provenance(data),
    }
    body = _masthead(data, scale) + paper.contents(sections)
    body += "".join(paper.section(key, "".join(parts)) for key, parts in sections.items())
    stored = ",".join(f"{json.dumps(key)}:[{','.join(each)}]" for key, each in drawings.items())
    return paper.page(data.name, body, figures=f"{{{stored}}}", plotly=figures.plotly_js())


# --- sections: each gives its parts as HTML and puts its figures into `drawings` ----------------------------------


def _masthead(data: ReportData, scale: Scale) -> str:
    cutoffs = data.forecasts[CUTOFF]
    facts = {
        "forecast": f"{plural(data.forecasts[SERIES_ID].n_unique(), 'series')}, {_ahead(data)} ahead",
        "cutoff": " to ".join(dict.fromkeys(scale.when(end) for end in (cutoffs.min(), cutoffs.max()))),
        "until": scale.when(data.forecasts[TIMESTAMP].max()),
        "quantiles": ", ".join(f"{level:g}" for level in levels_of(data.forecasts.columns)) or "none: points only",
    }
    facts |= {key: data.facts[key] for key in TOP_FACTS if key in data.facts}
    about = f"<p class='lead'>{html.escape(data.description)}</p>" if data.description else ""
    decision = f"<p class='decision'>{html.escape(data.decision)}</p>" if data.decision else ""
    title = f"<p class='kicker'>Forecast report</p><h1>{html.escape(headline(data))}</h1>"
    return f"<header>{title}{about}{paper.tiles(facts)}{decision}</header>"


def _forecast(
    data: ReportData, shown: pl.DataFrame, scale: Scale, drawn: Mapping[str, str], drawings: Drawings
) -> list[str]:
    recent = max(3 * data.season_length, 4 * data.horizon)
    budget = figures.HISTORY_POINTS // len(drawn)
    pairs = [(_of(shown, name), _of(data.forecasts, name)) for name in drawn]
    drawings["forecast"] = [
        figures.forecast_figure(history, forecast, scale, recent=recent, points=budget) for history, forecast in pairs
    ]
    bands = ", ".join(percent(share) for share, _, _ in intervals(data.forecasts))
    said = f"The median forecast of {speak(data.champion)}" + (f", with its intervals: {bands}." if bands else ".")
    if any(history.height > budget for history, _ in pairs):
        said += " The older half of a long history is thinned to its highs and lows."
    button = "<button type='button' data-all='forecast'>all history</button>"
    return [f"<p>{html.escape(said)}</p>", _chooser(data, drawn, button), paper.drawing("forecast", 450)]


def _backtest(
    data: ReportData, shown: pl.DataFrame, scale: Scale, drawn: Mapping[str, str], drawings: Drawings
) -> list[str]:
    label = _judged(data)
    told = f"What {speak(label)} would have forecast, knowing nothing after the dotted lines"
    parts = []
    for key, frame, title, said in (
        ("backtest", data.backtests.get(label), "", told),
        ("live", data.live, "<h3>Stream replay</h3>", "Forecasts as they were made while the data came in"),
    ):
        if frame is None or frame.is_empty():
            continue
        most = max(1, min(figures.CUTOFFS_DRAWN, figures.BACKTEST_POINTS // (3 * data.horizon * len(drawn))))
        drawings[key] = [
            figures.backtest_figure(_of(shown, name), _of(frame, name), scale, cutoffs=most, lead=2 * data.horizon)
            for name in drawn
        ]
        made = plural(frame.select(SERIES_ID, CUTOFF).n_unique(), "forecast")
        said = f"{said}: {made}, of which the newest that do not overlap are drawn, {most} per series at most."
        parts += [f"{title}<p>{html.escape(said)}</p>", paper.note(" ".join(_kept(frame)))]
        parts += [_chooser(data, drawn), paper.drawing(key, 400)]
    return parts or ["<p>No backtest was made in this run.</p>"]


def _leaderboard(data: ReportData) -> list[str]:
    if data.leaderboard.is_empty():
        return ["<p>No candidate was compared in this run.</p>"]
    shown = [name for name in COLUMNS if name in data.leaderboard.columns]
    longest = max((value for value in data.leaderboard[data.metric] if _finite(value)), default=1) or 1
    rows = []
    for row in data.leaderboard.iter_rows(named=True):
        tags = "<b class='tag gold'>champion</b>" if row[MODEL] == data.champion else ""
        tags += "<b class='tag'>baseline</b>" if row[MODEL] in data.baselines else ""
        cells = [f"<th scope='row'>{html.escape(row[MODEL])}{tags}</th>"]
        for name in shown:
            share = row[name] / longest if name == data.metric and _finite(row[name]) else 0
            bar = f" class='bar' style='--w:{share:.1%}'" if share else ""
            cells.append(f"<td{bar}>{paper.cell(name, row[name])}</td>")
        rows.append((" class='champion'" if row[MODEL] == data.champion else "", cells))
    table = paper.table(["model", *(COLUMNS[name] for name in shown)], rows)
    skill = f"Skill: how much lower the {METRICS[data.metric]} is than the seasonal naive's, so more is better."
    return [f"<p>{html.escape(verdict(data))}</p>", table, paper.note(skill), _series_table(data)]


def _series_table(data: ReportData) -> str:
    wide = data.by_series.pivot(MODEL, index=SERIES_ID, values=data.metric, aggregate_function="first")
    labels = [label for label in data.leaderboard[MODEL] if label in wide.columns]
    if wide.height < 2 or not labels:
        return ""
    by = data.champion if data.champion in labels else labels[0]
    rows = []
    for row in wide.sort(by, descending=True, nulls_last=True).head(SERIES_LISTED).iter_rows(named=True):
        best = min((row[label] for label in labels if _finite(row[label])), default=None)
        cells = [f"<th scope='row'>{html.escape(row[SERIES_ID])}</th>"]
        cells += [f"<td{' class=best' if row[label] == best else ''}>{number(row[label])}</td>" for label in labels]
        rows.append(("", [*cells, f"<td class='words'>{html.escape(reading(row, labels, data.baselines))}</td>"]))
    cut = f" {SERIES_LISTED} of {wide.height:,} series are listed." if wide.height > SERIES_LISTED else ""
    said = f"{METRICS[data.metric]} per series, the worst for {by} first; the best of each row in bold.{cut}"
    table = paper.table(["series", *labels, ""], rows)
    return f"<h3>By series</h3>{paper.note(said)}<div class='scroll'>{table}</div>"


def _errors(data: ReportData, scale: Scale, drawings: Drawings) -> list[str]:
    label = _judged(data)
    ranked = [each for each in data.leaderboard[MODEL] if each in data.backtests]
    if label not in ranked:
        return ["<p>No backtest was made in this run.</p>"]
    errors = figures.residuals(data.backtests, data.history, data.season_length)
    many = len(names_of(data.history)) > 1
    unit = " (scaled)" if many else f" ({figures.plain(data.unit)})" if data.unit else ""
    styles = figures.paint(ranked, label, data.baselines)
    by_step = errors.group_by(MODEL, STEP).agg(pl.col("residual").abs().mean().alias("error"))
    drawings["steps"] = [figures.step_figure(by_step, styles, f"mean absolute error{unit}")]
    drawings["coverage"] = [figures.coverage_figure(data.backtests, styles)]
    own = errors.filter(pl.col(MODEL) == label)
    over, histogram = figures.residual_figures(own, scale, f"actual \N{MINUS SIGN} forecast{unit}")
    drawings |= {"residuals": [over], "histogram": [histogram]}
    grid = paper.grid(
        {
            "Error by step ahead": paper.drawing("steps", 360),
            "Quantiles: promised and observed": paper.drawing("coverage", 360),
            f"Residuals of {speak(label)} over time": paper.drawing("residuals", 300),
            f"Their distribution; mean {number(own['residual'].mean())}": paper.drawing("histogram", 300),
        }
    )
    scaled = "Scaled: divided by each series' mean seasonal change, so that series of any size count alike."
    return [paper.note(scaled if many else ""), grid]


def _data(data: ReportData, scale: Scale) -> list[str]:
    step = scale.frequency.ordinal(TIMESTAMP)
    counted = (
        data.history.lazy()
        .group_by(SERIES_ID)
        .agg(
            pl.len(),
            pl.col(TARGET).cast(pl.Float64).is_finite().sum().alias("read"),
            (step.max() - step.min() + 1).alias("steps"),
            pl.col(TIMESTAMP).min().alias("first"),
            pl.col(TIMESTAMP).max().alias("last"),
        )
    )
    missing = (1 - pl.col("read") / pl.col("steps")).clip(0, 1)
    held = counted.with_columns(missing.alias("missing")).collect().sort("missing", SERIES_ID, descending=[True, False])
    facts = {
        "rows": f"{held['len'].sum():,}",
        "series": f"{held.height:,}",
        "step": str(scale.frequency),
        "season": plural(data.season_length, "step"),
        "first": scale.when(held["first"].min()),
        "last": scale.when(held["last"].max()),
        "steps without a reading": percent(1 - int(held["read"].sum()) / max(1, int(held["steps"].sum())), 2),
        "rows in quarantine": f"{sum(data.quarantine.values()):,}",
    }
    reasons = [("", [f"<th>{html.escape(why)}</th>", f"<td>{rows:,}</td>"]) for why, rows in data.quarantine.items()]
    refused = f"<h3>Quarantine</h3>{paper.table(['reason', 'rows'], reasons)}" if reasons else ""
    rows = []
    for name, _, read, _, first, last, share in held.head(SERIES_LISTED).iter_rows():
        cells = (f"{read:,}", percent(share, 2), scale.when(first), scale.when(last))
        rows.append(("", [f"<th scope='row'>{html.escape(name)}</th>", *(f"<td>{cell}</td>" for cell in cells)]))
    table = paper.table(["series", "readings", "missing", "first", "last"], rows)
    return [paper.tiles(facts), refused, paper.folded("each series", table) if held.height > 1 else ""]


def _provenance(data: ReportData) -> list[str]:
    return [paper.facts(data.facts), paper.folded("pipeline file", f"<pre>{html.escape(data.config_text)}</pre>")]


# --- what is said -------------------------------------------------------------------------------------------------


def headline(data: ReportData) -> str:
    """The page in one line: who forecasts how far, and how much better than the seasonal naive."""
    leads = data.leaderboard[MODEL].first() == data.champion if data.leaderboard.height else False
    if data.champion in data.baselines and leads:
        return f"{data.name}: no network beats {speak(data.champion)}, {_ahead(data)} ahead"
    said = f"{data.name}: {speak(data.champion)} forecasts {_ahead(data)} ahead"
    own = data.leaderboard.filter(pl.col(MODEL) == data.champion).rows(named=True)
    skill = own[0].get("skill") if own else None
    if skill is None or not math.isfinite(skill) or data.champion == "seasonal_naive":
        return said
    if abs(skill) < 0.005:
        return f"{said}; on a par with the seasonal naive"
    direction = "lower" if skill > 0 else "higher"
    return f"{said}; {percent(abs(skill))} {direction} {METRICS[data.metric]} than the seasonal naive"


def verdict(data: ReportData) -> str:
    """Who leads the leaderboard; plain about a baseline that wins."""
    scores = dict(data.leaderboard.select(MODEL, data.metric).iter_rows())
    best = next(iter(scores))
    won = best in data.baselines
    rival = next((label for label in scores if (label in data.baselines) != won), None)
    said = f"{best} has the lowest {METRICS[data.metric]}, {number(scores[best])}"
    if rival is not None:
        said += f"; the best {'network' if won else 'baseline'}, {rival}, has {number(scores[rival])}"
    if won:
        said = f"A baseline won: {said}. On data like these a simple rule is hard to beat"
    if best != data.champion:
        said += f". The champion is {data.champion} all the same, for the reason given at the top"
    return f"{said}."


def reading(row: Mapping[str, Any], labels: Sequence[str], baselines: frozenset[str]) -> str:
    """What the scores of one series say, where a simple rule is hard to beat; else nothing."""
    scores = {label: row[label] for label in labels if _finite(row[label])}
    others = [score for label, score in scores.items() if label != "naive"]
    if "naive" in scores and others and min(others) >= 0.97 * scores["naive"]:
        return "like a random walk: the last value is hard to beat"
    best = min(scores, key=scores.__getitem__, default="")
    return "a baseline is best" if best in baselines else ""


def chosen_series(data: ReportData) -> dict[str, str]:
    """The series that are drawn, each with why: all of a few; else the champion's worst and best, and the first."""
    names = names_of(data.history)
    most = max(1, min(SERIES_DRAWN, 12_000 // data.horizon))
    if len(names) <= most:
        return dict.fromkeys(names, "")
    scores = data.by_series.filter((pl.col(MODEL) == data.champion) & pl.col(data.metric).is_finite())
    order = scores.sort(data.metric)[SERIES_ID].to_list()
    reasons = dict.fromkeys(order[::-1][: most // 3], "worst") | dict.fromkeys(order[: most // 3], "best")
    rest = [name for name in names if name not in reasons]
    return reasons | dict.fromkeys(rest[: most - len(reasons)], "first")


def _kept(frame: pl.DataFrame) -> Iterable[str]:
    """For every interval: how many outcomes it held."""
    for share, low, high in intervals(frame):
        held = frame.select(pl.col(TARGET).fill_nan(None).is_between(low, high).mean()).item()
        if held is not None:
            fit = "as promised" if abs(held - share) < 0.03 else "too narrow" if held < share else "wider than needed"
            yield f"The {percent(share)} interval held {percent(held, 1)} of the outcomes: {fit}."


def _chooser(data: ReportData, drawn: Mapping[str, str], more: str = "") -> str:
    """The series to look at: a list, or the name of the only one."""
    total = len(names_of(data.history))
    names = [f"{name} ({why})" if why else name for name, why in drawn.items()]
    cut = f"{len(names)} of {total:,}: the champion's worst and best, then the first" if len(names) < total else ""
    return paper.chooser(names, cut, more)


def _judged(data: ReportData) -> str:
    """Whose backtest is looked at closely: the champion's, or the leader's where the champion has none."""
    return next((label for label in [data.champion, *data.leaderboard[MODEL]] if label in data.backtests), "")


def _ahead(data: ReportData) -> str:
    return paper.ahead(data.horizon, Frequency.parse(data.frequency))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _of(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    return frame.filter(pl.col(SERIES_ID) == name).sort(TIMESTAMP)
