"""What the tests of this folder share."""

from contextlib import closing

import pytest
import yaml
from databases import PostgresLab, SqliteLab, postgres
from reading import opener
from sql_reading import COLUMNS, MAKE

from rnnforecast.config import parse


@pytest.fixture(scope="session")
def server():
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request, tmp_path):
    """A database with an empty table `readings`: SQLite, then PostgreSQL."""
    is_sqlite = request.param == "sqlite"
    with closing(SqliteLab(tmp_path) if is_sqlite else PostgresLab(request.getfixturevalue("server"))) as made:
        made.run(MAKE)
        yield made


@pytest.fixture
def sqlite(tmp_path):
    with closing(SqliteLab(tmp_path)) as made:
        made.run(MAKE)
        yield made


@pytest.fixture
def pg(server):
    made = PostgresLab(server)
    made.run(MAKE)
    return made


@pytest.fixture
def built(tmp_path):
    """A function from a uri and a source's keys to a pipeline that has it."""

    def make(uri, pipeline=None, **keys):
        source = {"kind": "sql", "uri": uri, "query": "SELECT * FROM readings", "columns": COLUMNS, **keys}
        mapping = {"name": "p", "horizon": 1, "sources": [source]} | (pipeline or {})
        return parse(yaml.safe_dump(mapping), file=tmp_path / "p.yaml")

    return make


@pytest.fixture
def opened(built):
    """A function from a uri and a source's keys to its reader."""
    return opener(built)
