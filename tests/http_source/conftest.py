"""What the tests of this folder share."""

import pytest
import yaml
from http_reading import QUICK
from reading import opener

from rnnforecast.config import parse


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
    return opener(built)
