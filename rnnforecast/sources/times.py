"""Text and numbers to timestamps: what style a column is written in, and what each cell says.

A column is one of `KINDS`. Text is read in every common form at once (ISO, month names, day and month as
numbers); only the order of day and month, which no single cell may tell, is decided by the whole column.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from rnnforecast.sources.base import SourceError

INTEGER, COMPACT, TEXT, DAY_FIRST, MONTH_FIRST = "integer", "compact", "text", "day first", "month first"
KINDS: Final = (INTEGER, COMPACT, TEXT, DAY_FIRST, MONTH_FIRST)
EPOCHS: Final = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1, "epoch_ns": 0.001}
LOOKS_LIKE_EPOCH: Final = (
    ("epoch_s", 10),
    ("epoch_ms", 13),
    ("epoch_us", 16),
    ("epoch_ns", 19),
)  # digits, 2001 to 2286
MOST: Final = 0.9  # share of the numbers in a column that makes its kind

CLOCK = (
    r"(?:(?:T|,?\s+)(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<half>[AaPp])?(?:\.?[Mm]\.?)?)?\s*(?P<zone>Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?$"
)
WEEKDAY = r"^(?:(?:[Mm]on|[Tt]ue|[Ww]ed|[Tt]hu|[Ff]ri|[Ss]at|[Ss]un)[a-z]*,?\s+)?"
ISO = r"^(?P<year>\d{4})[-/.](?P<month>\d{1,2})(?:[-/.](?P<day>\d{1,2}))?" + CLOCK
NUMBERS = r"^(?P<first>\d{1,2})(?P<mark>[-/.])(?P<second_number>\d{1,2})[-/.](?P<year>\d{4})" + CLOCK
DAY_NAME = (
    WEEKDAY + r"(?:(?P<day>\d{1,2})(?:st|nd|rd|th)?[\s.-]+)?(?P<month>[A-Za-z]{3,9})[\s.,-]+(?P<year>\d{4})" + CLOCK
)
NAME_DAY = WEEKDAY + r"(?P<month>[A-Za-z]{3,9})\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<year>\d{4})" + CLOCK
COMPACT_DATE = (
    r"^(?P<year>(?:1[89]|2[01])\d{2})(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])"
    r"(?:T?(?P<hour>[01]\d|2[0-3])(?P<minute>[0-5]\d)(?P<second>[0-5]\d)?)?Z?$"
)
PARTS = ("year", "month", "day", "hour", "minute", "second", "fraction", "half", "zone")
MONTH_NAMES = (
    "january february march april may june july august september october november december".split()  # noqa: SIM905
)
MONTH_NUMBERS = {name[:3]: str(number) for number, name in enumerate(MONTH_NAMES, start=1)}
MONTH_NUMBERS |= {name: str(number) for number, name in enumerate(MONTH_NAMES, start=1)} | {"sept": "9"}


@dataclass(frozen=True)
class Stamps:
    """A column read as times.

    frame: `stamp` (Int64, or naive Datetime in microseconds; null where unreadable) and `offset` (Int64
    microseconds east of UTC where the cell says so); kind: one of `KINDS`, for the next part of the same file.
    """

    frame: pl.DataFrame
    kind: str


def read_stamps(cells: pl.Series, *, pattern: str | None, place: str, kind: str | None = None) -> Stamps:
    """Read a column of any type as times; `pattern` is the source's `timestamp_format`, `kind` what was found before.

    Raises SourceError where the order of day and month cannot be told, or numbers look like epoch times.
    """
    if cells.dtype == pl.Date or isinstance(cells.dtype, pl.Datetime):
        zoned = getattr(cells.dtype, "time_zone", None) is not None
        stamp = cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else cells
        return _stamps(
            stamp.cast(pl.Datetime("us")), pl.repeat(0 if zoned else None, len(cells), dtype=pl.Int64, eager=True)
        )
    if cells.dtype.is_float() and (cells.drop_nulls() % 1 == 0).all():
        cells = cells.cast(pl.Int64)
    if not (cells.dtype.is_integer() or cells.dtype == pl.String):
        raise SourceError(f"{place}: expected times, text or whole numbers; found {cells.dtype}")
    text = cells.cast(pl.String).str.strip_chars()
    if pattern:
        return _by_pattern(text, pattern, place)
    unique = text.drop_nulls().unique(maintain_order=True)
    kind = _kind(unique, place, kind)
    if kind == INTEGER:
        return _stamps(text.cast(pl.Int64, strict=False), kind=INTEGER)
    parts = _parts(unique, kind)
    kind = _order(parts, place, kind)
    read = pl.DataFrame({"text": unique}).with_columns(_instant(parts.select(_canonical(kind))))
    joined = text.alias("text").to_frame().join(read, on="text", how="left", maintain_order="left")
    return Stamps(joined.select("stamp", "offset"), kind)


def to_utc(frame: pl.DataFrame, *, zone: str | None, folds: set[tuple[str, str]] = frozenset()) -> pl.DataFrame:  # type: ignore[assignment]
    """Put `stamp` in UTC by `offset` or, without one, by `zone`; adds `fold` (bool).

    An hour that the autumn clock change repeats: a series' first row there is the earlier, the next the later;
    `folds` are the (series, stamp) seen before. A time that the spring change leaves out becomes null.
    """
    own = pl.col("stamp") - pl.duration(microseconds=pl.col("offset"))
    if zone is None:
        utc = pl.when(pl.col("offset").is_null()).then(pl.col("stamp")).otherwise(own)
        return frame.with_columns(utc.dt.replace_time_zone("UTC").alias("stamp"), pl.lit(False).alias("fold"))

    def local(side: str | pl.Expr) -> pl.Expr:
        zoned = pl.col("stamp").dt.replace_time_zone(zone, ambiguous=side, non_existent="null")  # type: ignore[arg-type]
        return zoned.dt.convert_time_zone("UTC")

    floating = pl.col("offset").is_null()
    frame = frame.with_columns((floating & (local("earliest") != local("latest")).fill_null(False)).alias("fold"))
    seen = pl.DataFrame(
        sorted(folds),
        schema=["series_id", "seen"],
        orient="row",
        schema_overrides={"series_id": pl.String, "seen": pl.String},
    )
    before = pl.struct("series_id", pl.col("stamp").dt.to_string("iso").alias("seen")).is_in(seen.to_struct().implode())
    nth = pl.int_range(pl.len()).over("series_id", "stamp", "fold") + before.cast(pl.Int64)
    side = pl.when(pl.col("fold") & (nth > 0)).then(pl.lit("latest")).otherwise(pl.lit("earliest"))
    utc = pl.when(floating).then(local(side)).otherwise(own.dt.replace_time_zone("UTC"))
    return frame.with_columns(utc.alias("stamp"))


def _stamps(stamp: pl.Series, offset: pl.Series | None = None, *, kind: str = TEXT) -> Stamps:
    none = pl.repeat(None, len(stamp), dtype=pl.Int64, eager=True)
    return Stamps(pl.DataFrame({"stamp": stamp, "offset": none if offset is None else offset}), kind)


def _by_pattern(text: pl.Series, pattern: str, place: str) -> Stamps:
    """Times by the source's own `timestamp_format`: strptime, `integer` or an epoch."""
    if pattern == INTEGER:
        return _stamps(text.cast(pl.Int64, strict=False), kind=INTEGER)
    if pattern in EPOCHS:
        if EPOCHS[pattern] >= 1:
            micros = (text.cast(pl.Decimal(38, 6), strict=False) * int(EPOCHS[pattern])).cast(pl.Int64, strict=False)
        else:
            micros = text.cast(pl.Int64, strict=False) // 1_000
        return _stamps(micros.cast(pl.Datetime("us")), pl.repeat(0, len(text), dtype=pl.Int64, eager=True))
    full, cells = pattern, text
    if not any(mark in pattern for mark in ("%d", "%e", "%j", "%F", "%D", "%x", "%c", "%s", "%U", "%W")):
        full, cells = pattern + " %d", text + " 1"  # a month is the first of it
    try:
        stamp = cells.str.to_datetime(full, strict=False, time_unit="us")
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{place}: timestamp_format {pattern!r} is no strptime format ({error})") from None
    zoned = isinstance(stamp.dtype, pl.Datetime) and stamp.dtype.time_zone is not None
    stamp = stamp.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else stamp
    return _stamps(stamp, pl.repeat(0 if zoned else None, len(text), dtype=pl.Int64, eager=True))


