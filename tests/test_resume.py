"""A training that was stopped anywhere and started again is the training that never stopped."""

import signal
import subprocess
import sys
import tempfile
import textwrap
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import torch
from builders import task, waves
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast import training, windows
from rnnforecast.config import Candidate, Training
from rnnforecast.fitted import FittedError
from rnnforecast.panel import Panel
from rnnforecast.training_checkpoints import BEST, LAST

STEPS = 17
SETTINGS = Training(
    max_steps=STEPS, validate_every=5, batch_size=4, segment_length=20, learning_rate=1e-2, accelerator="cpu"
)
SMALL = {"hidden_size": 5}
CASES = {
    "one pass with carry": ({"model": "gru"}, {"carry": 0.9}),
    "no average": ({"model": "gru"}, {"ema_decay": 0.0}),
    "dropout": ({"model": "lstm", "num_layers": 2, "dropout": 0.5}, {}),
    "teacher forcing": ({"model": "seq2seq", "teacher_forcing_ratio": 0.7}, {"cutoffs_per_segment": 3}),
    "window": ({"model": "gru", "context_length": 24}, {"batch_size": 16, "validate_every": 4}),
    "early stopping": ({"model": "gru"}, {"learning_rate": 1e-7, "patience": 2, "validate_every": 2}),
    "rate that was found": ({"model": "gru"}, {"learning_rate": "auto"}),
    "point head": ({"model": "gru", "head": "point", "embedding_size": 2, "start": "learned"}, {}),
}


class KilledError(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def _short_range_test():
    with mock.patch("rnnforecast.training_rate.STEPS", 20):
        yield


@cache
def panel():
    return Panel.from_frame(waves((90, 70)), "1h")


def fit(name, folder=None, **changes):
    parts, how = CASES[name]
    observed = changes.pop("panel", panel())
    candidate = Candidate(**{**SMALL, **parts, **{key: changes.pop(key) for key in tuple(changes) if key == "cell"}})
    chosen = SETTINGS.model_copy(update={**how, **changes})
    divided = windows.split(observed, 18, 18)
    return training.fit(
        task(), candidate, observed, divided, training=chosen, progress=False, checkpoints=folder and Path(folder)
    )


@cache
def straight(name):
    return fit(name)


def killed_at(what, number, error=KilledError):
    """Raise in the `number`th optimiser step or writing of a file (its draft is there, its name is not)."""
    calls = 0
    owner, method = (torch.optim.AdamW, "step") if what == "step" else (Path, "replace")
    usual = getattr(owner, method)

    def patched(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        return usual(self, *args, **kwargs)

    return mock.patch.object(owner, method, patched)


def assert_same(found, expected):
    ours, theirs = found.model.network.state_dict(), expected.model.network.state_dict()
    assert {name: torch.equal(ours[name], theirs[name]) for name in theirs} == dict.fromkeys(theirs, True)
    assert found.history == expected.history
    assert found.best_validation == expected.best_validation


@pytest.mark.parametrize("name", CASES)
@settings(deadline=None, max_examples=3, derandomize=True)
@given(stops=st.lists(st.tuples(st.sampled_from(["step", "write"]), st.integers(1, STEPS)), min_size=1, max_size=3))
def test_a_training_stopped_at_random_and_started_again_ends_as_one_that_never_stopped(name, stops):
    with tempfile.TemporaryDirectory() as folder:
        for stop in stops:
            with killed_at(*stop):
                try:
                    fit(name, folder)
                except KilledError:
                    continue
                break  # it had come to its end before
        assert_same(fit(name, folder), straight(name))


def test_a_process_that_was_killed_leaves_what_the_next_one_needs(tmp_path):
    """SIGKILL, in the middle of writing the second validation's last.ckpt."""
    code = """
        import os, signal, sys
        sys.path.insert(0, sys.argv[1])
        import pathlib, test_resume, torch
        torch.set_num_threads(1)
        usual, drafts = pathlib.Path.replace, []
        def replace(self, target):
            drafts.append(self)
            self.write_bytes(self.read_bytes()[:1000]) if len(drafts) == 4 else None
            return usual(self, target) if len(drafts) < 4 else os.kill(os.getpid(), signal.SIGKILL)
        pathlib.Path.replace = replace
        test_resume.fit("one pass with carry", sys.argv[2])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(Path(__file__).parent), str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == [f".{LAST}", BEST, LAST]
    assert_same(fit("one pass with carry", tmp_path), straight("one pass with carry"))
    assert sorted(file.name for file in tmp_path.iterdir()) == [BEST, LAST]


def test_a_training_that_had_come_to_its_end_makes_no_further_step(tmp_path):
    assert_same(fit("early stopping", tmp_path), straight("early stopping"))
    with killed_at("step", 1):
        assert_same(fit("early stopping", tmp_path), straight("early stopping"))


def test_files_that_cannot_be_read_are_begun_anew_and_the_log_says_so(tmp_path, caplog):
    with killed_at("step", 12), pytest.raises(KilledError):
        fit("no average", tmp_path)
    (tmp_path / BEST).write_bytes((tmp_path / BEST).read_bytes()[:500])
    assert_same(fit("no average", tmp_path), straight("no average"))
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"learning_rate": 3e-3}, r"learning_rate 0.01 \(now 0.003\)"),
        ({"max_steps": 30}, r"max_steps 17 \(now 30\)"),
        ({"cell": "lstm"}, r"cell gru \(now lstm\)"),
        ({"panel": Panel.from_frame(waves((90, 70), seed=1), "1h")}, r"observations \w+ \(now \w+\)"),
    ],
)
def test_the_checkpoints_of_another_training_are_refused_by_what_differs(tmp_path, changed, reason):
    with killed_at("step", 7), pytest.raises(KilledError):
        fit("no average", tmp_path)
    with pytest.raises(FittedError, match=f"another training: {reason}; choose another folder"):
        fit("no average", tmp_path, **changed)


def test_checkpoints_of_another_program_are_not_written_over(tmp_path):
    for name in (BEST, LAST):
        torch.save({"state_dict": {}, "callbacks": {}}, tmp_path / name)
    with pytest.raises(FittedError, match=r"last.ckpt is not of rnnforecast; choose another folder"):
        fit("no average", tmp_path)


def test_a_training_out_of_time_goes_on_when_it_is_given_more(tmp_path):
    short = fit("no average", tmp_path, max_seconds=1e-6)
    assert [row["step"] for row in short.history if "val_loss" in row] == [1]  # what it came to is validated
    longer = fit("no average", tmp_path, max_seconds=600.0)
    assert longer.history[-1]["step"] == STEPS
    for name, expected in straight("no average").model.network.state_dict().items():
        assert torch.equal(longer.model.network.state_dict()[name], expected)


def test_ctrl_c_interrupts_and_leaves_the_session_as_it_was(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    with killed_at("step", 12, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        fit("no average", tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert_same(fit("no average", tmp_path), straight("no average"))
