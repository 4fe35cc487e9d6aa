"""Where rows come from: one file per kind of source, each obeying `Source`."""

from importlib import import_module
from typing import Any, Final, cast

from rnnforecast.config import Pipeline
from rnnforecast.sources.base import Batch, Change, Cursor, Source, SourceError

__all__ = ["Batch", "Change", "Cursor", "Source", "SourceError", "open_source"]

# Kind, which is the module's name too, to reader.
READERS: Final = {
    "file": "FileReader",
    "sql": "SqlReader",
    "http": "HttpReader",
    "kafka": "KafkaReader",
    "mqtt": "MqttReader",
    "dataset": "DatasetReader",
}


def open_source(pipeline: Pipeline, source: Any) -> Source:
    """The reader of one of the pipeline's sources; nothing is read yet.

    Raises SourceError where the kind's client library is not installed.
    """
    try:
        reader = getattr(import_module(f"rnnforecast.sources.{source.kind}"), READERS[source.kind])
    except ImportError as error:
        if (error.name or "").startswith("rnnforecast"):
            raise
        raise SourceError(
            f"source {source.kind}: needs a package that is not installed ({error.name}); "
            f"pip install 'rnnforecast[{source.kind}]'"
        ) from None
    return cast(Source, reader(pipeline, source))
