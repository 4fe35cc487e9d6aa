"""The trials of a search in optuna's study: kept in a journal, so that a search that was killed goes on."""

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

TOLD: Final = "told"  # state and value of a trial that came to an end; one without was killed
REPEATS: Final = "repeats"  # the number of the trial that made the same choices


class SearchError(ValueError):
    """A search that cannot be done, or found nothing; the message says why."""


@contextmanager
def alone(journal: Path | None) -> Iterator[None]:
    """Hold the journal against a second search; the lock ends with the process, however it ends."""
    if journal is None:
        yield
        return
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SearchError(f"{journal}: another process is at this search; wait for it, or stop it") from None
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna's log is for its own users; ours have a line for each trial."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def study_of(journal: Path | None) -> optuna.Study:
    """The study of a journal, made if it is not there; what a killed process left running is told FAILED."""
    storage = JournalStorage(JournalFileBackend(str(journal))) if journal else None
    study = optuna.create_study(storage=storage, study_name="search", direction="minimize", load_if_exists=True)
    for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        state, value = left.user_attrs.get(TOLD, (TrialState.FAIL.name, None))
        study.tell(left.number, value, state=TrialState[state])
    return study


def tell(
    study: optuna.Study, asked: optuna.Trial, state: TrialState, value: float | None, facts: Mapping[str, Any]
) -> None:
    """End a trial, with facts (JSON-able) about it; who is killed in here leaves it ended or running, not between."""
    for name, fact in {**facts, TOLD: (state.name, value)}.items():
        asked.set_user_attr(name, fact)
    study.tell(asked, value, state=state)


def told(study: optuna.Study) -> list[FrozenTrial]:
    """All trials that came to an end, oldest first."""
    return [each for each in study.get_trials(deepcopy=False) if each.state.is_finished() and TOLD in each.user_attrs]


def _is_new_network(trial: FrozenTrial) -> bool:
    return trial.state != TrialState.PRUNED and REPEATS not in trial.user_attrs


def trained(told: Sequence[FrozenTrial]) -> int:
    """How many networks were trained."""
    return sum(map(_is_new_network, told))


def in_vain(told: Sequence[FrozenTrial]) -> int:
    """How many draws in a row, up to now, gave no network to train."""
    return len(list(takewhile(lambda trial: not _is_new_network(trial), reversed(told))))
