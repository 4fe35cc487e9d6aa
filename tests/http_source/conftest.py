"""What the tests of this folder share."""

import pytest
import yaml
from http_reading import QUICK

from rnnforecast.config import parse
from rnnforecast.sources import open_source


@pytest.fixture
def built(tmp_path):
    """A function from a source's keys to a pipeline that has it."""

    def make(url, pipeline=None, **keys):
        source = {"kind": "http", "url": url, "columns": {"timestamp": "time", "target": "value"}, **QUICK, **keys}
        mapping = {"name": "p", "horizon": 1, "sources": [source]} | (pipeline or {})
        return parse(yaml.safe_dump(mapping), file=tmp_path / "p.yaml")

    return make


@pytest.fixture
def opened(built):
    """A function from a source's keys to its reader."""

    def make(url, **keys):
        pipeline = built(url, **keys)
        return open_source(pipeline, pipeline.sources[0])

    return make
