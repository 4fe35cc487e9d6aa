"""What was found in new readings, as rows and as words."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from rnnforecast.columns import SERIES_ID

Array = np.ndarray[Any, np.dtype[Any]]

SHOWN: Final = 5  # findings of a kind; a row for all others follows
# The weightiest first.
KINDS: Final = {
    "refused": "failed a check, quarantined",
    "failed": "failed a check, taken",
    "clock": "clock",
    "sentinel": "sentinel",
    "frozen": "frozen",
    "spike": "spike",
    "duplicate": "duplicate",
    "gap": "gap",
    "empty": "empty",
    "irregular": "irregular",
    "order": "order",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong in one series, or, without a name, in `others` of them that are not listed.

    first, last: timestamps in their integers; detail: in words.
    """

    kind: str
    series: str | None
    column: str | None
    count: int
    first: int
    last: int
    detail: str = ""
    others: int = 1


@dataclass(frozen=True)
class Spots:
    """Rows at which something is wrong, together by series: the series' names by code, each row's code and time."""

    names: list[str]
    code: Array
    time: Array


def told(
    kind: str, column: str | None, spots: Spots, say: Callable[[slice], str], *, counts: Array | None = None
) -> Iterator[Finding]:
    """A finding for each of the series that have most of something, in the words of `say`, and one for all others.

    `say` is given the series' place among the spots; `counts` is how much each spot counts.
    """
    if not len(spots.code):
        return
    begin = np.flatnonzero(np.concatenate([[True], spots.code[1:] != spots.code[:-1]]))
    end = np.append(begin[1:], len(spots.code))
    total = np.add.reduceat(np.ones(len(spots.code), int) if counts is None else counts, begin)
    ranked = np.argsort(-total, kind="stable")
    for number in ranked[:SHOWN].tolist():
        place = slice(int(begin[number]), int(end[number]))
        times = spots.time[place]
        name = spots.names[spots.code[place.start]]
        yield Finding(kind, name, column, int(total[number]), int(times.min()), int(times.max()), say(place))
    rest = ranked[SHOWN:]
    if len(rest):
        times = spots.time[np.isin(spots.code, spots.code[begin[rest]])]
        yield Finding(kind, None, column, int(total[rest].sum()), int(times.min()), int(times.max()), others=len(rest))


def as_frame(found: Iterable[Finding], time: Any) -> pl.DataFrame:
    """Findings as rows, by weight, of each kind those of the highest counts; `time` is the timestamps' type."""
    kinds: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    for finding in found:
        kinds[finding.kind].append(finding)
    rows: list[Finding] = []
    for findings in kinds.values():
        findings.sort(key=lambda each: (each.series is None, -each.count))
        named = sum(each.series is not None for each in findings)
        shown = min(SHOWN, named)
        rows += findings[:shown]
        if rest := findings[shown:]:
            rows.append(_others(rest))
    cells = [(row.kind, row.series, row.column, row.count, row.first, row.last, row.detail) for row in rows]
    schema = {"kind": pl.String(), SERIES_ID: pl.String(), "column": pl.String(), "count": pl.Int64()}
    schema |= {"first": pl.Int64(), "last": pl.Int64(), "detail": pl.String()}
    return pl.DataFrame(cells, schema=schema, orient="row").with_columns(pl.col("first", "last").cast(time))


def as_words(findings: pl.DataFrame | Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each finding, for the log and the page; `findings` as a frame, or its rows."""
    lines = []
    for row in findings.to_dicts() if isinstance(findings, pl.DataFrame) else findings:
        of = "" if row["column"] in (None, "target") else f", {row['column']}"
        place = f"{row[SERIES_ID]}{of}: " if row[SERIES_ID] is not None else ""
        lines.append(f"{KINDS[row['kind']]}: {place}{row['detail']}")
    return lines


def _others(rest: list[Finding]) -> Finding:
    """What is not listed, as one row without a series."""
    count, series = sum(each.count for each in rest), sum(each.others for each in rest)
    first, last = min(each.first for each in rest), max(each.last for each in rest)
    said = f"and {count:,} more in {series:,} other series" if series > 1 else f"and {count:,} more"
    return Finding(rest[0].kind, None, None, count, first, last, said)
