"""Which column of a file holds what: long, wide and year-by-month files to one arrangement.

The arrangement has a row per reading, all cells still as they stand in the file: `ROW`, `FROM` (the column of
the value), series_id, `TIME` (text or the file's own type), target, and the covariates under their names here.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from rnnforecast.columns import KEY, SERIES_ID, TARGET
from rnnforecast.config import Pipeline, RowSource
from rnnforecast.sources.base import REVISION, ROW, SourceError, nearest
from rnnforecast.sources.times import MONTH_NUMBERS

FROM: Final = "#from"
TIME: Final = "#time"
PARTS: Final = ("year", "month", "day", "hour", "minute", "second")


@dataclass(frozen=True)
class Mapping:
    """How a source's rows are to be read, from the pipeline file."""

    source: RowSource
    label: str
    default_series: str
    separator: str = ","  # of CSV
    covariates: tuple[str, ...] = ()
    known: bool = False  # some covariates are known ahead: rows of the future may come without a target
    allow_future: bool = False

    @classmethod
    def of(cls, pipeline: Pipeline, source: RowSource, label: str) -> "Mapping":
        """The mapping of one of the pipeline's sources; raises SourceError for covariates of reserved names."""
        reserved = {*KEY, TARGET, REVISION} & set(pipeline.covariates)
        if reserved:
            name = sorted(reserved)[0]
            raise SourceError(
                f"covariate '{name}': this name is taken; give it another one under the source's `rename:`"
            )
        return cls(
            source=source,
            label=label,
            default_series=source.series or pipeline.name,
            covariates=pipeline.covariates,
            known=bool(pipeline.known_covariates),
            allow_future=pipeline.allow_future,
            separator=getattr(source, "separator", ","),
        )

    @property
    def decisive(self) -> list[Any]:
        """All that decides how rows are read, JSON-able and without secrets: for the key of a source.

        What to do about a change of columns is no part: a source that stopped goes on where it stood.
        """
        kept = self.source.model_dump(mode="json", include=set(RowSource.model_fields) - {"on_change"})
        return [kept, self.separator, self.covariates, self.known, self.allow_future, self.default_series]

    @property
    def times(self) -> list[str]:
        """The columns that make the time."""
        timestamp = self.source.columns.timestamp
        return [timestamp] if isinstance(timestamp, str) else list(timestamp)

    @property
    def is_wide(self) -> bool:
        """One series per target column."""
        if self.source.layout in ("year_month", "long"):
            return False
        return isinstance(self.source.columns.target, list) or self.source.layout == "wide"

    @property
    def needed(self) -> dict[str, str]:
        """Covariates: name in the file to name here."""
        return {self.outside(column): column for column in self.covariates}

    def outside(self, covariate: str) -> str:
        """The name that a covariate has in the file."""
        return next((there for there, here in self.source.rename.items() if here == covariate), covariate)

    def is_value(self, column: str) -> bool:
        """Whether a column of the file holds values: a target or a covariate, no time, series or revision."""
        columns = self.source.columns
        return column not in (*self.times, columns.series_id, columns.revision)


def columns_used(mapping: Mapping, columns: list[str], name: str) -> list[str]:
    """The columns that the description of the file names, each once; `columns` are those of file `name`."""
    source = mapping.source.columns
    optional = [column for column in (source.revision, source.series_id) if column]
    return list(dict.fromkeys([*mapping.times, *optional, *_targets(mapping.source, columns, name), *mapping.needed]))


def arrange(frame: pl.DataFrame, mapping: Mapping, *, name: str) -> pl.DataFrame:
    """Put the rows of file `name` into the arrangement, in the file's order; columns that are not there are null."""
    columns = [column for column in frame.columns if column != ROW]
    targets = _targets(mapping.source, columns, name)
    series, revision = mapping.source.columns.series_id, mapping.source.columns.revision
    away = [column for column in columns_used(mapping, columns, name) if column not in columns]
    frame = frame.with_columns(pl.lit(None, pl.String).alias(column) for column in away)
    time = _time(frame, mapping.times)
    table = frame.select(
        ROW,
        _series_id(series, mapping).alias(SERIES_ID),
        time.alias(TIME),
        *([pl.col(revision).alias(REVISION)] if revision else []),
        *(pl.col(column).alias(f"#target {column}") for column in targets),
        *(pl.col(there).alias(here) for there, here in mapping.needed.items()),
    )
    parts = [_one_target(table, column, number, mapping) for number, column in enumerate(targets, start=1)]
    return pl.concat(parts, how="vertical_relaxed").sort(ROW, maintain_order=True)


