"""Where files lie: plain paths, globs and watched folders on a disk; URLs go to `object_store`.

A plain path is taken as it is. What a glob or a folder finds was not named by anyone, so names that say "not
finished" (`.part`, a leading dot or underscore) are passed over, and so is whatever a symbolic link or `..` would
fetch from outside of the pattern's own folder.
"""

import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final, Protocol

from rnnforecast.sources.base import SourceError
from rnnforecast.sources.formats import known_format
from rnnforecast.sources.pieces import Entry

UNFINISHED: Final = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart", ".download", ".swp", "~")
WILD: Final = re.compile(r"[*?\[]")


class File(Protocol):
    """A file that was found."""

    @property
    def name(self) -> str:
        """How people and the cursor call it."""
        ...

    @property
    def watched(self) -> bool:
        """A glob or a folder found it: nobody named it, others drop it there."""
        ...

    @property
    def far(self) -> bool:
        """It lies in an object store: it is written at once, and its bytes are fetched by ranges."""
        ...

    def stat(self) -> Entry:
        """What changes with its content: `size` and more; raises FileNotFoundError, or SourceError."""
        ...

    def open(self) -> BufferedReader:
        """Its bytes; raises FileNotFoundError, or SourceError."""
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file on a disk."""

    name: str
    path: Path
    watched: bool = False
    far: bool = False

    def stat(self) -> Entry:
        """Size and time of change."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._refused(error) from None
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}

    def open(self) -> BufferedReader:
        """Its bytes."""
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> SourceError:
        return SourceError(f"{self.name}: cannot be read ({error.strerror}); check its permissions")


def is_unfinished(name: str) -> bool:
    """Whether a file's name says that it is still being written, or is no data."""
    return name.startswith((".", "_")) or name.lower().endswith(UNFINISHED)


def taken(name: str, pattern: str, *, any_format: bool) -> bool:
    """Whether a glob (or '', a folder) takes a file of this name; `any_format`: it need not say what it is."""
    last = pattern.rsplit("/", 1)[-1]
    asked_for = bool(last) and (last.startswith((".", "_")) or last.lower().endswith(UNFINISHED))
    return (asked_for or not is_unfinished(name)) and (bool(last) or any_format or known_format(name) is not None)


def local_files(pattern: str, resolved: str, root: Path, *, any_format: bool) -> list[LocalFile]:
    """The files that a path, glob or folder stands for, in the order of their names; none is no error here."""

    def named(path: Path, *, watched: bool) -> LocalFile:
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        return LocalFile(str(shown), path, watched)

    if Path(resolved).is_file():
        return [named(Path(resolved), watched=False)]
    folder = Path(resolved).is_dir()
    matches: Iterable[str] = os.listdir(resolved) if folder else glob.glob(resolved, recursive=True)  # noqa: PTH207,PTH208
    paths = sorted(Path(resolved, match) for match in matches)
    fixed = Path(resolved if folder else WILD.split(resolved, maxsplit=1)[0].rpartition("/")[0] or "/").resolve()
    mask = "" if folder else pattern
    return [
        named(path, watched=True)
        for path in paths
        if path.is_file() and path.resolve().is_relative_to(fixed) and taken(path.name, mask, any_format=any_format)
    ]
