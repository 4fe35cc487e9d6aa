"""A project folder with files in it, read as a `file` source: the helper of the tests of files."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import yaml

from rnnforecast.config import parse
from rnnforecast.sources import open_source
from rnnforecast.sources.base import ROW
from rnnforecast.sources.file import FileReader

LONG = {"timestamp": "time", "target": "value"}


class Project:
    """Writes files into a folder and reads them: Project(folder).write(a__csv=text).read(timezone=...)."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, **files):
        for name, text in files.items():
            path = self.folder / name.replace("__", ".")
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self

    def append(self, name, text):
        with (self.folder / name).open("a") as file:
            file.write(text)

    def pipeline(self, path="a.csv", columns=LONG, pipeline=None, **keys):
        # A file without a line end is taken at once, unless a test is about waiting for it.
        source = {"kind": "file", "path": path, "columns": columns, "settle": 0, **keys}
        mapping = {"name": "p", "horizon": 1, "sources": [source]}
        return parse(yaml.safe_dump(mapping | (pipeline or {})), file=self.folder / "p.yaml")

    def source(self, sizes=None, **keys):
        parsed = self.pipeline(**keys)
        if sizes:
            return FileReader(parsed, parsed.sources[0], **sizes)
        return open_source(parsed, parsed.sources[0])

    def batches(self, cursor=None, until=None, **keys):
        return list(self.source(**keys).read(json.loads(json.dumps(cursor)), until=until))

    def read(self, cursor=None, until=None, **keys):
        """All batches as one, without the column of rows; None where there is none."""
        batches = self.batches(cursor, until, **keys)
        if not batches:
            return None
        frames = [batch.frame.drop(ROW) for batch in batches]
        return replace(
            batches[-1],
            frame=pl.concat([frame for frame in frames if len(frame)] or frames[:1]),
            rejected=pl.concat([batch.rejected for batch in batches]),
            notes=tuple(note for batch in batches for note in batch.notes),
            changes=tuple(change for batch in batches for change in batch.changes),
        )


def values(batch):
    return batch.frame["target"].to_list()


def times(batch):
    return batch.frame["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S").to_list()


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)