def _one_target(table: pl.DataFrame, column: str, number: int, mapping: Mapping) -> pl.DataFrame:
    """The readings of one target column; `number` is its place, and in a year-by-month file its month."""
    part = table.select(
        ROW,
        pl.lit(column).alias(FROM),
        SERIES_ID,
        TIME,
        pl.col(f"#target {column}").alias(TARGET),
        *([REVISION] if mapping.source.columns.revision else []),
        *mapping.covariates,
    )
    if mapping.source.layout == "year_month":
        year = pl.col(TIME).cast(pl.String).str.strip_chars().str.replace(r"\.0+$", "")
        return part.with_columns(pl.format("{}-{}", year, pl.lit(f"{number:02d}")).alias(TIME))
    if not mapping.is_wide:
        return part
    prefixed = mapping.source.columns.series_id is not None or mapping.source.series is not None
    return part.with_columns((pl.col(SERIES_ID) + f"/{column}" if prefixed else pl.lit(column)).alias(SERIES_ID))


def _series_id(column: str | None, mapping: Mapping) -> pl.Expr:
    if column is None:
        return pl.lit(mapping.default_series)
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _targets(source: RowSource, columns: list[str], name: str) -> list[str]:
    """The columns that hold values; those of the twelve months are found by their names."""
    target = source.columns.target
    targets = [target] if isinstance(target, str) else list(target)
    if source.layout == "long" and len(targets) > 1:
        raise SourceError(f"{name}: layout `long` has one target column; found {targets}; set `layout: wide`")
    if source.layout != "year_month":
        return targets
    if isinstance(target, str):
        months = {MONTH_NUMBERS[column.lower()]: column for column in columns if column.lower() in MONTH_NUMBERS}
        targets = [months[str(number)] for number in range(1, 13) if str(number) in months]
    if len(targets) != 12:
        raise SourceError(
            f"{name}: row 1: layout `year_month` needs twelve month columns; found {len(targets)} among {columns}; "
            f"list the twelve under `target:`, January first"
        )
    return targets


def _time(frame: pl.DataFrame, names: list[str]) -> pl.Series:
    """One column of times: parts named year, month, ... in any order, or else as given, text beside text."""
    if len(names) == 1:
        return frame[names[0]]
    if {name.lower() for name in names} <= set(PARTS):
        names = sorted(names, key=lambda name: PARTS.index(name.lower()))
    text = frame.select(pl.col(names).cast(pl.String).str.strip_chars().str.replace(r"^(\d+)\.0+$", "$1"))
    if not text[names[0]].drop_nulls().str.contains(r"^\d{4}$").all():
        return text.select(pl.concat_str(pl.all(), separator=" ").alias(TIME)).to_series()
    day = pl.concat_str(names[:3], separator="-")
    if len(names) <= 3:
        return text.select(day.alias(TIME)).to_series()
    clock = [pl.col(name).str.zfill(2) for name in names[3:]]
    clock += [pl.lit("00")] if len(clock) == 1 else []
    whole = pl.concat_str(day, pl.concat_str(clock, separator=":"), separator=" ")
    return text.select(whole.alias(TIME)).to_series()


def absent(column: str, columns: list[str], mapping: Mapping, name: str) -> str:
    """What is said of a column that is named and is not among `columns`."""
    shown = ", ".join(repr(found) for found in columns[:12]) + (", ..." if len(columns) > 12 else "")
    if len(columns) == 1:
        other = next((mark for mark in ";\t|," if mark in columns[0] and mark != mapping.separator), None)
        if other:
            return f"{name}: row 1: no column '{column}'; found {shown}; set `separator: {json.dumps(other)}`"
    hint = nearest(column, columns) or "; name the right one under `columns:`"
    return f"{name}: row 1: no column '{column}'; found {shown}{hint}"
