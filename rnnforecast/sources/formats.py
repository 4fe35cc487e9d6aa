"""What a file is written in, told from its name, and whole files read at once."""

import io

import polars as pl

from rnnforecast.sources.base import ROW as ROW
from rnnforecast.sources.base import SourceError
from rnnforecast.sources.csv_rows import read_csv as read_csv
from rnnforecast.sources.json_rows import read_jsonl as read_jsonl
from rnnforecast.sources.rows import NothingYet, one_line
from rnnforecast.sources.rows import Rows as Rows
from rnnforecast.sources.rows import decode as decode

PACKED = (".gz", ".zst", ".bz2", ".xz")
FORMATS = {
    "csv": "csv", "tsv": "csv", "txt": "csv", "dat": "csv", "parquet": "parquet", "pq": "parquet",
    "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl",
    "arrow": "arrow", "arrows": "arrow", "feather": "arrow", "ipc": "arrow",
}  # fmt: skip


def known_format(name: str) -> str | None:
    """csv, parquet, jsonl or arrow, told from a file's name (without what says that it is compressed)."""
    lowered = name.lower()
    packed = next((suffix for suffix in PACKED if lowered.endswith(suffix)), "")
    return FORMATS.get(lowered.removesuffix(packed).rsplit(".", 1)[-1])


def suffix_format(name: str) -> str:
    """As `known_format`; a name that says nothing is that of a CSV file."""
    return known_format(name) or "csv"


def read_parquet(data: bytes, *, name: str) -> Rows:
    """All rows of a Parquet file, typed as they are."""
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except (Exception, pl.exceptions.PanicException) as error:
        raise SourceError(f"{name}: not a Parquet file ({one_line(error)}); set `format:` to what it is") from None
    if frame.is_empty():
        raise NothingYet(f"{name}: no rows: the Parquet file holds columns only; check what wrote it")
    return Rows(frame.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64)))