def _kind(unique: pl.Series, place: str, known: str | None) -> str:
    """Integer steps, compact dates, or text of some form."""
    if known is not None:
        return known
    whole = unique.filter(unique.str.contains(r"^[+-]?\d+$"))
    if 2 * len(whole) <= len(unique):
        return COMPACT if _share(unique, COMPACT_DATE) > MOST else TEXT
    if _share(whole, COMPACT_DATE) > MOST:
        return COMPACT
    for name, digits in LOOKS_LIKE_EPOCH:
        if _share(whole, rf"^\d{{{digits}}}$") > MOST:
            raise SourceError(
                f"{place}: {whole[0]} looks like a count since 1970; "
                f"set `timestamp_format: {name}`, or `timestamp_format: integer` if these are steps"
            )
    return INTEGER


def _share(text: pl.Series, form: str) -> float:
    """The share of cells that have a form."""
    return float(text.str.contains(form).sum()) / max(len(text), 1)


def _parts(unique: pl.Series, kind: str) -> pl.DataFrame:
    """What each text says: the parts of a time as text, null where no form fits; `first`, `mark`, `last` of numbers."""
    text = pl.col("text")
    forms = (COMPACT_DATE,) if kind == COMPACT else (ISO, NUMBERS, DAY_NAME, NAME_DAY)
    found = (
        unique.alias("text")
        .to_frame()
        .select(
            text.str.extract_groups(form).name.prefix_fields(f"{number}:").alias(f"f{number}")
            for number, form in enumerate(forms)
        )
    )
    found = found.unnest(*found.columns)
    columns = [
        pl.coalesce([name for name in found.columns if name.split(":")[1] == part] or pl.lit(None, pl.String)).alias(
            part
        )
        for part in PARTS
    ]
    numbers = [
        (pl.col(f"1:{part}") if f"1:{part}" in found.columns else pl.lit(None, pl.String)).alias(name)
        for part, name in (("first", "first"), ("mark", "mark"), ("second_number", "last"))
    ]
    return found.select(*columns, *numbers)


