"""The data files of a Delta table: what the log says each holds, which of them a batch of rows touches, writing more.

A file is sorted by its key, and the log has the least and greatest of each key column, so that a batch meets only
the files that can hold its keys: new readings of a table of any size meet none.
"""

import io
import json
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction

FILE: Final = "#file"
ROWS_PER_FILE: Final = 500_000  # so many are read and written again where one of them changes
AT_ONCE: Final = 2  # files that are written side by side
ROWS_PER_GROUP: Final = 125_000
SAMPLE: Final = 100_000  # times that are looked at to cut rows into files
LONGEST: Final = 256  # characters of a text that the log keeps; a file with longer ones has no limits there
Options = dict[str, str] | None


def listed(table: DeltaTable) -> pl.DataFrame:
    """One row per file of the table: path, size_bytes, num_records, and min.COLUMN, max.COLUMN where known."""
    found = pl.DataFrame(table.get_add_actions(flatten=True))
    return found.with_columns(pl.col("num_records").fill_null(0)) if "num_records" in found.columns else found


def touched(files: pl.DataFrame, frame: pl.DataFrame, key: Sequence[str]) -> Iterator[tuple[list[str], pl.DataFrame]]:
    """Those files that can hold a key of `frame`, by the limits of the key columns, in portions of a file's rows.

    With each portion come the keys that lie within its limits, so that no more is read than stands between them.
    """
    keys = frame.select(key)
    met: list[tuple[dict[str, Any], pl.DataFrame]] = []
    for file in overlapping(files, keys).iter_rows(named=True):
        limits = [(name, file.get(f"min.{name}"), file.get(f"max.{name}")) for name in key]
        inside = [pl.col(name).is_between(pl.lit(a), pl.lit(b)) for name, a, b in limits if a is not None is not b]
        within = keys.filter(inside) if inside else keys
        if len(within):
            met.append((file, within))
    rows = pl.Series([file["num_records"] for file, _ in met], dtype=pl.Int64)
    for start, end in _portions(rows):
        paths = [file["path"] for file, _ in met[start:end]]
        yield paths, met[start][1] if end - start == 1 else pl.concat(each for _, each in met[start:end]).unique()


def newest_first(files: pl.DataFrame, column: str) -> Iterator[tuple[pl.DataFrame, Any]]:
    """The files in portions of a file's rows, those with the greatest `column` first.

    With each portion comes the greatest value that later portions can have; None after the last one.
    """
    limit = f"max.{column}"
    if limit not in files.columns:
        files = files.with_columns(pl.lit(None).alias(limit))
    files = files.sort(limit, descending=True, nulls_last=False)
    for start, end in _portions(files["num_records"]):
        yield files[start:end], files[limit][end] if end < len(files) else None


def overlapping(files: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """Those files that have, in each column of `keys`, one of its values between their limits."""
    for name in keys.columns:
        if f"min.{name}" in files.columns and len(files):
            values = keys[name].unique().sort()
            low, high = files[f"min.{name}"], files[f"max.{name}"]
            some = values.search_sorted(high, side="right") > values.search_sorted(low, side="left")
            files = files.filter(some | low.is_null() | high.is_null())
    return files if len(keys) else files.head(0)


def _portions(rows: pl.Series) -> Iterator[tuple[int, int]]:
    """Where to cut a list of files so that each part has about as many rows as one file takes."""
    start = count = 0
    for end, more in enumerate(rows, start=1):
        count += more
        if count >= ROWS_PER_FILE or end == len(rows):
            yield start, end
            start, count = end, 0


def scan(root: str, paths: Sequence[str], schema: dict[str, pl.DataType], options: Options) -> pl.LazyFrame:
    """The rows of some of the table's files, with the path of each in `FILE`; columns that a file lacks are null."""
    found = pl.scan_parquet(
        [f"{root}/{path}" for path in paths],
        schema=schema,
        missing_columns="insert",
        include_file_paths=FILE,
        storage_options=options or None,
    )
    return found.with_columns(pl.col(FILE).str.split("/").list.last())


def write(
    root: str, frame: pl.DataFrame, key: Sequence[str], options: Options, *, data_change: bool = True
) -> list[AddAction]:
    """Write rows as new files, sorted by `key`; they belong to the table once the actions are committed.

    `data_change`: whether these rows are news, or only the old ones put in another order.
    """
    if "://" not in root:
        Path(root).mkdir(parents=True, exist_ok=True)
    if frame.is_empty():
        return []
    if not rises(frame, key):
        frame = frame.sort(key)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda part: _write_one(root, part, key, options, data_change), _parts(frame, key)))


