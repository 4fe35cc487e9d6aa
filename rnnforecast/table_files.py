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
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction

FILE: Final = "#file"
ROWS_PER_FILE: Final = 1_000_000  # so many are read and written again where one of them changes
ROWS_PER_GROUP: Final = 200_000
LONGEST: Final = 256  # characters of a text that the log keeps; a file with longer ones has no limits there
Options = dict[str, str] | None


def listed(table: DeltaTable) -> pl.DataFrame:
    """One row per file of the table: path, size_bytes, num_records, and min.COLUMN, max.COLUMN where known."""
    found = pl.DataFrame(table.get_add_actions(flatten=True))
    return found.with_columns(pl.col("num_records").fill_null(0)) if "num_records" in found.columns else found


def touched(files: pl.DataFrame, frame: pl.DataFrame, key: Sequence[str], *, onwards: bool = False) -> list[str]:
    """The paths of those files that can hold a key of `frame`, by the limits of the key columns.

    With `onwards`, those that can hold a key like one of them or with a greater last column.
    """
    for name in key:
        if f"min.{name}" in files.columns:
            low, high = frame[name].min(), frame[name].max()
            unknown = pl.col(f"min.{name}").is_null() | pl.col(f"max.{name}").is_null()
            inside = pl.col(f"max.{name}") >= pl.lit(low)
            if not (onwards and name == key[-1]):
                inside &= pl.col(f"min.{name}") <= pl.lit(high)
            files = files.filter(unknown | inside)
    if len(key) < 2 or files.is_empty() or not all(f"min.{name}" in files.columns for name in key):
        return files["path"].to_list() if len(files) else []
    # Series by series: readings of today and one of last year do not touch all files between.
    first, *rest = key
    limits = [
        limit for name in rest for limit in (pl.col(name).min().alias(f"<{name}"), pl.col(name).max().alias(f">{name}"))
    ]
    boxes = frame.group_by(first).agg(limits)
    if onwards:
        boxes = boxes.with_columns(pl.lit(files[f"max.{key[-1]}"].max()).alias(f">{key[-1]}"))
    return [file["path"] for file in files.iter_rows(named=True) if _meets(boxes, file, first, rest)]


def _meets(boxes: pl.DataFrame, file: dict[str, Any], first: str, rest: Sequence[str]) -> bool:
    if any(file[f"{limit}.{name}"] is None for name in (first, *rest) for limit in ("min", "max")):
        return True
    inside = pl.col(first).is_between(pl.lit(file[f"min.{first}"]), pl.lit(file[f"max.{first}"]))
    for name in rest:
        inside &= (pl.col(f">{name}") >= pl.lit(file[f"min.{name}"])) & (
            pl.col(f"<{name}") <= pl.lit(file[f"max.{name}"])
        )
    return not boxes.filter(inside).is_empty()


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
    return [_write_one(root, part, key, options, data_change) for part in _parts(frame, key)]


def _parts(frame: pl.DataFrame, key: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Pieces of about `ROWS_PER_FILE` rows, cut in time, so that rows of any one time are in few of them."""
    count = round(len(frame) / ROWS_PER_FILE)
    pieces = [frame]
    if count > 1 and len(key) == 2:
        column = pl.col(key[1])
        times = frame[key[1]].sort()
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
