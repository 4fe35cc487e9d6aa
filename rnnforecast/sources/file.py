"""Files as a source: CSV, Parquet, JSON lines or Arrow, on a disk or in an object store.

The cursor remembers of every file its size, time of change, how much of it was read and a digest of that, so that
an unchanged file is not opened, a file that grew is read from where it ended, and any other is read again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import polars as pl

from rnnforecast.columns import TIMESTAMP
from rnnforecast.config import FileSource, Pipeline
from rnnforecast.sources import landing
from rnnforecast.sources.base import REJECTED, Batch, Cursor, Quiet, SourceError, Until, empty_long, identity
from rnnforecast.sources.find import find
from rnnforecast.sources.formats import suffix_format
from rnnforecast.sources.layout import Mapping
from rnnforecast.sources.opened import TYPED, How, Opened, opened
from rnnforecast.sources.parse import Long, Memory, to_long
from rnnforecast.sources.pieces import Entry, Piece
from rnnforecast.sources.places import File
from rnnforecast.sources.rows import BLOCK, MOST_ROWS, BreaksOff, NothingYet
from rnnforecast.sources.spans import up_to

GROWTH: Final = 4  # times as much is read together where the first rows leave a question open


@dataclass
class Course:
    """What one reading of all the files carries from file to file; at its start, what the cursor has."""

    entries: dict[str, Entry]
    kind: str | None
    proven: bool
    profile: Cursor
    steps: bool | None = None  # whether timestamps are integer steps, once a row has shown it

    @classmethod
    def of(cls, cursor: Cursor | None) -> "Course":
        """A course that goes on from a cursor."""
        kept = cursor or {}
        return cls(dict(kept.get("files", {})), kept.get("kind"), bool(kept.get("proven")), kept.get("profile", {}))

    def as_cursor(self) -> Cursor:
        """To be stored, plain JSON."""
        return {"files": dict(self.entries), "kind": self.kind, "proven": self.proven, "profile": self.profile}


class FileReader(Quiet):
    """Reads the files of one source in the order of their names: a batch for each, several for a large one."""

    def __init__(self, pipeline: Pipeline, source: FileSource, *, block: int = BLOCK, rows: int = MOST_ROWS) -> None:
        """block, rows: about how much makes a batch, in bytes of text or in rows of typed columns."""
        self._source, self._pipeline = source, pipeline
        self._block, self._rows = block, rows
        self._patterns = [source.path] if isinstance(source.path, str) else list(source.path)
        self.label = ", ".join(self._patterns)
        self._mapping = Mapping.of(pipeline, source, self.label)
        self.key = identity("file", self.label, [self._patterns, source.format, self._mapping.decisive])

    def read(self, cursor: Cursor | None, *, until: Until = None) -> Iterator[Batch]:
        """Yield what is new, or nothing; with `until` files are read whole and the cursor stays.

        Raises SourceError for files that are absent, empty or not as described.
        """
        files = find(self._pipeline, self._source, seen=bool(cursor))
        course = Course.of(cursor)
        course.entries = {file.name: course.entries[file.name] for file in files if file.name in course.entries}
        course.entries = course.entries if until is None else {}
        for number, file in enumerate(files, start=1):
            for batch in self._file(file, course, after=files[number:]):
                if until is None:
                    yield batch
                else:
                    yield replace(batch, frame=up_to(batch.frame, until, self.label), cursor=cursor or {})

    def _file(self, file: File, course: Course, *, after: list[File]) -> Iterator[Batch]:
        """What is new in one file; or why there is nothing to be had from it, for now."""
        kind = suffix_format(file.name) if self._source.format == "auto" else self._source.format
        try:
            entry, stat = course.entries.get(file.name), file.stat()
            due = entry is not None and entry.get("due") is not None and _passed(entry["due"])
            known = entry is not None and all(entry.get(key) == value for key, value in stat.items())
            if entry is not None and known and not due and entry.get("done", True):
                return
            how = How(kind, self._source.separator, self._wanted(), self._rows if kind in TYPED else self._block)
            how = replace(how, tail=landing.wait(file, kind, self._source.settle))
            stat = file.stat()
            at = opened(file, stat, None if due else entry, how)
            if at.rewritten or due:
                # A file rewritten in place must not overrule the files after it: they are read again, in turn.
                for other in after:
                    course.entries.pop(other.name, None)
            with at.stream:
                yield from self._batches(at, file, stat, course)
        except FileNotFoundError:
            yield self._nothing(course, f"{file.name}: went away before it was read")
        except NothingYet as error:
            if not file.watched:
                raise
            yield self._nothing(course, f"passed over: {error}")
        except SourceError as error:
            if not landing.may_go_on(file, kind, broken=isinstance(error, BreaksOff)):
                raise
            yield self._nothing(course, f"left for the next ingest, as it may still be written: {error}")

    def _batches(self, at: Opened, file: File, stat: Entry, course: Course) -> Iterator[Batch]:
        """The rest of an opened file, a batch for each of its pieces."""
        entry = course.entries.get(file.name, {}) if at.resumed else {}
        kept = Memory.of(entry, resumed=at.resumed)
        memory = replace(kept, proven=course.proven, profile=course.profile)
        due = entry.get("due")
        if at.resumed:
            course.entries[file.name] = {**entry, **stat}
        while True:
            found = self._next(at, file.name, memory, course)
            if found is None:  # the end was where the last piece ended
                course.entries[file.name] = {**course.entries[file.name], "done": True}
                yield self._nothing(course)
                return
            piece, part = found
            at.pieces.advance()
            self._check_steps(part.frame, course)
            memory = replace(part.memory, resumed=True)
            due = min(filter(None, (due, part.due)), default=None)
            course.kind, course.proven = memory.kind or course.kind, memory.proven
            course.profile = memory.profile
            course.entries[file.name] = {**stat, **piece.entry, **_remembered(memory, due)}
            notes = (f"{file.name}: its end is not finished yet, and left for the next ingest",)
            left = piece.last and not piece.entry["done"]
            if left and not landing.is_young(stat):
                raise BreaksOff(file.name)
            cursor = course.as_cursor()
            yield Batch(part.frame, part.rejected, cursor, file.name, part.changes, notes if left else ())
            if piece.last:
                return

    def _next(self, at: Opened, name: str, memory: Memory, course: Course) -> tuple[Piece, Long] | None:
        """The next piece, a larger one where the file's first rows leave a question open that later ones may answer.

        Where the file's own times leave one open to its end, they are read as the files of the source before it.
        """
        size = at.pieces.size
        while True:
            piece = at.pieces.piece(size)
            if piece is None:
                return None
            try:
                return piece, to_long(piece.rows, self._mapping, name=name, memory=memory)
            except SourceError:
                if not memory.resumed and size < at.pieces.most and not piece.last:
                    size = min(GROWTH * size, at.pieces.most)
                    continue
                if course.kind is None or memory.kind is not None:
                    raise
                as_before = replace(memory, kind=course.kind)
                return piece, to_long(piece.rows, self._mapping, name=name, memory=as_before)

    def _wanted(self) -> tuple[str, ...]:
        columns = self._source.columns
        targets = [columns.target] if isinstance(columns.target, str) else columns.target
        more = [name for name in (columns.series_id, columns.revision) if name]
        return (*self._mapping.times, *targets, *more, *self._mapping.needed)

    def _nothing(self, course: Course, *notes: str) -> Batch:
        empty = empty_long(self._mapping.covariates)
        return Batch(empty, pl.DataFrame(schema=REJECTED), course.as_cursor(), notes=notes)

    def _check_steps(self, frame: pl.DataFrame, course: Course) -> None:
        """Refuse sources of which some files count steps and others have times."""
        if frame.is_empty():
            return
        steps = frame.schema[TIMESTAMP] == pl.Int64
        if course.steps not in (None, steps):
            raise SourceError(
                f"{self.label}: timestamps: some files hold integer steps, others times; make two pipelines of them, "
                f"or set `timestamp_format:` so that all are read alike"
            )
        course.steps = steps


def _remembered(memory: Memory, due: str | None) -> Entry:
    kept: Entry = {"kind": memory.kind}
    if memory.folds:
        kept["folds"] = sorted(memory.folds)
    return kept | ({"due": due} if due else {})


def _passed(due: str) -> bool:
    return datetime.fromisoformat(due) <= datetime.now(UTC)
