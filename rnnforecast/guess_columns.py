"""What the columns of a file are for, told by what they hold and, where that leaves a choice, by their names."""

from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from rnnforecast.columns import TARGET
from rnnforecast.config import NULL_VALUES
from rnnforecast.sources.base import ROW, SourceError
from rnnforecast.sources.layout import PARTS
from rnnforecast.sources.times import DAY_FIRST, EPOCHS, INTEGER, MONTH_FIRST, MONTH_NUMBERS, TEXT, read_stamps

TIME_NAMES: Final = "timestamp datetime date time ds day month period t step index time_idx timestep".split()  # noqa: SIM905
TARGET_NAMES: Final = "target y value price close load demand".split()  # noqa: SIM905
SERIES_NAMES: Final = "series_id unique_id item_id series symbol ticker station sensor id name".split()  # noqa: SIM905
VAGUE_NAMES: Final = ("id", "name")  # of series, or of anything else
MOSTLY: Final = 0.95


class GuessError(ValueError):
    """A file from which no pipeline can be told; the message says what was seen and what to write by hand."""


@dataclass(frozen=True)
class Found:
    """What the columns of a file are for; `rest` are numeric ones that were not chosen."""

    timestamp: str | list[str]
    target: str | list[str] = TARGET
    series_id: str | None = None
    rest: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)  # further keys of the source: layout, separator, ...


def roles(rows: pl.DataFrame, name: str) -> Found:
    """Which column is for what."""
    columns = [column for column in rows.columns if column != ROW]
    lowered = {column.lower(): column for column in columns}
    numeric = [column for column in columns if _is_numeric(rows[column])]
    months = [lowered[column] for column in lowered if column in MONTH_NUMBERS]
    if "year" in lowered and len(months) == 12:
        return Found(lowered["year"], source={"layout": "year_month"})
    timestamp, source = _time(rows, columns, lowered, name)
    used = [timestamp] if isinstance(timestamp, str) else timestamp
    series = _series(rows, [column for column in columns if column not in used and column not in numeric], used)
    series = series or next(
        (lowered[n] for n in SERIES_NAMES if n in lowered and _names_series(rows, lowered[n], used)), None
    )
    values = [column for column in numeric if column not in used and column != series]
    values = [column for column in values if not _is_counter(rows[column])] or values
    if not values:
        shown = ", ".join(f"'{column}' ({rows[column].drop_nulls()[:1].to_list()})" for column in columns[:8])
        raise GuessError(
            f"{name}: row 1: no numeric column to forecast; found {shown}; name the target under `columns:`"
        )
    chosen = next((lowered[n] for n in TARGET_NAMES if n in lowered and lowered[n] in values), None)
    if chosen is None and len(values) == 1:
        chosen = values[0]
    if chosen is not None:
        return Found(timestamp, chosen, series, [c for c in values if c != chosen], source)
    return Found(timestamp, values, series, [], source)


def _time(
    rows: pl.DataFrame, columns: list[str], lowered: dict[str, str], name: str
) -> tuple[str | list[str], dict[str, Any]]:
    """The column or columns of the time, and the source's `timestamp_format` where one is needed."""
    parts = [lowered[part] for part in PARTS if part in lowered]
    if len(parts) > 1 and parts[0].lower() == "year":
        return parts, {}
    ranked = sorted(columns, key=lambda c: TIME_NAMES.index(c.lower()) if c.lower() in TIME_NAMES else len(TIME_NAMES))
    for column in ranked:
        pattern = _time_format(rows[column], named=column.lower() in TIME_NAMES, place=f"{name}: column '{column}'")
        if pattern is not None:
            clock = lowered.get("time")
            if column.lower() == "date" and clock and rows[clock].dtype == pl.String:
                both = rows.select(pl.concat_str(pl.col(column, clock), separator=" ")).to_series()
                if _time_format(both, named=True, place=name) == "":
                    return [column, clock], {}
            return column, {"timestamp_format": pattern} if pattern else {}
    shown = ", ".join(f"'{column}' ({rows[column].drop_nulls()[:1].to_list()})" for column in columns[:8])
    raise GuessError(
        f"{name}: row 1: no column holds times; found {shown}; name the column under `columns: timestamp:` "
        f"and write its `timestamp_format:`"
    )


