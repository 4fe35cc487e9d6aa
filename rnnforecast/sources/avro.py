"""Avro values of messages, by schema files: a registry is not asked.

Three ways to write them: with the five bytes that a schema registry's clients put before them (`confluent`), with
the standard's ten (`single_object`), or bare (`none`). Nothing is read by a schema it was not written with: the
mark before the value must be the file's, and every byte must be used.
"""

import base64
import io
import json
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import fastavro
import polars as pl
from fastavro.schema import fingerprint, to_parsing_canonical_form

from rnnforecast.config import KafkaSource, Pipeline
from rnnforecast.sources.base import TIME, SourceError
from rnnforecast.sources.json_objects import PLACE, Objects
from rnnforecast.sources.rows import one_line

CONFLUENT: Final = b"\x00"
SINGLE: Final = b"\xc3\x01"
PLAIN: Final[dict[str, pl.DataType]] = {
    "int": pl.Int64(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
}
LOGICAL: Final[dict[str, pl.DataType]] = {
    "timestamp-millis": TIME,
    "timestamp-micros": TIME,
    "local-timestamp-millis": pl.Datetime("us"),
    "local-timestamp-micros": pl.Datetime("us"),
    "date": pl.Date(),
}
Schema = dict[str, Any]


class AvroValues:
    """Decodes values; `known` is the number of the schema in a registry, once a message has told it."""

    def __init__(self, pipeline: Pipeline, source: KafkaSource) -> None:
        files = source.avro_schema
        if not files:
            raise SourceError("avro_schema: format `avro` needs the schema; name its file under `avro_schema:`")
        self._framing = source.avro_framing
        if isinstance(files, dict) and self._framing != "confluent":
            raise SourceError(f"avro_schema: framing `{self._framing}` has no schema numbers; name one file")
        self._schemas = {
            number: _load(pipeline, path)
            for number, path in (files.items() if isinstance(files, dict) else [(-1, files)])
        }
        self._file = None if isinstance(files, dict) else files
        self.known: int | None = None
        forms = {number: to_parsing_canonical_form(schema) for number, schema in self._schemas.items()}
        self.decisive: list[Any] = [self._framing, forms]
        # The standard has the mark's lowest byte first.
        self._mark = SINGLE + (bytes.fromhex(fingerprint(forms[-1], "CRC-64-AVRO")) if self._file else b"")

    def __call__(self, values: pl.Series) -> Objects:
        """Read each of the values (Binary, no nulls) as a record; columns are typed as their schema says."""
        records: list[Schema] = []
        places: list[int] = []
        wrong: dict[int, str] = {}
        for place, value in enumerate(values):
            try:
                records.append(self._record(value))
                places.append(place)
            except UnreadableError as error:
                wrong[place] = str(error)
            except Exception as error:  # fastavro raises whatever the bytes lead it to
                wrong[place] = f"expected Avro of the schema; found none ({type(error).__name__}: {one_line(error)})"
        columns = {name: make(records, name) for name, make in self._columns().items()}
        return Objects(pl.DataFrame({PLACE: pl.Series(places, dtype=pl.Int64), **columns}), wrong)

    def _record(self, value: bytes) -> Schema:
        schema, start = self._framed(value)
        data = io.BytesIO(value)
        data.seek(start)
        record = fastavro.schemaless_reader(data, schema, None)
        if data.tell() != len(value):
            raise UnreadableError(f"expected {data.tell()} bytes by the schema; found {len(value)}")
        return record  # type: ignore[return-value]

    def _framed(self, value: bytes) -> tuple[Schema, int]:
        """The schema of a value, and where its datum begins."""
        if self._framing == "none":
            return self._schemas[-1], 0
        if self._framing == "single_object":
            if value[:10] != self._mark:
                raise UnreadableError(f"expected the mark {self._mark.hex()} of the schema; found {value[:10].hex()}")
            return self._schemas[-1], 10
        if value[:1] != CONFLUENT or len(value) < 5:
            raise UnreadableError(
                f"expected a zero byte and the number of a schema; found {value[:5].hex() or 'nothing'}"
            )
        number = int.from_bytes(value[1:5], "big")
        if self._file is None:
            if number not in self._schemas:
                raise UnreadableError(f"written with schema {number}; add its file under `avro_schema:`")
            return self._schemas[number], 5
        self.known = number if self.known is None else self.known
        if number != self.known:
            raise UnreadableError(
                f"written with schema {number}; {self._file} is taken for {self.known}, the first there was; "
                f"give each its file, as `avro_schema: {{{self.known}: {self._file}, {number}: ...}}`"
            )
        return self._schemas[-1], 5

    def _columns(self) -> dict[str, Callable[[list[Schema], str], pl.Series]]:
        """How to make a column of each field; one that schemas have with several types becomes text."""
        made: dict[str, Callable[[list[Schema], str], pl.Series]] = {}
        types: dict[str, Any] = {}
        for schema in self._schemas.values():
            for field in schema["fields"]:
                name, dtype = field["name"], _dtype(field["type"])
                same = types.setdefault(name, dtype) == dtype
                made[name] = _typed(dtype) if same and dtype is not None else _texts
        return {name: make for name, make in made.items() if not name.startswith("#")}


class UnreadableError(ValueError):
    """A value that is not what the schema says."""


def _load(pipeline: Pipeline, path: str) -> Schema:
    try:
        schema = fastavro.parse_schema(json.loads(Path(pipeline.resolve(path)).read_text(encoding="utf-8")))
    except OSError as error:
        raise SourceError(f"{path}: the Avro schema cannot be read ({error.strerror}); check `avro_schema:`") from None
    except Exception as error:  # fastavro raises several kinds
        raise SourceError(f"{path}: not an Avro schema ({one_line(error)}); check `avro_schema:`") from None
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise SourceError(f"{path}: expected the schema of a record, whose fields are columns; found another type")
    return schema


def _dtype(kind: Any) -> pl.DataType | None:
    """The type of a column, None where it is kept as text."""
    if isinstance(kind, list):
        some = [each for each in kind if each != "null"]
        return _dtype(some[0]) if len(some) == 1 else None
    if isinstance(kind, dict):
        return LOGICAL.get(kind["logicalType"]) if "logicalType" in kind else _dtype(kind["type"])
    return PLAIN.get(kind) if isinstance(kind, str) else None


def _typed(dtype: pl.DataType) -> Callable[[list[Schema], str], pl.Series]:
    return lambda records, name: pl.Series(name, [record.get(name) for record in records], dtype=dtype)


def _texts(records: list[Schema], name: str) -> pl.Series:
    return pl.Series(name, [_text(record.get(name)) for record in records], dtype=pl.String)


def _text(value: Any) -> str | None:
    """A value without a type of ours: as it is written, nested ones as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=_text)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)
