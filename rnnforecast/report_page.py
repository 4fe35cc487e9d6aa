"""The report page's paper: words and numbers as they are printed, pieces of HTML, the style and the script.

Functions that take text of the user escape it; those that put pieces together take HTML.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rnnforecast.frequency import Frequency

SPOKEN = {"gru": "GRU", "lstm": "LSTM", "naive": "the naive forecast", "seasonal_naive": "the seasonal naive"}
SPOKEN |= {"auto_ets": "AutoETS", "auto_theta": "AutoTheta"}
UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "bd": "business day", "w": "week", "i": "step"}
UNITS |= {"mo": "month", "q": "quarter", "y": "year"}
NONE = "\N{EN DASH}"


def ahead(horizon: int, step: Frequency) -> str:
    """A horizon in words: `13 weeks`, `24 hours`."""
    count, unit = horizon * step.every, step.unit
    for smaller, larger, size in (("s", "m", 60), ("m", "h", 60)):
        if unit == smaller and count % size == 0:
            count, unit = count // size, larger
    return plural(horizon if step.is_integer else count, UNITS[unit])


def speak(label: str) -> str:
    """A candidate's label as it is said in a sentence."""
    return SPOKEN.get(label, label)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 or noun.endswith('s') else 's'}"


def number(value: Any) -> str:
    """A number at four significant digits, without an exponent where it can be helped."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    text = f"{value:,.{max(0, 3 - size)}f}" if -4 <= size < 12 else f"{value:.3e}"
    return text.replace("-", "\N{MINUS SIGN}")


def percent(share: float | None, digits: int = 0) -> str:
    if share is None or not math.isfinite(share):
        return NONE
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")


def cell(column: str, value: float | None) -> str:
    """A leaderboard figure: shares in percent, skill with its sign, the rest at four digits."""
    if column == "skill" and value is not None and value > 0:
        return f"+{percent(value, 1)}"
    return percent(value, 1) if column in ("skill", "coverage") else number(value)


def page(title: str, body: str, *, figures: str, plotly: str) -> str:
    """The whole document; `figures` is JSON that is safe in a <script>, `plotly` the script that draws them."""
    parts = {"style": STYLE, "script": SCRIPT, "plotly": plotly, "figures": figures, "body": body}
    return TEMPLATE.format(title=html.escape(title), **parts)


def contents(keys: Iterable[str]) -> str:
    return f"<nav>{''.join(f'<a href=#{key}>{key}</a>' for key in keys)}</nav>"


def section(key: str, body: str) -> str:
    return f"<section id='{key}'><h2>{key.capitalize()}</h2>{body}</section>"


def grid(drawings: Mapping[str, str]) -> str:
    """Drawings two by two; caption -> drawing."""
    each = (f"<figure><figcaption>{html.escape(said)}</figcaption>{one}</figure>" for said, one in drawings.items())
    return f"<div class='grid'>{''.join(each)}</div>"


def chooser(names: Sequence[str], cut: str, more: str) -> str:
    """A row that names the series drawn: a list, or the only one; `cut` says which are left out, `more` is HTML."""
    options = "".join(f"<option value='{i}'>{html.escape(name)}</option>" for i, name in enumerate(names))
    shown = f"<label>series <select>{options}</select></label> {html.escape(cut)}"
    if len(names) == 1:
        shown = f"series <b>{html.escape(names[0])}</b> {html.escape(cut)}"
    return f"<p class='bar-row'><span>{shown}</span>{more}</p>"


def folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary><div class='scroll'>{body}</div></details>"


def facts(entries: Mapping[str, str]) -> str:
    """A long list of facts, one per line."""
    rows = "".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in entries.items())
    return f"<dl class='facts'>{rows}</dl>"


def tiles(entries: Mapping[str, str]) -> str:
    """A few short facts side by side."""
    each = (f"<div><dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd></div>" for key, value in entries.items())
    return f"<dl class='tiles'>{''.join(each)}</dl>"


def note(text: str) -> str:
    return f"<p class='note'>{html.escape(text)}</p>" if text else ""


def drawing(key: str, height: int) -> str:
    return f"<div class='plot' data-figure='{key}' style='min-height:{height}px'></div>"


def table(heads: Sequence[str], rows: Iterable[tuple[str, list[str]]]) -> str:
    """A table; a row is the attributes of its <tr> and its cells as HTML."""
    top = "".join(f"<th scope='col'>{html.escape(head)}</th>" for head in heads)
    body = "".join(f"<tr{mark}>{''.join(cells)}</tr>" for mark, cells in rows)
    return f"<div class='wide'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


STYLE = """
:root { color-scheme: light dark; --paper:#fbfaf7; --panel:#f1efe9; --ink:#20262d; --soft:#59636e; --faint:#a9b0b6;
  --rule:#cfccc3; --grid:#e9e6de; --history:#3d4650; --champion:#b8501c; --band:rgba(184,80,28,.17); --baseline:#959ca3;
  --blue:#2f6f9f; --violet:#7d5a9e; --olive:#6f8130; --rose:#b04a72; --bar:rgba(89,99,110,.16); }
@media (prefers-color-scheme: dark) { :root { --paper:#15181b; --panel:#1f2428; --ink:#e6e4df; --soft:#a3abb2;
  --faint:#5d666e; --rule:#3a4147; --grid:#262c31; --history:#c3c9ce; --champion:#f0945c; --band:rgba(240,148,92,.22);
  --baseline:#7d868e; --blue:#6db0de; --violet:#b896d8; --olive:#a9bd62; --rose:#e388ab; --bar:rgba(163,171,178,.2); } }
* { box-sizing: border-box } html { scroll-behavior: smooth }
body { margin:0; background:var(--paper); color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif }
main { max-width:1080px; margin:0 auto; padding:56px 28px 80px }
h1,h2,h3,.lead { font-family:"Iowan Old Style",Charter,"Palatino Linotype",Palatino,Georgia,serif; font-weight:600 }
h1 { font-size:2.3rem; line-height:1.18; margin:.1em 0 .4em; text-wrap:balance; overflow-wrap:anywhere }
h2 { font-size:1.55rem; margin:0 0 .5em } h3 { font-size:1.12rem; margin:1.8em 0 .4em }
.kicker { text-transform:uppercase; letter-spacing:.12em; font-size:.74rem; color:var(--soft); margin:0 }
.lead { font-size:1.2rem; font-weight:400; color:var(--soft); margin:0 0 1.2em }
.note { color:var(--soft); font-size:.9rem }
.decision { border-left:3px solid var(--champion); padding:.1em 0 .1em 1em; margin:1.5em 0 }
section { border-top:1px solid var(--rule); margin-top:52px; padding-top:28px } p { max-width:75ch; margin:.4em 0 }
nav { display:flex; flex-wrap:wrap; gap:.3em 1.4em; font-size:.92rem }
a { color:var(--soft); text-underline-offset:.2em }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(132px,1fr)); gap:1.1em 1.4em; margin:1.2em 0 }
dt { font-size:.78rem; color:var(--soft) } dd { margin:0; overflow-wrap:anywhere } .tiles dd { font-size:1.06rem }
.facts { display:grid; grid-template-columns:max-content 1fr; gap:.35em 1.6em; font-size:.9rem }
.facts dt { font-size:inherit }
.bar-row { display:flex; flex-wrap:wrap; justify-content:space-between; gap:.6em; margin:1em 0 .2em; max-width:none;
  color:var(--soft); font-size:.9rem }
.bar-row b { color:var(--ink); font-weight:600 }
select,button { font:inherit; color:var(--ink); background:var(--panel); border:1px solid var(--rule);
  border-radius:6px; padding:.25em .6em; max-width:100% }
.wide { overflow-x:auto } .scroll { max-height:420px; overflow-y:auto } figure { margin:0; min-width:0 }
table { border-collapse:collapse; width:100%; font-size:.9rem; font-variant-numeric:tabular-nums }
th,td { text-align:right; padding:.42em .7em; border-bottom:1px solid var(--grid); font-weight:400; white-space:nowrap }
th:first-child,td.words { text-align:left } td.words { color:var(--soft); white-space:normal }
thead th { color:var(--soft); font-size:.8rem; border-bottom-color:var(--rule) }
.scroll thead th { position:sticky; top:0; background:var(--paper) }
td.bar { min-width:10em; background:linear-gradient(var(--bar),var(--bar)) left center/var(--w) 62% no-repeat }
tr.champion th,tr.champion td,td.best { font-weight:650 } tr.champion { --bar:var(--band) }
.tag { font-size:.7rem; font-weight:500; margin-left:.7em; padding:.1em .55em; border-radius:9px;
  background:var(--panel); color:var(--soft) }
.rangeslider-mask-min,.rangeslider-mask-max { fill:var(--paper) !important; fill-opacity:.72 !important }
.rangeslider-mask-min-opp-axis,.rangeslider-mask-max-opp-axis { display:none }
.gold { background:var(--champion); color:var(--paper) }
.grid { display:grid; grid-template-columns:1fr 1fr; gap:36px 32px; margin-top:1em }
figcaption { font-size:.95rem } summary { cursor:pointer; color:var(--soft); margin:1.2em 0 .6em }
pre { background:var(--panel); padding:1.1em 1.3em; border-radius:8px; overflow:auto; font-size:.82rem }
@media (max-width:760px) { .grid { grid-template-columns:1fr } h1 { font-size:1.7rem } main { padding:32px 16px } }
"""

SCRIPT = """
const figures = JSON.parse(document.getElementById('figures').textContent)
const plots = [...document.querySelectorAll('.plot')]
const chosen = {index: 0}
function themed(figure) {
  const css = getComputedStyle(document.documentElement)
  const value = (_, name) => css.getPropertyValue(name).trim()
  return JSON.parse(JSON.stringify(figure).replace(/var\\((--[a-z]+)\\)/g, value))
}
function heights(data, [from, to]) {  // the value range of what stands between two times
  let low = Infinity, high = -Infinity
  for (const trace of data) trace.x.forEach((x, i) => {
    const y = trace.y[i]
    if (x !== null && y !== null && x >= from && x <= to) { low = Math.min(low, y); high = Math.max(high, y) }
  })
  const room = 0.06 * (high - low) || 0.05 * Math.abs(high) || 1
  return low <= high ? [low - room, high + room] : null
}
function place(value) {  // Plotly gives dates back as text, in UTC
  return typeof value === 'string' ? Date.parse(value.length > 10 ? value.replace(' ', 'T') + 'Z' : value) : value
}
function draw(plot) {
  const all = figures[plot.dataset.figure]
  const figure = themed(all[Math.min(chosen.index, all.length - 1)])
  if (figure.layout.xaxis.range && !figure.layout.yaxis.range)
    figure.layout.yaxis.range = heights(figure.data, figure.layout.xaxis.range)
  Plotly.react(plot, figure.data, figure.layout, {responsive: true, displaylogo: false, displayModeBar: false})
}
for (const plot of plots) {
  draw(plot)
  if (figures[plot.dataset.figure][0].layout.xaxis.rangeslider) plot.on('plotly_relayout', change => {
    if (!Object.keys(change).some(key => key.startsWith('xaxis'))) return
    const range = heights(plot.data, plot.layout.xaxis.range.map(place))
    if (range) Plotly.relayout(plot, {'yaxis.range': range})
  })
}
document.querySelectorAll('select').forEach(select => select.addEventListener('change', () => {
  chosen.index = Number(select.value)
  document.querySelectorAll('select').forEach(other => { other.value = select.value })
  plots.filter(plot => figures[plot.dataset.figure].length > 1).forEach(draw)
}))
document.querySelectorAll('button[data-all]').forEach(button => button.addEventListener('click', () => {
  const plot = document.querySelector(`[data-figure=${button.dataset.all}]`)
  const xs = plot.data.flatMap(trace => trace.x).filter(x => x !== null)
  const ends = xs.reduce(([low, high], x) => [Math.min(low, x), Math.max(high, x)], [Infinity, -Infinity])
  Plotly.relayout(plot, {'xaxis.range': ends})
}))
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => plots.forEach(draw))
"""

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title><style>{style}</style></head>
<body><main>{body}</main>
<script type="application/json" id="figures">{figures}</script>
<script>{plotly}</script><script>{script}</script></body></html>
"""
