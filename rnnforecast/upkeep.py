"""Upkeep of a pipeline's tables: many small files into few, old versions away, the same rows in every version kept.

An ingest leaves a file per batch. Here they become files of a million readings that follow each other in time, so
that a batch of new or late readings meets few rows however large the table is. A second upkeep finds nothing to do.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from rnnforecast import table, table_files
from rnnforecast.columns import FORECAST_KEY, KEY, MODEL, TABLE_VERSION
from rnnforecast.config import Pipeline
from rnnforecast.table_files import Options
from rnnforecast.upkeep_files import known, rewrite
from rnnforecast.upkeep_plan import File, Group, scattered, spread, tangled, together

KEEP_DAYS: Final = 30
KEYS: Final = {
    "observations": KEY,
    "quarantine": ("id",),
    "ingests": ("version",),
    "forecasts": (MODEL, *FORECAST_KEY, TABLE_VERSION),
}
ROUNDS: Final = 20  # how often to look again because an ingest was at work in the same files


@dataclass(frozen=True)
class TableUpkeep:
    """What was done to one table.

    files, bytes: of its newest version, before and after; rewritten: files that others took the place of;
    removed: files deleted because no kept version needs them, removed_bytes: theirs; version: after it.
    """

    table: str
    version: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rewritten: int
    removed: int
    removed_bytes: int


@dataclass(frozen=True)
class UpkeepReport:
    """What was done; `kept`: versions of the observations that stay readable for a model, besides the newest days'."""

    pipeline: str
    dry_run: bool
    keep_days: int
    kept: tuple[int, ...]
    tables: tuple[TableUpkeep, ...]

    def as_row(self) -> dict[str, Any]:
        """The report, JSON-able."""
        return {**asdict(self), "kept": list(self.kept), "tables": [asdict(each) for each in self.tables]}


def upkeep(
    pipeline: Pipeline, *, versions: Iterable[int] = (), keep_days: int = KEEP_DAYS, dry_run: bool = False
) -> UpkeepReport:
    """Merge small files of the pipeline's tables, and delete those that no version needs which is kept.

    Kept are the versions of the last `keep_days`, and of the observations `versions`; what a killed writer left is
    deleted after a day. `dry_run`: only say what would be done. Ingests may go on meanwhile. Raises TableError.
    """
    newest = table.version(pipeline.table("observations"), pipeline.storage.options)
    kept = tuple(sorted({each for each in versions if newest is not None and 0 <= each <= newest}))
    tables = [_one(pipeline, name, kept, keep_days, dry_run=dry_run) for name in KEYS]
    return UpkeepReport(pipeline.name, dry_run, keep_days, kept, tuple(each for each in tables if each is not None))


def _one(
    pipeline: Pipeline, name: str, versions: tuple[int, ...], keep_days: int, *, dry_run: bool
) -> TableUpkeep | None:
    path, options = pipeline.table(name), pipeline.storage.options
    before = table.files(path, options)
    started = table.version(path, options)
    if before is None or started is None:
        return None
    if dry_run:
        paths = {file.path for group in _plans(name, known(before)) for file in group.files}
        rewritten, after, version = len(paths), before, started
    else:
        rewritten = _compact(path, name, options)
        found, now = table.files(path, options), table.version(path, options)
        assert found is not None
        assert now is not None
        after, version = found, now
    kept = versions if name == "observations" else ()
    removed, freed = table.clean(path, hours=24 * keep_days, versions=kept, dry_run=dry_run, options=options)
    sizes = [int(files["size_bytes"].sum()) for files in (before, after)]
    return TableUpkeep(name, version, len(before), len(after), sizes[0], sizes[1], rewritten, removed, freed)


def _compact(path: str, name: str, options: Options) -> int:
    """Rewrite what the plan says until it says nothing more; returns how many files others took the place of."""
    rewritten = 0
    for _ in range(ROUNDS):
        files = table.files(path, options)
        groups = _plan(name, known(files)) if files is not None else []
        if not groups:
            break
        for group in groups:
            if rewrite(path, group, KEYS[name], table_files.ROWS_PER_FILE, options):
                rewritten += len(group.files)
    return rewritten


def _plans(name: str, files: list[File]) -> list[Group]:
    """All that is not as it should be."""
    size = table_files.ROWS_PER_FILE
    if name != "observations":
        small = [file for file in files if 2 * file.rows < size]
        return [group for group in together(small, size, cuts=()) if len(group.files) > 1]
    return [*tangled(files, size), *spread(files, size), *scattered(files, size)]


def _plan(name: str, files: list[File]) -> list[Group]:
    """What to do next: one kind at a time, as each changes what the next one finds."""
    size = table_files.ROWS_PER_FILE
    if name != "observations":
        return _plans(name, files)
    return tangled(files, size) or spread(files, size) or scattered(files, size)
