"""Columns that are not as they were: new ones, missing ones, another type; what is done about each.

What a source's columns were like is kept in its cursor (`Memory.profile`, plain JSON): columns (names), types (name to
number, text or time, of the columns in use), added (new ones that are stored), absent (rows since a column was seen
last, where not every row has every column), sizes (see `units`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from rnnforecast.columns import KEY, TARGET
from rnnforecast.config import NULL_VALUES, RowSource
from rnnforecast.sources.base import REVISION, ROW, Change, Cursor, SourceError
from rnnforecast.sources.layout import Mapping, absent, columns_used
from rnnforecast.sources.rows import Rows

NUMBER, TEXT, TIME, EMPTY = "number", "text", "time", "empty"
WORDS: Final = {NUMBER: "numbers", TEXT: "text", TIME: "times", EMPTY: "nothing yet"}
DEFAULTS: Final = {"new": "ignore", "type": "quarantine", "unit": "ignore"}
MOST_NAMES: Final = 2_000  # that a cursor remembers; of a source with more, new columns are not told
MOST_TOLD: Final = 20
MOST_TYPES: Final = 200  # columns whose type is watched
SPARSE: Final = 1_000  # so many rows without it, and a key that not every row has is missing
SAMPLE: Final = 1_000  # cells that tell the type of a column


@dataclass(frozen=True)
class Seen:
    """The columns of some rows against those of earlier ones.

    mapping: with the columns that are added; held: missing columns whose readings go to quarantine; changes: what is
    told; profile: what to remember.
    """

    mapping: Mapping
    held: frozenset[str] = frozenset()
    changes: tuple[Change, ...] = ()
    profile: Cursor = field(default_factory=dict)


def action(source: RowSource, kind: str, column: str, *, default: str | None = None) -> str:
    """What to do about a change: what `on_change` says of the column, or of all columns, or else the default."""
    rules = source.on_change
    named = rules.get(column)
    if named is not None and not (named == "add" and kind != "new") and not (named == "quarantine" and kind == "new"):
        return named
    return rules.get(kind) or default or DEFAULTS[kind]


def look(rows: Rows, mapping: Mapping, *, name: str, profile: Cursor, proven: bool, resumed: bool) -> Seen:
    """Compare the columns of `rows` with what is remembered; raises SourceError where that means to stop."""
    here = [column for column in rows.frame.columns if column != ROW]
    known: list[str] | None = profile.get("columns")
    added, new = _new(rows, mapping, here, profile, name)
    mapping = replace(mapping, covariates=(*mapping.covariates, *added))
    used = columns_used(mapping, here, name)
    lost = _Missing(mapping, here, known, name, optional=added)
    if rows.sparse:
        counts = lost.sparse(used, len(rows.frame), profile.get("absent", {}), proven=proven)
    else:
        counts = {}
        lost.headed(used, resumed=resumed)
    types, turned = _types(rows, mapping, here, profile.get("types", {}), name)
    forgotten = lost.gone | {column for column, change in new.items() if change is None}
    names = dict.fromkeys([*(known or ()), *here] if rows.sparse else here)
    remembered: dict[str, Any] = {
        "columns": [column for column in names if column not in forgotten][:MOST_NAMES],
        "types": types,
        "added": list(added),
        "absent": counts,
        "sizes": profile.get("sizes", {}),
    }
    told = [change for change in new.values() if change is not None]
    changes = (*_shortened(told), *_shortened(lost.changes), *turned)
    return Seen(mapping, frozenset(lost.held), changes, remembered)


def stop(name: str, change: str, column: str) -> SourceError:
    """The error of a change that stops the ingest."""
    return SourceError(
        f"{name}: {change}; correct the source or what `columns:` says of it, or set `on_change: "
        f"{{{column}: ignore}}` (or quarantine) to go on"
    )


def type_of(cells: pl.Series, nulls: Iterable[str], *, times: bool = False) -> str:
    """number, text, time or empty: what most cells are; text of a column of `times` that is no number is a time."""
    cells = cells.drop_nulls()
    cells = cells.gather_every(max(len(cells) // SAMPLE, 1))
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        text = text.filter(~text.is_in(list(nulls)))
        numbers = len(text) - text.cast(pl.Float64, strict=False).null_count()
        if len(text):
            return NUMBER if 2 * numbers > len(text) else TIME if times else TEXT
        return EMPTY
    if not len(cells):
        return EMPTY
    return NUMBER if cells.dtype.is_numeric() else TIME if cells.dtype.is_temporal() else TEXT


class _Missing:
    """What becomes of columns in use that are not there."""

    def __init__(
        self, mapping: Mapping, here: list[str], known: list[str] | None, name: str, *, optional: Iterable[str]
    ) -> None:
        self._mapping, self._columns, self._name = mapping, here, name
        self._here, self._known = set(here), None if known is None else dict.fromkeys(known)
        self._optional = {mapping.outside(column) for column in optional}
        self.changes: list[Change] = []
        self.held: list[str] = []
        self.gone: set[str] = set()

    def headed(self, used: list[str], *, resumed: bool) -> None:
        """All rows have all columns: one that is not there is missing."""
        for column in () if resumed else used:
            if column not in self._here:
                self._missing(column, mapped=column not in self._optional)
        wanted = set(used)
        for column in self._known or ():
            if column not in self._here and column not in wanted:
                self._missing(column, mapped=False)

    def sparse(self, used: list[str], rows: int, counts: dict[str, int], *, proven: bool) -> dict[str, int]:
        """A row has the keys that it has: one is missing that so many rows went without; returns the new counts."""
        found = {}
        for column in used:
            if column in self._here:
                continue
            before = counts.get(column, 0)
            found[column] = before + rows
            first = not proven and column not in (self._known or ()) and not self._may_wait(column)
            if first or before < SPARSE <= found[column]:
                self._missing(column, mapped=column not in self._optional)
            elif before >= SPARSE and self._action(column, mapped=True) == "quarantine":
                self.held.append(column)
        return found

    def _may_wait(self, column: str) -> bool:
        """Whether a key that no row has had yet may come later: a covariate, or one of several targets."""
        others = self._mapping.is_wide and not self._here.isdisjoint(self._mapping.source.columns.target)
        return column in self._mapping.needed or (others and self._mapping.is_value(column))

    def _action(self, column: str, *, mapped: bool) -> str:
        return action(self._mapping.source, "missing", column, default="stop" if mapped else "ignore")

    def _missing(self, column: str, *, mapped: bool) -> None:
        known = self._known is not None and column in self._known
        chosen = self._action(column, mapped=mapped)
        values = self._mapping.is_value(column)
        if chosen == "stop" or (mapped and not values):
            if known:
                raise stop(self._name, f"column '{column}' is missing, which earlier rows had{self._instead()}", column)
            raise SourceError(absent(column, self._columns, self._mapping, self._name))
        if mapped and chosen == "quarantine":
            self.held.append(column)
        if known or self._known is None:
            self.gone.add(column)
            self.changes.append(Change("missing", column, f"{self._name}: not there any more{self._instead()}", chosen))

    def _instead(self) -> str:
        """The columns that came in its place, perhaps."""
        new = [column for column in self._columns if self._known is not None and column not in self._known]
        return f" (new: {', '.join(new[:5])})" if new else ""


def _new(
    rows: Rows, mapping: Mapping, here: list[str], profile: Cursor, name: str
) -> tuple[tuple[str, ...], dict[str, Change | None]]:
    """The columns added so far and now, and each new one with what is told (None: it is empty, and not judged yet)."""
    known, added = profile.get("columns"), list(profile.get("added", ()))
    mine = set(columns_used(mapping, here, name))
    taken = {TARGET, REVISION, *KEY, *mapping.covariates, *added}
    found: dict[str, Change | None] = {}
    before = set(known or ()) if known is not None and len(known) < MOST_NAMES else set(here)
    for column in here:
        inside = mapping.source.rename.get(column, column)
        isnew = column not in before
        by_name = known is not None and mapping.source.on_change.get(column) == "add" and inside not in added
        if column in mine or not (isnew or by_name):
            if isnew:
                found[column] = Change("new", column, f"{name}: there again", "ignore")
            continue
        chosen = action(mapping.source, "new", column)
        if chosen == "stop":
            raise stop(name, f"column '{column}' is new, which earlier rows did not have", column)
        kind = type_of(rows.frame[column], [*NULL_VALUES, *mapping.source.null_values])
        detail = f"{name}: new, holds {WORDS[kind]}"
        if chosen == "add" and (kind != NUMBER or inside in taken or inside.startswith("#")):
            found[column] = None if kind == EMPTY else Change("new", column, f"{detail}: not added", "ignore")
            continue
        if chosen == "add":
            added.append(inside)
        found[column] = Change("new", column, detail, chosen)
    return tuple(added), found


def _types(
    rows: Rows, mapping: Mapping, here: list[str], before: dict[str, str], name: str
) -> tuple[dict[str, str], list[Change]]:
    """The types of the columns in use now, and those that changed."""
    types, changes = dict(before), []
    nulls = [*NULL_VALUES, *mapping.source.null_values]
    clock = mapping.times[0] if len(mapping.times) == 1 else None
    present = set(here)
    used = [column for column in columns_used(mapping, here, name) if column in present]
    for column in [column for column in used if column == clock or mapping.is_value(column)][:MOST_TYPES]:
        now, was = type_of(rows.frame[column], nulls, times=column == clock), before.get(column)
        if now == EMPTY:
            continue
        types[column] = now
        if was is not None and was != now:
            chosen = action(mapping.source, "type", column)
            cells = rows.frame[column].drop_nulls()
            example = str(cells[len(cells) // 2])[:40]
            said = f"column '{column}' held {WORDS[was]} before and holds {WORDS[now]} now, such as {example!r}"
            if chosen == "stop":
                raise stop(name, said, column)
            changes.append(Change("type", column, f"{name}: {said}", chosen if column != clock else "quarantine"))
    return types, changes


def _shortened(changes: list[Change]) -> list[Change]:
    """So many that people read them; the last one counts the others."""
    if len(changes) <= MOST_TOLD:
        return changes
    last = changes[MOST_TOLD - 1]
    more = f"{last.detail}; and so {len(changes) - MOST_TOLD} more columns"
    return [*changes[: MOST_TOLD - 1], replace(last, detail=more)]
