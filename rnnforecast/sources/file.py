"""Files as a source: CSV, Parquet and JSON lines, plain paths or globs.

The cursor remembers of every file its size, time of change, lines read and a digest of what was read, so that
an unchanged file is not opened, a file that grew is read from where it ended, and any other is read again.
"""

import glob
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from rnnforecast.columns import TIMESTAMP
from rnnforecast.config import FileSource, Pipeline
from rnnforecast.sources.base import REJECTED, Batch, Cursor, SourceError, Until, identity
from rnnforecast.sources.formats import Rows, read_csv, read_jsonl, read_parquet, suffix_format
from rnnforecast.sources.layout import Mapping
from rnnforecast.sources.parse import Long, Memory, concat, to_long

Entry = dict[str, Any]  # what the cursor keeps of one file


@dataclass(frozen=True)
class Opened:
    """A file that is to be read: its bytes, and how many of them (and of its lines) were read before."""

    data: bytes
    stat: Entry
    offset: int = 0
    lines: int = 0
    rewritten: bool = False


class FileReader:
    """Reads the files of one source; one batch holds all that is new in them, in the order of their names."""

    def __init__(self, pipeline: Pipeline, source: FileSource) -> None:
        self._source = source
        self._root = pipeline.root
        self._patterns = [source.path] if isinstance(source.path, str) else list(source.path)
        self._resolved = [pipeline.resolve(pattern) for pattern in self._patterns]
        self.label = ", ".join(self._patterns)
        self._mapping = Mapping.of(pipeline, source, self.label)
        decisive = [source.model_dump(), self._mapping.covariates, self._mapping.known, self._mapping.allow_future]
        self.key = identity("file", self.label, [*decisive, self._mapping.default_series])

    def read(self, cursor: Cursor | None, *, until: Until = None) -> Iterator[Batch]:
        """Yield one batch of what is new, or nothing; with `until` files are read whole and the cursor stays.

        Raises SourceError for files that are absent, empty or not as described.
        """
        before = cursor or {}
        entries: dict[str, Entry] = dict(before.get("files", {}))
        kind, proven, again = before.get("kind"), bool(before.get("proven")), False
        parts: list[Long] = []
        found = self._files()
        for name, path in found.items():
            opened = self._open(path, name, None if again or until is not None else entries.get(name))
            if opened is None:
                continue
            # A file rewritten in place must not overrule the files after it: they are read again, in turn.
            again = again or opened.rewritten
            entry = entries.get(name, {}) if opened.offset else {}
            folds = frozenset((series, stamp) for series, stamp in entry.get("folds", ()))
            memory = Memory(entry.get("kind"), folds, proven, resumed=bool(opened.offset))
            rows = self._rows(opened, name)
            part = self._long(rows, name, memory, kind)
            parts.append(part)
            kind, proven = part.memory.kind or kind, part.memory.proven
            entries[name] = _entry(opened, rows, part)
        if not parts:
            return
        frame = concat((part.frame for part in parts), self._mapping.covariates, label=self.label)
        rejected = pl.concat([pl.DataFrame(schema=REJECTED), *(part.rejected for part in parts)])
        entries = {name: entry for name, entry in entries.items() if name in found}
        if until is not None:
            yield Batch(_up_to(frame, until, self.label), rejected, before)
            return
        yield Batch(frame, rejected, {"files": entries, "kind": kind, "proven": proven})

    def _files(self) -> dict[str, Path]:
        """The files that the paths and globs name, each once: name from the project to path."""
        files: dict[str, Path] = {}
        for pattern, resolved in zip(self._patterns, self._resolved, strict=True):
            if "://" in resolved:
                raise SourceError(f"{pattern}: files are read from disk only; copy it here or mount the object store")
            matches = [Path(resolved)] if Path(resolved).is_file() else _glob(resolved)
            if not matches:
                what = f"no such file ({resolved}); relative paths count from the project, {self._root}"
                if Path(resolved).is_dir():
                    what = f"it is a folder; name its files, such as '{pattern.rstrip('/')}/*.csv'"
                raise SourceError(f"{pattern}: no file matches: {what}")
            for path in matches:
                files.setdefault(str(path.relative_to(self._root) if path.is_relative_to(self._root) else path), path)
        return files

    def _open(self, path: Path, name: str, entry: Entry | None) -> Opened | None:
        """The file's bytes and where to go on in them; None where nothing is new."""
        try:
            status = path.stat()
            stat = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
            due = entry is not None and entry.get("due") is not None and _passed(entry["due"])
            if entry is not None and not due and all(entry[key] == value for key, value in stat.items()):
                return None
            data = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{name}: cannot be read ({error.strerror}); check its permissions") from None
        if entry is None or due:
            return Opened(data, stat)
        if entry["offset"] and _digest(data[: entry["offset"]]) == entry["digest"]:
            return Opened(data, stat, entry["offset"], entry["lines"])
        return Opened(data, stat, rewritten=True)

    def _rows(self, opened: Opened, name: str) -> Rows:
        format_ = suffix_format(name) if self._source.format == "auto" else self._source.format
        if format_ == "parquet":
            return read_parquet(opened.data, name=name)
        where = {"offset": opened.offset, "lines": opened.lines}
        if format_ == "jsonl":
            return read_jsonl(opened.data, name=name, **where)
        return read_csv(opened.data, name=name, separator=self._source.separator, **where)

    def _long(self, rows: Rows, name: str, memory: Memory, kind: str | None) -> Long:
        """Read one file; where its own times leave a question open, as the files of the source before it were."""
        try:
            return to_long(rows, self._mapping, name=name, memory=memory)
        except SourceError:
            if kind is None or memory.kind is not None:
                raise
            return to_long(rows, self._mapping, name=name, memory=replace(memory, kind=kind))


def _glob(pattern: str) -> list[Path]:
    """The files that a pattern matches, sorted; it may be absolute, which Path.glob does not take."""
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    return [Path(match) for match in found if Path(match).is_file()]


def _entry(opened: Opened, rows: Rows, part: Long) -> Entry:
    entry = {**opened.stat, "offset": rows.offset, "lines": rows.lines, "digest": _digest(opened.data[: rows.offset])}
    entry["kind"] = part.memory.kind
    if part.memory.folds:
        entry["folds"] = sorted(part.memory.folds)
    if part.due:
        entry["due"] = part.due
    return entry


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _passed(due: str) -> bool:
    return datetime.fromisoformat(due) <= datetime.now(UTC)


def _up_to(frame: pl.DataFrame, until: datetime | int, label: str) -> pl.DataFrame:
    """The rows up to `until`, a naive one being UTC."""
    steps = frame.schema[TIMESTAMP] == pl.Int64
    if steps == isinstance(until, datetime):
        raise SourceError(f"{label}: until: expected {'an integer step' if steps else 'a time'}; found {until!r}")
    if isinstance(until, datetime) and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return frame.filter(pl.col(TIMESTAMP) <= until)
