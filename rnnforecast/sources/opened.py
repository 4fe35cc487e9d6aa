"""A file opened where its reading goes on: at its start, or at what the cursor has of it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import cast

from rnnforecast.sources.base import SourceError
from rnnforecast.sources.csv_rows import CsvText
from rnnforecast.sources.json_rows import JsonText
from rnnforecast.sources.pieces import Entry, Pieces, Standing, TextPieces, begin, resume
from rnnforecast.sources.places import File
from rnnforecast.sources.rows import MIB
from rnnforecast.sources.typed import TypedPieces
from rnnforecast.sources.unpack import packing, unpacked

TYPED = ("parquet", "arrow")


@dataclass(frozen=True)
class How:
    """How a file is to be read.

    kind: csv, jsonl, parquet or arrow; separator: of CSV; wanted: columns that are read whatever they hold; size: of
    a piece, in bytes of text or in rows; tail: take a last line without a line end.
    """

    kind: str
    separator: str
    wanted: tuple[str, ...]
    size: int
    tail: bool = True


@dataclass(frozen=True)
class Opened:
    """pieces: what comes next; resumed: they go on after earlier rows of the file; rewritten: those have changed."""

    stream: BufferedReader
    pieces: Pieces
    resumed: bool
    rewritten: bool


def opened(file: File, stat: Entry, entry: Entry | None, how: How) -> Opened:
    """Open `file`, of which `entry` was read before (None: nothing that counts); `stat` is what it is like now.

    Raises FileNotFoundError where it went away, SourceError where it cannot be read as it is described.
    """
    if how.kind in TYPED:
        return _typed(file, stat, entry, how)
    at: Standing | None = None
    if entry is not None and entry["offset"]:
        stream = unpacked(file.open(), name=file.name, size=int(stat["size"]))
        with _closed_on_error(stream):
            at = resume(stream, entry, header=how.kind == "csv", sampled=_sampled(file))
        if at is not None:
            with _closed_on_error(stream):
                return Opened(stream, _text(stream, at, file, how), resumed=True, rewritten=False)
        stream.close()
    stream = unpacked(file.open(), name=file.name, size=int(stat["size"]))
    with _closed_on_error(stream):
        at = begin(stream, name=file.name, header=how.kind == "csv", sampled=_sampled(file))
        return Opened(stream, _text(stream, at, file, how), resumed=False, rewritten=entry is not None)


def _text(stream: BufferedReader, at: Standing, file: File, how: How) -> TextPieces:
    csv = how.kind == "csv"
    parser = CsvText(at.header, name=file.name, separator=how.separator) if csv else JsonText(name=file.name)
    return TextPieces(stream, at, parser, name=file.name, tail=how.tail, size=how.size)


def _sampled(file: File) -> bool:
    """Whether the rest of the file is not to be fetched only to see that it is the same."""
    return file.far and not packing(file.name)


def _typed(file: File, stat: Entry, entry: Entry | None, how: How) -> Opened:
    if packing(file.name):
        raise SourceError(f"{file.name}: a compressed {how.kind} file; unpack it: its columns are compressed already")
    resumed = entry is not None and not entry["done"] and all(entry.get(key) == value for key, value in stat.items())
    stream = _near(file) if file.far else file.open()
    kept = entry if resumed else None
    with _closed_on_error(stream):
        pieces = TypedPieces(stream, name=file.name, kind=how.kind, entry=kept, wanted=how.wanted, size=how.size)
    return Opened(stream, pieces, resumed, rewritten=entry is not None and not resumed)


@contextmanager
def _closed_on_error(stream: BufferedReader) -> Iterator[None]:
    """Close a stream where what it was opened for fails."""
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _near(file: File) -> BufferedReader:
    """A copy on this machine of a file far away, gone with its closing: typed columns are read from all over it."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    with file.open() as stream:
        shutil.copyfileobj(stream, copy, 8 * MIB)
    copy.seek(0)
    return cast(BufferedReader, copy)
