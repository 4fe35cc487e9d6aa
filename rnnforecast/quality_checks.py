"""The checks of the pipeline file on new readings: which rows fail which check, and why."""

import fnmatch
import re
from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from rnnforecast.columns import SERIES_ID, TIMESTAMP
from rnnforecast.config import RangeCheck, SentinelCheck
from rnnforecast.quality_history import Looking, flagged, length
from rnnforecast.quality_walk import Numbered, walk

PLACE: Final = "#place"
FAILURES: Final = pl.Schema({PLACE: pl.Int64(), "check": pl.Int64(), "reason": pl.String()})


def rows_before(checks: Sequence[Any]) -> int:
    """How many rows of each series, stored before its new ones, the checks look at; 0 where none looks back."""
    return max((length(check) for check in checks if isinstance(check, Looking)), default=0)


def judge(frame: pl.DataFrame, checks: Sequence[Any], tail: pl.DataFrame | None) -> pl.DataFrame:
    """A row for every check that a row of `frame` fails: `PLACE` (its row number), check (its number), reason."""
    rows = frame.with_row_index(PLACE).cast({PLACE: pl.Int64})
    numbered = [(number, check) for number, check in enumerate(checks) if check.column in frame.columns]
    found = [
        _of_series(rows, check)
        .filter(_fails(check))
        .select(PLACE, pl.lit(number, pl.Int64).alias("check"), _why(check))
        for number, check in numbered
        if not isinstance(check, Looking)
    ]
    failures = pl.concat([pl.DataFrame(schema=FAILURES), *(each.cast(FAILURES) for each in found)])
    looking = [(number, check) for number, check in numbered if isinstance(check, Looking)]
    if not looking:
        return failures
    refused = failures.filter(pl.col("check").is_in(_refusing(checks)))[PLACE]
    return pl.concat([failures, _look_back(rows.filter(~pl.col(PLACE).is_in(refused.implode())), looking, tail)])


def _fails(check: RangeCheck | SentinelCheck) -> pl.Expr:
    value = pl.col(check.column)
    if isinstance(check, SentinelCheck):
        return value.is_in(list(check.values))
    low = value < check.min if check.min is not None else pl.lit(False)
    return low | (value > check.max) if check.max is not None else low


def _why(check: RangeCheck | SentinelCheck) -> pl.Expr:
    value = pl.col(check.column)
    if isinstance(check, SentinelCheck):
        return pl.format("sentinel: {} stands for no reading", value).alias("reason")
    above = pl.format("out of range: {} is above {}", value, pl.lit(f"{check.max:g}" if check.max is not None else ""))
    below = pl.format("out of range: {} is below {}", value, pl.lit(f"{check.min:g}" if check.min is not None else ""))
    return (above if check.min is None else pl.when(value < check.min).then(below).otherwise(above)).alias("reason")


def _of_series(rows: pl.DataFrame, check: Any) -> pl.DataFrame:
    """The rows of the series that a check is for."""
    if check.series == "*":
        return rows
    return rows.filter(pl.col(SERIES_ID).str.contains(f"^(?:{_regex(check.series)})$"))


def _regex(glob: str) -> str:
    """A shell pattern in the regular expressions of polars."""
    return re.sub(r"^\(\?s:(.*)\)\\[zZ]$", r"\1", fnmatch.translate(glob)).replace("(?>", "(?:")


def _refusing(checks: Sequence[Any]) -> list[int]:
    return [number for number, check in enumerate(checks) if check.action == "quarantine"]


def _look_back(rows: pl.DataFrame, checks: Numbered, tail: pl.DataFrame | None) -> pl.DataFrame:
    """Failures of the checks that look back.

    Where a series comes in the order of time and nothing in it is refused, one pass over all series at once has the
    answer; else its rows are walked through.
    """
    columns = list(dict.fromkeys(check.column for _, check in checks))
    new = rows.select(PLACE, SERIES_ID, TIMESTAMP, *columns)
    before = new.clear().drop(PLACE)
    if tail is not None and len(tail):
        before = tail.filter(pl.col(SERIES_ID).is_in(new[SERIES_ID].unique().implode())).select(before.columns)
    both = pl.concat([before.sort(SERIES_ID, TIMESTAMP), new], how="diagonal")
    both = both.sort(SERIES_ID, maintain_order=True).with_columns(pl.col(TIMESTAMP).to_physical())
    ordered = (pl.col(TIMESTAMP).diff() > 0).all().over(SERIES_ID)
    failures, walked = [], []
    straight = both.filter(ordered)
    tangled = set(both.filter(~ordered)[SERIES_ID].unique())
    for number, check in checks:
        why = flagged(check, time=pl.col(TIMESTAMP), value=pl.col(check.column), within=SERIES_ID)
        seen = _of_series(straight, check).select(
            PLACE, SERIES_ID, pl.lit(number, pl.Int64).alias("check"), why.alias("reason")
        )
        seen = seen.filter(pl.col("reason").is_not_null() & pl.col(PLACE).is_not_null())
        failures.append(seen)
        tangled |= set(seen[SERIES_ID]) if check.action == "quarantine" else set()
    found = pl.concat(failures).filter(~pl.col(SERIES_ID).is_in(list(tangled))).select(FAILURES.names())
    for series in sorted(tangled):
        here = [(number, check) for number, check in checks if fnmatch.fnmatchcase(series, check.series)]
        if here:
            of = pl.col(SERIES_ID) == series
            walked += walk(before.filter(of), new.filter(of), here, place=PLACE)
    return pl.concat([found, pl.DataFrame(walked, schema=FAILURES, orient="row")])
