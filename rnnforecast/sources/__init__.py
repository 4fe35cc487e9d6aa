"""Where rows come from: one file per kind of source, each obeying `Source`."""

from rnnforecast.config import DatasetSource, FileSource, Pipeline
from rnnforecast.sources.base import Batch, Cursor, Source, SourceError
from rnnforecast.sources.dataset import DatasetReader
from rnnforecast.sources.file import FileReader

__all__ = ["Batch", "Cursor", "Source", "SourceError", "open_source"]


def open_source(pipeline: Pipeline, source: FileSource | DatasetSource) -> Source:
    """The reader of one of the pipeline's sources; nothing is read yet."""
    if isinstance(source, FileSource):
        return FileReader(pipeline, source)
    return DatasetReader(pipeline, source)