def _time_format(cells: pl.Series, *, named: bool, place: str) -> str | None:
    """'' where a column reads as times by itself, a `timestamp_format` where it needs one, None where it is none."""
    if cells.dtype.is_temporal():
        return ""
    if not (cells.dtype == pl.String or cells.dtype.is_integer()) or cells.null_count() == len(cells):
        return None
    try:
        read = read_stamps(cells, pattern=None, place=place)
    except SourceError as error:
        if "looks like" in str(error):
            return next(epoch for epoch in EPOCHS if f"{epoch}`" in str(error)) if named else None
        return _order_by_spread(cells, place)
    readable = 1 - read.frame["stamp"].null_count() / len(cells)
    if readable < MOSTLY or (read.kind == INTEGER and not named) or (read.kind != TEXT and _is_float(cells)):
        return None
    return ""


def _order_by_spread(cells: pl.Series, place: str) -> str:
    """Day or month first, where numbers do not tell: days that follow each other span less than months do."""
    spans = {}
    for kind in (DAY_FIRST, MONTH_FIRST):
        stamps = read_stamps(cells, pattern=None, place=place, kind=kind).frame["stamp"].drop_nulls().cast(pl.Int64)
        spans[kind] = int(stamps.sort()[-1]) - int(stamps.sort()[0])
    if spans[DAY_FIRST] == spans[MONTH_FIRST]:
        first = cells.drop_nulls()[0]
        raise GuessError(f"{place}: {first!r}: day or month first cannot be told; write `timestamp_format:` by hand")
    first = str(cells.drop_nulls()[0]).strip()
    mark = next(character for character in first if not character.isdigit())
    order = ("%d", "%m") if spans[DAY_FIRST] < spans[MONTH_FIRST] else ("%m", "%d")
    clock = {0: "", 1: " %H:%M", 2: " %H:%M:%S"}[min(first.count(":"), 2)]
    if first[-1:].lower() == "m":
        clock = clock.replace("%H", "%I") + " %p"
    return f"{order[0]}{mark}{order[1]}{mark}%Y{clock}"


def _series(rows: pl.DataFrame, texts: list[str], times: list[str]) -> str | None:
    """The text column by which repeated times are told apart."""
    return next((column for column in texts if _tells_apart(rows, column, times)), None)


def _tells_apart(rows: pl.DataFrame, column: str, times: list[str]) -> bool:
    if column in times or rows[column].null_count() or rows[column].dtype.is_float():
        return False
    alone = rows.select(times).n_unique()
    together = rows.select(column, *times).n_unique()
    return alone < MOSTLY * len(rows) <= together and rows[column].n_unique() <= len(rows) / 2


def _names_series(rows: pl.DataFrame, column: str, times: list[str]) -> bool:
    """Whether a column whose name says so holds the series: the same in every row, or a few that take turns."""
    if column in times or rows[column].null_count() or rows[column].dtype.is_float():
        return False
    count = rows[column].n_unique()
    few = column.lower() not in VAGUE_NAMES and count <= len(rows) / 2
    return count == 1 or few or _tells_apart(rows, column, times)


def _is_numeric(cells: pl.Series) -> bool:
    if cells.dtype.is_numeric():
        return True
    if cells.dtype != pl.String:
        return False
    text = cells.str.strip_chars()
    full = text.filter(~text.is_in(NULL_VALUES) & text.is_not_null())
    return len(full) > 0 and 1 - full.cast(pl.Float64, strict=False).null_count() / len(full) >= MOSTLY


def _is_float(cells: pl.Series) -> bool:
    return cells.dtype == pl.String and bool(cells.str.contains(r"^\s*-?\d+\.\d+\s*$").mean() == 1)


def _is_counter(cells: pl.Series) -> bool:
    """Whether a column only numbers the rows."""
    numbers = cells.cast(pl.Float64, strict=False)
    return len(cells) > 2 and bool((numbers.diff().drop_nulls() == 1).all()) and numbers.null_count() == 0
