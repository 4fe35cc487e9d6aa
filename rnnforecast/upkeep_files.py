"""The rows of some files of a table into other files: the same rows, cut in time, a few files' worth at once."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import polars as pl

from rnnforecast import table, table_files
from rnnforecast.columns import TIMESTAMP
from rnnforecast.table import Snapshot
from rnnforecast.table_files import FILE, Options
from rnnforecast.table_snapshot import TableError
from rnnforecast.upkeep_plan import File, Group

AT_ONCE: Final = 4  # files' worth of rows in memory: a reading of long files serves as many new ones
SAMPLE: Final = 2_000_000  # times that are looked at to cut a group into equal parts


def known(files: pl.DataFrame) -> list[File]:
    """The files of a table as the plan has them; a file without limits is taken to reach over everything."""
    low, high = f"min.{TIMESTAMP}", f"max.{TIMESTAMP}"
    if low not in files.columns:
        files = files.with_columns(pl.lit(0).alias(low), pl.lit(0).alias(high))
    limits = files.select("path", "num_records", pl.col(low, high).to_physical().cast(pl.Int64))
    limits = limits.with_columns(pl.col(low).fill_null(pl.col(low).min()), pl.col(high).fill_null(pl.col(high).max()))
    return [File(*row) for row in limits.fill_null(0).rows()]


def rewrite(path: str, group: Group, key: Sequence[str], size: int, options: Options) -> bool:
    """Put new files with the same rows in the place of a group, in one commit that another writer may precede.

    False, and nothing is changed, where another writer has replaced one of the files meanwhile. Raises TableError.
    """
    paths = [file.path for file in group.files]
    rows = table_files.scan(path, paths, dict(table.scan(path, options=options).collect_schema()), options)
    adds, count = [], 0
    for part in _parts(path, group, rows, size, options):
        adds += table_files.write(path, part, key, options, data_change=False)
        count += len(part)
    expected = rows.select(pl.len()).collect().item()
    if count != expected:
        raise TableError(f"{path}: upkeep read {expected} rows and would write {count}; nothing was changed")

    def put(snapshot: Snapshot) -> bool:
        if not set(paths) <= set(snapshot.files["path"]):
            return False
        snapshot.replace(paths, adds)
        return True

    done = table.commit(path, put, options)
    if not done:
        table.delete(path, [add.path for add in adds], options)
    return done


def _parts(path: str, group: Group, rows: pl.LazyFrame, size: int, options: Options) -> Iterator[pl.DataFrame]:
    """The rows of a group, those of each new file together, in the order of time."""
    if group.cuts == ():
        yield rows.drop(FILE).collect()
        return
    schema = dict(rows.drop(FILE).collect_schema())
    stamp = schema[TIMESTAMP]
    cuts = group.cuts if group.cuts is not None else _equal(path, group, schema, size, options)
    least, most = min(file.low for file in group.files), max(file.high for file in group.files)
    bounds = [least, *(cut for cut in cuts if least < cut <= most), most + 1]
    for first in range(0, len(bounds) - 1, AT_ONCE):
        inner = bounds[first : first + AT_ONCE + 1]
        met = [file.path for file in group.files if file.low < inner[-1] and file.high >= inner[0]]
        if not met:
            continue
        frame = table_files.scan(path, met, schema, options).drop(FILE).filter(_within(inner[0], inner[-1], stamp))
        both = frame.collect()
        for low, high in pairwise(inner):
            yield both.filter(_within(low, high, stamp)) if len(inner) > 2 else both


def _within(low: int, high: int, stamp: pl.DataType) -> pl.Expr:
    limits = pl.Series([low, high - 1], dtype=pl.Int64).cast(stamp)
    return pl.col(TIMESTAMP).is_between(pl.lit(limits[0], stamp), pl.lit(limits[1], stamp))


def _equal(path: str, group: Group, schema: dict[str, pl.DataType], size: int, options: Options) -> list[int]:
    """The times at which to cut a group into parts of `size` rows, by a sample."""
    count = round(group.rows / size)
    if count < 2:
        return []
    every = max(1, group.rows // SAMPLE)
    found = [
        table_files.scan(path, [file.path], schema, options).select(TIMESTAMP).gather_every(every).collect()
        for file in group.files
    ]
    times = pl.concat(found)[TIMESTAMP].to_physical().sort()
    return sorted({times[len(times) * number // count] for number in range(1, count)})
