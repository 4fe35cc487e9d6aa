"""What single cells say: numbers, or a reason why the row cannot be taken."""

import json
from datetime import UTC, datetime

import polars as pl

from rnnforecast.columns import TARGET
from rnnforecast.config import NULL_VALUES
from rnnforecast.sources.base import REJECTED, ROW, SourceError
from rnnforecast.sources.changes import action
from rnnforecast.sources.layout import FROM, Mapping
from rnnforecast.sources.rows import Rows

STAMP = "#stamp"
REASONS = {ROW: pl.Int64(), "column": pl.String(), "reason": pl.String()}


class Rejects:
    """Collects the readings that cannot be taken, while they are taken out of the frame."""

    def __init__(self) -> None:
        self._parts = [pl.DataFrame(schema=REASONS)]

    def drop(self, frame: pl.DataFrame, wrong: pl.Expr, *, column: pl.Expr, reason: pl.Expr) -> pl.DataFrame:
        """`frame` without the rows that are `wrong`, which are noted with `column` and `reason`."""
        found = frame.select(wrong.fill_null(False).alias("wrong")).to_series()
        if not found.any():  # reasons are worded for the wrong rows only: wording them costs more than all the rest
            return frame
        noted = frame.filter(found).rechunk()  # polars 2.1 fails at `format` where a chunk has no row
        noted = noted.select(ROW, column.alias("column"), reason.alias("reason"))
        self._parts.append(noted.cast(REASONS))  # type: ignore[arg-type]
        return frame.filter(~found)

    def table(self, rows: Rows, *, label: str, name: str) -> pl.DataFrame:
        """What was noted, with the rows' content as JSON and the lines that are no rows; columns of `REJECTED`."""
        # A wide row without a time was noted once for every column of its values.
        noted = pl.concat(self._parts).unique(maintain_order=True)
        held = rows.frame.filter(pl.col(ROW).is_in(noted[ROW].unique().implode()))
        content = {
            record.pop(ROW): json.dumps(record, ensure_ascii=False, default=str)
            for record in held.iter_rows(named=True)
        }
        found = [(label, name, row, None, reason, text) for row, reason, text in rows.misfits]
        found += [(label, name, row, column, reason, content[row]) for row, column, reason in noted.iter_rows()]
        return pl.DataFrame(found, schema=REJECTED, orient="row").sort("row", maintain_order=True)


def numbers(
    frame: pl.DataFrame, column: str, mapping: Mapping, rejects: Rejects, *, name: str, proven: bool
) -> pl.DataFrame:
    """Make `column` Float64: null values become null, text (unless it is to be ignored) and infinities are rejected.

    Raises SourceError where every cell of a column is text, or its type has no numbers (both unless `proven`).
    """
    dtype = frame[column].dtype
    where = pl.col(FROM) if column == TARGET else pl.lit(mapping.outside(column))
    if proven and not (dtype.is_numeric() or dtype.is_nested() or dtype == pl.String):
        frame = frame.with_columns(pl.col(column).cast(pl.String))
        dtype = frame[column].dtype
    if not (dtype.is_numeric() or dtype in (pl.String, pl.Null)):
        place = ", ".join(frame[FROM].unique().sort()) if column == TARGET else column
        raise SourceError(f"{name}: column '{place}': expected numbers; found {dtype}; map a numeric column")
    nulls = [*NULL_VALUES, *mapping.source.null_values]
    cell = pl.col(column)
    if dtype == pl.String:
        text = cell.str.strip_chars()
        cell = pl.when(~text.is_in(nulls)).then(text)
    number = cell.cast(pl.Float64, strict=False)
    sentinels = pl.Series([value for value in map(_finite, nulls) if value is not None], dtype=pl.Float64)
    if dtype == pl.Float32:  # -99.99 is another number there
        sentinels = sentinels.cast(pl.Float32).cast(pl.Float64)
    void = number.is_nan() | number.is_in(sentinels.implode())
    frame = frame.with_columns(
        pl.when(~void).then(number).alias("#number"), (cell.is_not_null() & number.is_null()).alias("#text")
    )
    if not proven:
        _refuse_text(frame, column, name)
    if mapping.source.on_change:
        frame = frame.with_columns(_refused_text(frame, column, mapping))
    shown = pl.format("'{}' is not a number", pl.col(column).cast(pl.String).str.slice(0, 60))
    frame = rejects.drop(frame, pl.col("#text"), column=where, reason=shown)
    infinite = pl.lit("infinite: a reading is a finite number")
    frame = rejects.drop(frame, pl.col("#number").is_infinite(), column=where, reason=infinite)
    return frame.with_columns(pl.col("#number").alias(column)).drop("#number", "#text")


def not_future(frame: pl.DataFrame, mapping: Mapping, rejects: Rejects) -> tuple[pl.DataFrame, str | None]:
    """Reject readings dated after now; also says when the first of them falls due, to be read again then."""
    if frame[STAMP].dtype == pl.Int64 or mapping.allow_future:
        return frame, None
    # Covariates that are known ahead come in rows of the future, which have no target yet.
    future = (pl.col(STAMP) > datetime.now(UTC)) & (pl.col(TARGET).is_not_null() | pl.lit(not mapping.known))
    first = frame.filter(future)[STAMP].min()
    reason = pl.format("dated after now: {}", pl.col(STAMP).dt.strftime("%Y-%m-%d %H:%M:%S UTC"))
    kept = rejects.drop(frame, future, column=pl.lit(mapping.times[0]), reason=reason)
    return kept, first.isoformat() if isinstance(first, datetime) else None


def _refused_text(frame: pl.DataFrame, column: str, mapping: Mapping) -> pl.Expr:
    """`#text` where text is refused; in columns whose change of type is to be ignored it is no reading."""
    here = frame[FROM].unique() if column == TARGET else [mapping.outside(column)]
    ignored = [each for each in here if action(mapping.source, "type", each) == "ignore"]
    where = pl.col(FROM) if column == TARGET else pl.lit(mapping.outside(column))
    return pl.col("#text") & ~where.is_in(ignored)


def _refuse_text(frame: pl.DataFrame, column: str, name: str) -> None:
    """Raise where all that a column of the file holds is text: then it is the wrong column."""
    group = FROM if column == TARGET else pl.lit(column).alias(FROM)
    counts = frame.group_by(group, maintain_order=True).agg(
        pl.col("#text").any(),
        pl.col("#number").is_not_null().any().alias("number"),
        pl.col(ROW).filter("#text").first().alias("row"),
        pl.col(column).cast(pl.String).filter(pl.col("#text")).first().alias("cell"),
    )
    wrong = counts.filter(pl.col("#text") & ~pl.col("number"))
    if len(wrong):
        first = wrong.row(0, named=True)
        what = "target column" if column == TARGET else "covariate column"
        raise SourceError(
            f"{name}: {what} '{first[FROM]}' needs numbers and has text in every row, the first in row {first['row']}: "
            f"{first['cell']!r}; map a numeric column, or list texts that mean no reading under `null_values:`"
        )


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
