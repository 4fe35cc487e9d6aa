"""The first rows of a file as they stand, whatever it is written in, for guessing from."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl

from rnnforecast.guess_columns import MOSTLY, GuessError
from rnnforecast.sources.formats import decode, known_format, suffix_format
from rnnforecast.sources.opened import TYPED, How, opened
from rnnforecast.sources.pieces import Pieces
from rnnforecast.sources.places import LocalFile
from rnnforecast.sources.rows import BLOCK, KIB
from rnnforecast.sources.unpack import unpacked

ENOUGH: Final = 2_000_000  # rows from which to guess
HEAD: Final = 256 * KIB
LINES: Final = 200
SEPARATORS: Final = (",", ";", "\t", "|")


def first_rows(file: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    """A file's rows (the first of them, of a very large file), and the keys of the source that say how to read them.

    Raises GuessError for what is no table, SourceError for what cannot be read.
    """
    place = LocalFile(file.name, file)
    kind, keys = suffix_format(file.name), {}
    try:
        stat = place.stat()
        if kind == "csv":
            keys = _csv_keys(place, int(stat["size"]))
        how = How(kind, keys.get("separator", ","), (), ENOUGH if kind in TYPED else BLOCK)
        found = opened(place, stat, None, how)
    except FileNotFoundError as error:
        raise GuessError(f"{file}: cannot be read ({error.strerror}); check the path") from None
    with found.stream:
        return pl.concat(_frames(found.pieces), how="diagonal"), keys


def _frames(pieces: Pieces) -> Iterator[pl.DataFrame]:
    count = 0
    while count < ENOUGH:
        piece = pieces.piece(pieces.size)
        if piece is None:
            return
        pieces.advance()
        yield piece.rows.frame
        count += len(piece.rows.frame)
        if piece.last:
            return


def _csv_keys(file: LocalFile, size: int) -> dict[str, Any]:
    """The separator where it is no comma, and the format where the name does not tell it."""
    with unpacked(file.open(), name=file.name, size=size) as stream:
        head = stream.read(HEAD)
    text = decode(head[: head.rfind(b"\n") + 1] or head, name=file.name)
    lines = [line for line in text.split("\n")[:LINES] if line.strip()]
    mark = _separator(lines, file.name)
    _check_header(list(csv.reader(lines, delimiter=mark)), mark, file.name)
    keys = {} if mark == "," else {"separator": mark}
    return keys if known_format(file.name) == "csv" else {**keys, "format": "csv"}


def _separator(lines: list[str], name: str) -> str:
    """The separator that most of the first lines agree on."""
    best, score = ",", 0.0
    for mark in SEPARATORS:
        try:
            widths = [len(record) for record in csv.reader(lines, delimiter=mark)]
        except csv.Error as error:
            raise GuessError(f"{name}: not a table ({error}); save it with usual line ends") from None
        common = max(set(widths), key=widths.count)
        share = widths.count(common) / len(widths)
        if common > 1 and share > score:
            best, score = mark, share
    if score < MOSTLY:
        raise GuessError(
            f"{name}: not a table: the first lines do not fall into columns by comma, semicolon, tab or bar (row 1: "
            f"{lines[0][:60]!r}); give it columns for time and value, or write the pipeline file by hand"
        )
    return best


def _check_header(records: list[list[str]], mark: str, name: str) -> None:
    """Refuse a header of another width than the rows', with each name beside what stands under it."""
    header, rows = records[0], records[1:]
    widths = [len(record) for record in rows]
    common = max(set(widths), key=widths.count) if widths else len(header)
    if common == len(header) or widths.count(common) < MOSTLY * len(widths):
        return
    number, first = next((number, row) for number, row in enumerate(rows, start=2) if len(row) == common)
    names = [*(f"'{column.strip()}'" for column in header), *["no name"] * (common - len(header))]
    cells = [*(cell.strip() for cell in first), *["nothing"] * (len(header) - common)]
    pairs = ", ".join(f"{column}: {cell}" for column, cell in zip(names, cells, strict=True))
    line = mark.join([*header[:common], *(f"column {place}" for place in range(len(header) + 1, common + 1))])
    raise GuessError(
        f"{name}: row {number} has {common} fields and the header (row 1) {len(header)} names; one under the other: "
        f"{pairs[:600]}; write {common} names into row 1, each over its own column (such as: {line[:300]}), then try "
        f"again"
    )
