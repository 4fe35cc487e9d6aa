"""What the commands print: tables or JSON on standard output, everything else on standard error."""

import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rnnforecast.secrets import hidden

DIGITS: Final = 4
ROWS: Final = 50
err = Console(stderr=True, soft_wrap=True, highlight=False)
Rows = Sequence[Mapping[str, Any]]


def table(rows: Rows, *, title: str = "", columns: Sequence[str] = (), mark: str | None = None) -> None:
    """Rows as a table on standard output; a row whose first cell is `mark` stands out."""
    out = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    if not rows:
        out.print(f"{title}: nothing yet" if title else "nothing yet")
        return
    names = list(columns) or list(rows[0])
    shown = Table(title=escape(title) or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        shown.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows[:ROWS]:
        shown.add_row(*(escape(cell(row.get(name))) for name in names), style="bold" if row[names[0]] == mark else None)
    out.print(shown)
    if len(rows) > ROWS:
        out.print(f"... and {len(rows) - ROWS:,} more (--json has them all)")


def standing(metric: str, done: Mapping[str, Any]) -> None:
    """Leaderboard, champion, and where report and forecasts are."""
    name = done["pipeline"]
    table(done["leaderboard"], title=f"{name}: leaderboard (best first by {metric})")
    if done["champion"]:
        print(f"\nchampion  {name}/{done['champion']}: {done['decision']}")
    print(f"report    {done['report'] or 'none yet'}\nforecasts {done['forecasts']}")


def as_json(value: Any) -> None:
    """A value as JSON on standard output, alone."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=2) + "\n")


def plain(value: Any) -> Any:
    """A value in JSON's words: times as ISO text, no NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def cell(value: Any) -> str:
    """A value as people read it."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}" if abs(value) < 10**DIGITS else f"{value:,.0f}"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="minutes")).replace("+00:00", "")
    return str(value)


def say(text: str) -> None:
    """A line for people, on standard error."""
    err.print(escape(hidden(text)))


def error(text: str) -> None:
    """An error as one line (a pipeline file may have several: one each), on standard error."""
    for line in hidden(text).strip().splitlines() or ["unknown"]:
        sys.stderr.write(f"error: {line}\n")


class _Lines(logging.Handler):
    """One line per step: the clock, then what was done."""

    def emit(self, record: logging.LogRecord) -> None:
        colour = "yellow" if record.levelno >= logging.WARNING else "default"
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        err.print(f"[dim]{clock}[/dim]  [{colour}]{escape(hidden(record.getMessage()))}[/{colour}]")


def steps() -> None:
    """Show the library's log, a line per step, on standard error."""
    log = logging.getLogger("rnnforecast")
    log.setLevel(logging.INFO)
    log.propagate = False
    if not any(isinstance(handler, _Lines) for handler in log.handlers):
        log.addHandler(_Lines())