def _parts(frame: pl.DataFrame, key: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Pieces of about `ROWS_PER_FILE` rows, cut in time, so that rows of any one time are in few of them."""
    count = round(len(frame) / ROWS_PER_FILE)
    pieces = [frame]
    if count > 1 and len(key) == 2:
        column = pl.col(key[1])
        times = frame[key[1]].gather_every(max(len(frame) // SAMPLE, 1)).sort()
        cuts = times.gather([len(times) * number // count for number in range(1, count)]).unique().sort()
        ends = [column < pl.lit(cut) for cut in cuts] + [pl.lit(True)]
        starts = [pl.lit(True)] + [column >= pl.lit(cut) for cut in cuts]
        pieces = [frame.filter(start, end) for start, end in zip(starts, ends, strict=True)]
    for piece in pieces:
        if len(piece):  # a single time may have more rows than a file takes
            yield from piece.iter_slices(math.ceil(len(piece) / max(round(len(piece) / ROWS_PER_FILE), 1)))


def _write_one(root: str, frame: pl.DataFrame, key: Sequence[str], options: Options, data_change: bool) -> AddAction:
    name, now = f"{uuid.uuid4().hex}.parquet", int(time.time() * 1_000)
    settings: Any = {"compression": "zstd", "compression_level": 1, "row_group_size": ROWS_PER_GROUP}
    if "://" in root:  # written here first: the log wants a file's size
        buffer = io.BytesIO()
        frame.write_parquet(buffer, **settings)
        size = buffer.tell()
        with storage(root, options).open_output_stream(name) as stream:
            stream.write(buffer.getvalue())
    else:
        frame.write_parquet(f"{root}/{name}", **settings)
        size = Path(root, name).stat().st_size
    return AddAction(name, size, {}, now, data_change, json.dumps(_statistics(frame, key)))


def storage(root: str, options: Options) -> DeltaStorageHandler:
    """The folder of a table, here or in an object store."""
    return DeltaStorageHandler(root, options or {})


def rises(frame: pl.DataFrame, key: Sequence[str]) -> bool:
    """Whether each row's key of one or two columns is greater than that before it: sorted, and none twice."""
    if len(key) > 2:
        return False
    first, last = pl.col(key[0]), pl.col(key[-1])
    later = (first > first.shift(1)) | ((first == first.shift(1)) & (last > last.shift(1)))
    return bool(frame.select(later.slice(1).all()).item())


def remove(files: pl.DataFrame, paths: Sequence[str], *, data_change: bool = True) -> list[RemoveAction]:
    """The actions that take files out of the table; they stay on disk for the older versions."""
    now = int(time.time() * 1_000)
    sizes = dict(files.select("path", "size_bytes").rows())
    return [RemoveAction(path, data_change, now, sizes[path], {}) for path in paths]


def _statistics(frame: pl.DataFrame, key: Sequence[str]) -> dict[str, Any]:
    """What the log keeps of a file: its rows, the limits of its key, the nulls of the rest."""
    low, high = {}, {}
    for name in key:
        least, greatest = frame[name].min(), frame[name].max()
        if isinstance(greatest, str) and max(len(str(least)), len(greatest)) > LONGEST:
            continue
        low[name], high[name] = _plain(least), _plain(greatest)
    nulls = {name: frame[name].null_count() for name in frame.columns}
    return {"numRecords": len(frame), "minValues": low, "maxValues": high, "nullCount": nulls}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if value.tzinfo else value.isoformat()
    return value.isoformat() if isinstance(value, date) else value
