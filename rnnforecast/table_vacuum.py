"""Files on disk that no version of a Delta table needs any more, and those that a version lacks."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from deltalake import DeltaTable

from rnnforecast import table_files
from rnnforecast.table_files import Options

ORPHAN_HOURS: Final = 24  # a file that no commit names may belong to a writer that is still at work


def unneeded(
    table: DeltaTable, root: str, options: Options, *, hours: int, versions: Iterable[int]
) -> list[tuple[str, int]]:
    """Path and bytes of the files that were taken out of the table `hours` ago, or that no commit ever named.

    What one of `versions` holds is needed, and so is a file without a commit until a day after it was written.
    """
    newest = table.version()
    kept = sorted({version for version in versions if 0 <= version <= newest})

    def found(after: int, *, full: bool) -> set[str]:
        # Only asked, never told to delete: the files must be judged by two clocks, and a vacuum has one.
        settings: Any = {"enforce_retention_duration": False, "keep_versions": kept or None}
        return set(table.vacuum(retention_hours=after, full=full, **settings))

    orphans = found(ORPHAN_HOURS, full=True) - found(ORPHAN_HOURS, full=False)
    return _there(sorted(found(hours, full=False) | orphans), root, options)  # some went before


def delete(root: str, paths: Sequence[str], options: Options) -> None:
    """Delete files of a table."""
    storage = table_files.storage(root, options)
    for path in paths:
        storage.delete_file(path)


def missing(table: DeltaTable, root: str, options: Options) -> list[str]:
    """The files of a version that are not there any more."""
    paths = table_files.listed(table)["path"].to_list()
    return sorted(set(paths) - {path for path, _ in _there(paths, root, options)})


def _there(paths: Sequence[str], root: str, options: Options) -> list[tuple[str, int]]:
    """Those of the files that are there, with their bytes."""
    found = table_files.storage(root, options).get_file_info(list(paths)) if paths else []
    return [(path, info.size or 0) for path, info in zip(paths, found, strict=True) if info.is_file]
