"""What runs in the processes that test_kills.py kills: one ingest of a pipeline file, in many small commits."""

import multiprocessing
import os
from multiprocessing import forkserver
from pathlib import Path

import pytest

import rnnforecast.ingest
import rnnforecast.sources.file
import rnnforecast.sources.kafka
import rnnforecast.sources.sql
from rnnforecast import config

ROWS_PER_COMMIT = 90


def forks():
    """A context of processes that have all of this imported when they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    with pytest.MonkeyPatch.context() as patch:  # it looks nowhere else for it, and says nothing when it finds none
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()
    return context


def ingest(file, told=None):
    """Bring the table of a pipeline file up to date, storing as often as it can; says so before each time."""
    rnnforecast.ingest.ROWS_PER_COMMIT = ROWS_PER_COMMIT
    store = rnnforecast.ingest.store

    def telling(*arguments, **keys):
        told.send_bytes(b"storing")
        return store(*arguments, **keys)

    if told is not None:
        rnnforecast.ingest.store = telling
    try:
        return rnnforecast.ingest.ingest(config.load(file))
    finally:
        rnnforecast.ingest.store = store
