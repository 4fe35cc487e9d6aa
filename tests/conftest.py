"""What every test may use: real data beside the checkout, small pipelines in a temporary project."""

import signal
from pathlib import Path

import pytest
import torch

# A suite that was begun in the background ignores Ctrl+C, and so would the processes that its tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the networks here are tiny: a second thread costs more than it brings
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared():
    """A function from a name such as 'raw/wti_daily.csv' to its path; skips, naming the file, where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs the shared data file {name}, which is not beside this checkout")
        return path

    return find


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    """What one test took from the environment is not hidden in the next one's messages."""
    monkeypatch.setattr("rnnforecast.secrets._known", {})
