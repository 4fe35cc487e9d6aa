"""A file in pieces that memory can hold: what every format gives, and how it is done for text.

Text comes in blocks of whole lines. The cursor keeps how many bytes and lines were read and a digest of them, by
which a file that grew is told from one that was rewritten.
"""

import hashlib
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, Final, Protocol

import numpy as np
import polars as pl

from rnnforecast.sources.base import ROW, SourceError
from rnnforecast.sources.rows import BLOCK, LONGEST_LINE, MIB, SHOWN, BreaksOff, Rows, quoted

Entry = dict[str, Any]  # what the cursor keeps of one file
MOST_TOGETHER: Final = 4 * BLOCK  # read as one where the first rows leave a question open
SAMPLE: Final = MIB // 8
NEWLINE: Final = 10


@dataclass(frozen=True)
class Piece:
    """A part of a file: its rows, what the cursor keeps once they are stored, and whether it is the last."""

    rows: Rows
    entry: Entry
    last: bool


class Pieces(Protocol):
    """A file opened for reading: `piece` shows what comes next, `advance` goes past what was shown."""

    size: int  # of a usual piece, in bytes or rows
    most: int  # of the largest one, for first rows that leave a question open

    def piece(self, size: int) -> Piece | None:
        """What comes next, about `size` of it; None at the end. Raises SourceError."""
        ...

    def advance(self) -> None:
        """Go past the piece that was shown last."""
        ...


class Parser(Protocol):
    """Reads the rows of blocks of text: see `CsvText`."""

    def rows(self, data: bytes, *, first: int, start: bool, last: bool) -> Rows:
        """The rows in `data`, which begins with line `first`."""
        ...


class Digest(Protocol):
    """What tells one beginning of a file from another: `hashlib.sha256()`, or `Samples`."""

    def update(self, data: bytes, /) -> None: ...
    def copy(self) -> "Digest": ...
    def hexdigest(self) -> str: ...


class Samples:
    """A digest of the first and the last bytes only: the rest of an object far away is not fetched to compare it."""

    def __init__(self, head: bytes = b"", tail: bytes = b"") -> None:
        self._head, self._tail = head, tail

    def update(self, data: bytes, /) -> None:
        """Go on by `data`."""
        self._head += data[: SAMPLE - len(self._head)]
        self._tail = (self._tail + data)[-SAMPLE:]

    def copy(self) -> "Samples":
        """Another one that stands at the same place."""
        return Samples(self._head, self._tail)

    def hexdigest(self) -> str:
        """The digest of what came so far."""
        return hashlib.sha256(self._head + b"\0" + self._tail).hexdigest()


@dataclass(frozen=True)
class Standing:
    """Where reading goes on: bytes and lines that were read, their digest, and the file's first line."""

    offset: int
    lines: int
    digest: Digest
    header: bytes


def begin(stream: BufferedReader, *, name: str, header: bool, sampled: bool) -> Standing:
    """The standing at the first row; raises SourceError for a header that has no end."""
    digest: Digest = Samples() if sampled else hashlib.sha256()
    if not header:
        return Standing(0, 0, digest, b"")
    try:
        line = stream.readline(LONGEST_LINE + 1)
    except EOFError:
        raise BreaksOff(name) from None
    if len(line) > LONGEST_LINE:
        raise SourceError(
            f"{name}: row 1: a header of more than {LONGEST_LINE // MIB} MiB; check that this is a CSV file with "
            f"usual line ends"
        )
    digest.update(line)
    return Standing(len(line), 1, digest, line)


def resume(stream: BufferedReader, entry: Entry, *, header: bool, sampled: bool) -> Standing | None:
    """The standing of a cursor's entry, the stream being there then; None where the file was rewritten since."""
    offset, line = int(entry["offset"]), b""
    digest: Digest = Samples() if sampled else hashlib.sha256()
    if header:
        line = stream.readline(min(LONGEST_LINE, offset))
        digest.update(line)
    left = offset - len(line)
    if sampled and left > SAMPLE:
        rest = stream.read(SAMPLE - len(line)) if len(line) < SAMPLE else b""
        digest.update(rest)
        stream.seek(offset - SAMPLE)
        left = SAMPLE
    while left:
        part = stream.read(min(left, MIB))
        if not part:
            return None
        digest.update(part)
        left -= len(part)
    known = str(entry["digest"])
    return Standing(offset, int(entry["lines"]), digest, line) if digest.hexdigest()[: len(known)] == known else None


