"""Messages of a broker to rows: what their values hold, what is told beside them, and what is no reading.

The fields of a message are columns under their own names. What the broker tells of it makes columns whose names
begin with #, where `columns:` or `rename:` asks for them.
"""

import base64
import hashlib
from collections.abc import Callable, Collection
from typing import Final

import polars as pl

from rnnforecast.sources import layout
from rnnforecast.sources.base import ROW
from rnnforecast.sources.json_objects import PLACE, Objects, objects
from rnnforecast.sources.rows import LONGEST_LINE, Rows, quoted

Decode = Callable[[pl.Series], Objects]
LONGEST: Final = LONGEST_LINE  # bytes of one message
KEPT: Final = 10_000  # bytes of a message that is no reading


def asked_for(mapping: layout.Mapping) -> frozenset[str]:
    """The columns that the mapping of a source asks for by name."""
    columns = mapping.source.columns
    targets = [columns.target] if isinstance(columns.target, str) else columns.target
    single = (columns.series_id, columns.revision)
    return frozenset([*mapping.times, *targets, *mapping.needed, *(name for name in single if name is not None)])


def rows(values: pl.Series, numbers: pl.Series, beside: dict[str, pl.Series], *, decode: Decode) -> Rows:
    """The rows of (n) messages: their `values` (Binary, no nulls), `numbers` to name them by, and columns `beside`.

    A value that cannot be decoded, or is longer than `LONGEST`, is a misfit.
    """
    sizes = values.bin.size()
    fitting = (sizes <= LONGEST).arg_true().cast(pl.Int64)
    read = decode(values.gather(fitting) if len(fitting) < len(values) else values)
    places = fitting.gather(read.frame[PLACE])
    told = {name: column.gather(places) for name, column in beside.items()}
    frame = read.frame.drop(PLACE).with_columns(numbers.gather(places).alias(ROW), **told)
    wrong = {fitting[place]: reason for place, reason in read.wrong.items()}
    for place in (sizes > LONGEST).arg_true():
        wrong[place] = f"a message of {sizes[place]} bytes, where {LONGEST} are the most"
    misfits = [(numbers[place], wrong[place], content(values[place])) for place in sorted(wrong)]
    return Rows(frame, misfits, sparse=True)


def from_json(values: pl.Series, wanted: Collection[str]) -> Objects:
    """JSON objects in bytes; see `objects`."""
    texts = texts_of(values)
    if not texts.null_count():
        return objects(texts, wanted)
    places = texts.is_not_null().arg_true().cast(pl.Int64)
    read = objects(texts.gather(places), wanted)
    wrong = {places[place]: reason for place, reason in read.wrong.items()}
    wrong |= dict.fromkeys(texts.is_null().arg_true(), "expected text; found bytes that are no UTF-8")
    return Objects(read.frame.with_columns(places.gather(read.frame[PLACE]).alias(PLACE)), wrong)


def texts_of(values: pl.Series) -> pl.Series:
    """Bytes as text, null where they are no UTF-8."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        return pl.Series([_text(value) for value in values], dtype=pl.String)


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def content(value: bytes) -> str:
    """A message as the quarantine keeps it: a JSON string of its text, or of base64 where it is none; cut if long."""
    head = value[:KEPT]
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        halved = len(value) > KEPT and error.start > KEPT - 4  # the cut went through a character
        text = head[: error.start].decode() if halved else "base64:" + base64.b64encode(head).decode()
    if len(value) > KEPT:
        text += f"... ({len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()[:16]})"
    return quoted(text)
