"""JSON objects to columns of text, a hundred thousand at a time: numbers keep the digits they came with.

Programs write their messages alike. So the first text is read by `json`, and a pattern made of its keys reads all
that have the same ones in the same order; the next text that is left gives the next pattern. What fits none
(nested values, escapes) is read one by one; both ways give the same cells.
"""

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

SHAPES: Final = 16  # patterns tried before the rest is read one by one
SHAPE_KEYS: Final = 64  # keys of an object that a pattern is made for
MOST_KEYS: Final = 10_000  # keys of an object
OTHERS: Final = 100  # columns that nobody asked for: they are only there to be told about

BLANK = r"[ \t\r\n]*"
NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
# Two groups: text without escapes, or what stands without quotes.
VALUE = rf'(?:"([^"\\\x00-\x1f]*)"|({NUMBER}|true|false|null|NaN|-?Infinity))'
PLACE: Final = "#place"
TEXT: Final = "#text"
FITS: Final = "#fits"
NO_OBJECT: Final = "expected a JSON object"

Record = dict[str, str | None]
_READ = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


@dataclass(frozen=True)
class Objects:
    """What texts hold.

    frame: a row per text that is an object, in their order: `PLACE` (Int64, which text it is) and columns of text,
    those asked for as far as there are such keys, and some `OTHERS`; wrong: place of a text that is no object to
    what was found.
    """

    frame: pl.DataFrame
    wrong: dict[int, str]


def objects(texts: pl.Series, wanted: Collection[str] = ()) -> Objects:
    """Read each of the texts (String, no nulls) as one JSON object; null stays null, nested values are JSON.

    `wanted` are the keys that matter. Messages that each have other keys cannot make columns without end, and
    keys that begin with # make none: such columns are the source's own.
    """
    left = pl.DataFrame({PLACE: pl.int_range(len(texts), eager=True), TEXT: texts})
    columns = _Columns(wanted)
    frames: list[pl.DataFrame] = []
    apart: list[pl.DataFrame] = []
    for _ in range(SHAPES):
        if left.is_empty():
            break
        keys = _shape(left[TEXT][0])
        fits = _by_shape(left, keys) if keys else None
        if keys is None or fits is None or not fits[FITS][0]:
            apart.append(left[:1])
            left = left[1:]
            continue
        frames.append(fits.filter(FITS).select(PLACE, *columns.among(keys)))
        left = left.filter(~fits[FITS])
    alone, wrong = _one_by_one(pl.concat([*apart, left]), columns)
    every = pl.concat([*frames, alone], how="diagonal")
    return Objects(every if every[PLACE].is_sorted() else every.sort(PLACE), wrong)


class _Columns:
    """Says which keys become columns: the wanted ones, and the first few others."""

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = frozenset(wanted)
        self._others: set[str] = set()

    def among(self, keys: Iterable[str]) -> list[str]:
        taken = []
        for key in keys:
            if key.startswith("#"):
                continue
            if key not in self._wanted and len(self._others) < OTHERS:
                self._others.add(key)
            if key in self._wanted or key in self._others:
                taken.append(key)
        return taken


def _shape(text: str) -> list[str] | None:
    """The keys of an object in their order, if a pattern can be made of them."""
    if not text.lstrip(" \t\r\n").startswith("{"):
        return None
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    keys = [key for key, _ in pairs]
    plain = all(key.isprintable() and not key.startswith("#") for key in keys)
    usable = plain and 0 < len(keys) <= SHAPE_KEYS and len(set(keys)) == len(keys)
    return keys if usable else None


def _by_shape(texts: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The texts read by the pattern of `keys`: `PLACE`, the columns, and whether the pattern `FITS`."""
    fields = [rf"{BLANK}{re.escape(json.dumps(key, ensure_ascii=False))}{BLANK}:{BLANK}{VALUE}{BLANK}" for key in keys]
    pattern = rf"^{BLANK}\{{{','.join(fields)}\}}{BLANK}$"
    groups = texts.select(PLACE, pl.col(TEXT).str.extract_groups(pattern).struct.unnest())
    cells = []
    for number, key in enumerate(keys):
        quoted, bare = pl.col(str(2 * number + 1)), pl.col(str(2 * number + 2))
        cells.append(pl.coalesce(quoted, pl.when(bare != "null").then(bare)).alias(key))
    return groups.select(PLACE, *cells, pl.coalesce("1", "2").is_not_null().alias(FITS))


def _one_by_one(texts: pl.DataFrame, columns: _Columns) -> tuple[pl.DataFrame, dict[int, str]]:
    """The texts that are objects, by `json` itself; also what the others are."""
    records: list[Record] = []
    places: list[int] = []
    wrong: dict[int, str] = {}
    names: dict[str, None] = {}
    for place, text in texts.iter_rows():
        record = _record(text)
        if isinstance(record, str):
            wrong[place] = record
            continue
        records.append(record)
        places.append(place)
        names.update(dict.fromkeys(columns.among(record)))
    cells = {name: pl.Series([record.get(name) for record in records], dtype=pl.String) for name in names}
    return pl.DataFrame({PLACE: pl.Series(places, dtype=pl.Int64), **cells}), wrong


def _record(text: str) -> Record | str:
    """The object of a text, its values as text; or what there is instead."""
    try:
        found = _READ.decode(text)
    except RecursionError:
        return f"{NO_OBJECT}; found one nested too deep"
    except ValueError as error:
        return f"{NO_OBJECT}; found no JSON ({error})" if text.strip() else f"{NO_OBJECT}; found nothing"
    if not isinstance(found, dict):
        return f"{NO_OBJECT}; found {'a list' if isinstance(found, list) else 'a single value'}"
    if len(found) > MOST_KEYS:
        return f"{NO_OBJECT} of at most {MOST_KEYS} keys; found {len(found)}"
    nested = [key for key, value in found.items() if isinstance(value, dict | list)]
    if nested:  # their numbers must not become text
        plain = json.loads(text)
        found.update({key: json.dumps(plain[key], ensure_ascii=False) for key in nested})
    record = {key: _cell(value) for key, value in found.items()}
    try:
        "".join([*record, *(value or "" for value in record.values())]).encode()
    except UnicodeEncodeError:
        return f"{NO_OBJECT}; found half a character (a lone surrogate) in it"
    return record


def _cell(value: Any) -> str | None:
    """A value that is not nested as text; only true and false are not text yet."""
    return value if value is None or isinstance(value, str) else str(value).lower()