class TextPieces:
    """A CSV or JSON lines file, from where `at` says."""

    def __init__(
        self, stream: BufferedReader, at: Standing, parser: Parser, *, name: str, tail: bool, size: int
    ) -> None:
        """tail: a last line without a line end is taken too."""
        self.size, self.most = size, max(MOST_TOGETHER, size)
        self._stream, self._parser, self._name = stream, parser, name
        self._at = self._next = at
        self._start = at.lines == (1 if at.header else 0)
        self._pending = b""
        self._tail, self._ended, self._over = tail, False, False

    def piece(self, size: int) -> Piece | None:
        """The next rows, about `size` bytes of them."""
        while not self._over:
            self._fill(size)
            # Where it is cut depends on the place in the file alone, not on what happens to be read already.
            window, ended = self._pending[:size], self._ended and len(self._pending) <= size
            data = window if ended and self._tail else window[: window.rfind(b"\n") + 1]
            begin = _long_line(window)
            if begin == 0:
                return self._skipped()
            if begin is not None:
                data = data[:begin]
            last = ended and begin is None
            if data or last:
                rows = self._parser.rows(data, first=self._at.lines + 1, start=self._start, last=last)
                last = last and rows.whole
                if rows.offset or last:
                    return self._show(rows, data[: rows.offset], last=last)
            if size > self.most:
                raise SourceError(
                    f"{self._name}: row {self._at.lines + 1}: a row of more than {self.most // MIB} MiB; "
                    f"check its quotes"
                )
            size *= 2
        return None

    def advance(self) -> None:
        """Go past the piece that was shown last."""
        self._pending = self._pending[self._next.offset - self._at.offset :]
        self._at, self._start = self._next, False

    def _show(self, rows: Rows, data: bytes, *, last: bool) -> Piece:
        digest = self._at.digest.copy()
        digest.update(data)
        self._next = Standing(self._at.offset + len(data), self._at.lines + rows.lines, digest, self._at.header)
        self._over = last
        return Piece(rows, self._entry(done=last and (self._tail or len(self._pending) == len(data))), last)

    def _entry(self, *, done: bool) -> Entry:
        at = self._next
        return {"offset": at.offset, "lines": at.lines, "digest": at.digest.hexdigest()[:32], "done": done}

    def _fill(self, size: int) -> None:
        """Read on until `size` bytes are there or the file ends; one that breaks off ends before its last line."""
        parts, length = [self._pending], len(self._pending)
        while length < size and not self._ended:
            try:
                part = self._stream.read1(min(size - length, MIB))
            except EOFError:
                part, self._tail = b"", False
            self._ended = not part
            parts.append(part)
            length += len(part)
        self._pending = b"".join(parts)

    def _skipped(self) -> Piece:
        """The line that comes next, which is too long to be held: it is read past, and its beginning shown."""
        digest, shown, length, rest = self._at.digest.copy(), self._pending[:SHOWN], 0, self._pending
        while b"\n" not in rest and not self._ended:
            digest.update(rest)
            length += len(rest)
            self._pending = b""
            self._fill(MIB)
            rest = self._pending
        line, end, rest = rest.partition(b"\n")
        digest.update(line + end)
        length += len(line)
        reason = f"a line of more than {LONGEST_LINE // MIB} MiB ({length} bytes); only its beginning is kept"
        misfit = (self._at.lines + 1, reason, quoted(shown.decode(errors="replace")))
        rows = Rows(pl.DataFrame(schema={ROW: pl.Int64()}), [misfit])
        self._over = not end
        if end:
            self._at = Standing(self._at.offset + length + 1, self._at.lines + 1, digest, self._at.header)
        self._next, self._pending = self._at, rest
        return Piece(rows, self._entry(done=not end and self._tail), last=not end)


def _long_line(data: bytes) -> int | None:
    """Where the first line begins that is too long; None where there is none."""
    if len(data) <= LONGEST_LINE:
        return None
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == NEWLINE)
    bounds = np.concatenate(([-1], ends, [len(data)]))
    wrong = np.flatnonzero(np.diff(bounds) - 1 > LONGEST_LINE)
    return int(bounds[wrong[0]]) + 1 if len(wrong) else None
