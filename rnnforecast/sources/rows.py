"""The rows of a source as they stand there, and the limits to what one reading holds in memory.

Nothing is interpreted yet: text stays text, cell by cell, so that a bad one can be named.
"""

import json
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from rnnforecast.sources.base import ROW, SourceError

BOM: Final = b"\xef\xbb\xbf"
KIB: Final = 1024
MIB: Final = 1024 * KIB

BLOCK: Final = 8 * MIB  # of text, read as one batch
LONGEST_LINE: Final = 4 * MIB
LONGEST_NAME: Final = 1_000  # characters of a column's name
MOST_COLUMNS: Final = 100_000
MOST_ROWS: Final = 1_000_000  # of one batch
MOST_CELLS: Final = 16_000_000  # of one batch
SHOWN: Final = 1_000  # characters of a line too long that the quarantine keeps


@dataclass(frozen=True)
class Rows:
    """The rows of a file or of a block of it.

    frame: the file's columns and `ROW`; misfits: (row, reason, content) of lines that are no row;
    offset: bytes up to the end of the last finished row; lines: how many lines those are; whole: False where rows
    were left for the next block, as there are too many cells in them; sparse: a row has the columns that it has (JSON),
    so that one which none of a few rows has is not missing yet.
    """

    frame: pl.DataFrame
    misfits: list[tuple[int, str, str]] = field(default_factory=list)
    offset: int = 0
    lines: int = 0
    whole: bool = True
    sparse: bool = False


class NothingYet(SourceError):  # noqa: N818 (where a folder is watched it is no error)
    """A file without a row: wrong where it was named, and only early where a folder is watched."""


class BreaksOff(SourceError):  # noqa: N818 (while the file is young it is no error)
    """A file that ends in the midst of what its format needs."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: breaks off before its end; check what wrote it, and write it again")


def decode(data: bytes, *, name: str, first: int = 1) -> str:
    """Bytes as UTF-8 text with plain line ends; `first` is the number of their first line."""
    if first == 1:
        data = data.removeprefix(BOM)
        if not data.strip():
            raise NothingYet(f"{name}: the file is empty; check what wrote it, or take it out of `path:`")
    if b"\x00" in data:
        row = data[: data.index(b"\x00")].count(b"\n") + first
        raise SourceError(f"{name}: row {row} holds a zero byte: not a UTF-8 text file; unpack it or save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + first
        byte = data[error.start]
        raise SourceError(f"{name}: row {row} holds byte {byte:#04x}, which is not UTF-8; save it as UTF-8") from None
    return text.replace("\r\n", "\n").rstrip("\r")


def one_line(error: BaseException) -> str:
    """What a library's error says, short and on one line."""
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:120]


def checked_names(names: list[str], *, name: str) -> list[str]:
    """The column names of a file; raises SourceError for too many, too long ones, and two of one name."""
    if len(names) > MOST_COLUMNS:
        raise SourceError(
            f"{name}: row 1: {len(names)} columns, where a file has {MOST_COLUMNS} at most; "
            f"check the header, or write the series one below the other"
        )
    seen: dict[str, int] = {}
    for number, column in enumerate(names, start=1):
        if len(column) > LONGEST_NAME:
            raise SourceError(
                f"{name}: row 1: the name of column {number} has {len(column)} characters, where {LONGEST_NAME} is "
                f"the most; check that the file has a header and `separator:` is the one in it"
            )
        if column == ROW:
            raise SourceError(f"{name}: row 1: column {number} is called '{ROW}', which is taken; rename it")
        if column in seen:
            raise SourceError(
                f"{name}: row 1: columns {seen[column]} and {number} are both called '{column}'; "
                f"give one of them another name in the header"
            )
        seen[column] = number
    return names


def quoted(text: str) -> str:
    """A text as JSON, as the quarantine keeps what is no row."""
    return json.dumps(text, ensure_ascii=False)
