"""What runs in the processes that test_kills.py kills: one ingest of a pipeline file, in many small commits."""

import rnnforecast.ingest
import rnnforecast.sources.file
import rnnforecast.sources.kafka
import rnnforecast.sources.sql
from rnnforecast import config

ROWS_PER_COMMIT = 150


def ingest(file):
    """Bring the table of a pipeline file up to date, storing as often as it can."""
    rnnforecast.ingest.ROWS_PER_COMMIT = ROWS_PER_COMMIT
    return rnnforecast.ingest.ingest(config.load(file))