def _order(parts: pl.DataFrame, place: str, kind: str) -> str:
    """Whether numbers such as 11/5/2019 have the day or the month first; dots (5.11.2019) are days first."""
    if kind in (DAY_FIRST, MONTH_FIRST, COMPACT):
        return kind
    numbers = parts.filter(pl.col("first").is_not_null())
    if numbers.is_empty():
        return kind
    first, last = numbers["first"].cast(pl.Int64), numbers["last"].cast(pl.Int64)
    day_first, month_first = int((first > 12).sum()), int((last > 12).sum())
    if bool(day_first) != bool(month_first):
        return DAY_FIRST if day_first else MONTH_FIRST
    if not day_first and (numbers["mark"] == ".").all():
        return DAY_FIRST
    example = numbers.row(0, named=True)
    cell = f"{example['first']}{example['mark']}{example['last']}{example['mark']}{example['year']}"
    why = "both orders occur" if day_first else "no number is above 12"
    mark = example["mark"]
    raise SourceError(
        f"{place}: {cell}: day or month first cannot be told ({why}); set `timestamp_format:`, such as "
        f"'%d{mark}%m{mark}%Y' (day first) or '%m{mark}%d{mark}%Y' (month first), and ' %H:%M' for a clock time"
    )


def _canonical(kind: str) -> list[pl.Expr]:
    """The parts as `iso` text and the zone's `offset`."""
    swapped = ("last", "first") if kind != MONTH_FIRST else ("first", "last")
    name = pl.col("month").str.to_lowercase()
    month = pl.coalesce(pl.col(swapped[0]), name.replace_strict(MONTH_NUMBERS, default=name, return_dtype=pl.String))
    day = pl.coalesce(pl.col(swapped[1]), pl.col("day"), pl.lit("1"))
    hour, half = pl.col("hour").cast(pl.Int64), pl.col("half").str.to_lowercase()
    # 25 is no hour, so that 13 pm and 0 am come out unreadable.
    twelve = pl.when(hour.is_between(1, 12)).then(hour % 12 + pl.when(half == "p").then(12).otherwise(0)).otherwise(25)
    hour = pl.when(half.is_null()).then(hour).otherwise(twelve).cast(pl.String)

    def two(part: pl.Expr) -> pl.Expr:
        return part.fill_null("0").str.zfill(2)

    clock = [two(hour), two(pl.col("minute")), two(pl.col("second"))]
    fraction = pl.col("fraction").fill_null("0").str.slice(0, 6).str.pad_end(6, "0")
    iso = pl.format("{}-{}-{}T{}:{}:{}.{}", pl.col("year"), two(month), two(day), *clock, fraction)
    digits = pl.col("zone").str.replace(":", "")
    sign = pl.when(digits.str.starts_with("-")).then(-1).otherwise(1)
    minutes = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60
    minutes = minutes + digits.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    offset = pl.when(digits.str.contains(r"^[+-]")).then(sign * minutes * 60_000_000).when(digits.is_not_null()).then(0)
    return [iso.alias("iso"), offset.alias("offset")]


def _instant(canonical: pl.DataFrame) -> list[pl.Series]:
    stamp = canonical["iso"].str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us")
    return [stamp.alias("stamp"), canonical["offset"].cast(pl.Int64)]
