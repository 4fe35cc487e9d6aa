"""What a search draws: choices from the space as a network and a training, and what comes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import optuna

from rnnforecast.config import (
    Backtest,
    Candidate,
    ConfigError,
    Parts,
    Range,
    Training,
    checked,
    refusals_of_task,
)
from rnnforecast.config_rules import spell
from rnnforecast.config_search import whole
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.task import Task
from rnnforecast.windows import Split, WindowError, rolling, steps_between

FINISHED, FAILED, REFUSED, RUNNING = "finished", "failed", "refused", "running"
DIGITS: Final = 3  # of a number drawn from a range, so that it can be written down


@dataclass(frozen=True)
class Ground:
    """What every trial of a search is trained and judged on."""

    task: Task
    panel: Panel
    parts: Split
    training: Training
    backtest: Backtest

    @property
    def cutoffs(self) -> Cutoffs:
        """The rolling origins of the validation span. Raises WindowError where no series has one."""
        horizon = self.task.horizon
        stride = steps_between(self.backtest.stride, horizon)
        found = rolling(self.parts.train_end, self.parts.valid_end, horizon, stride)
        if len(found) == 0:
            raise WindowError(
                f"search: no series has {horizon} steps (the horizon) in the validation span; lengthen validation_steps"
            )
        return found


@dataclass(frozen=True)
class Trial:
    """One draw: the network and the training that it makes (none where refused), and what came of it."""

    number: int
    choices: Mapping[str, Any]
    candidate: Candidate | None = None
    training: Training | None = None
    state: str = RUNNING
    value: float | None = None  # of the deciding metric on the validation span; lower is better
    scores: Mapping[str, float | None] = field(default_factory=dict)
    reason: str = ""  # why it was refused, or how it failed
    seconds: float = 0.0
    history: Sequence[Mapping[str, float]] = ()  # of its training; the journal does not keep it


@dataclass(frozen=True)
class Question:
    """What is searched: the candidate, what is tried for its keys, on what ground."""

    candidate: Candidate
    space: Mapping[str, tuple[Any, ...] | Range]
    ground: Ground
    cutoffs: Cutoffs


def suggest(asked: optuna.Trial, key: str, values: tuple[Any, ...] | Range) -> None:
    """Let optuna draw a key's value; those of a list stand for themselves as words, for optuna keeps no lists."""
    if not isinstance(values, Range):
        asked.suggest_categorical(key, list(dict.fromkeys(map(spell, values))))
    elif whole(key):
        asked.suggest_int(key, int(values.low), int(values.high), log=values.log)
    else:
        asked.suggest_float(key, values.low, values.high, log=values.log)


def _choices(params: Mapping[str, Any], question: Question) -> dict[str, Any]:
    """What optuna drew, as values of the pipeline file."""
    found = {}
    for key, values in question.space.items():
        drawn = params[key]
        if not isinstance(values, Range):
            found[key] = next(value for value in values if spell(value) == drawn)
        elif whole(key):
            found[key] = drawn
        else:
            found[key] = min(max(float(f"{drawn:.{DIGITS}g}"), values.low), values.high)
    return found


def as_it_stands(question: Question) -> dict[str, Any]:
    """The candidate's own choices in optuna's words; nothing where the space does not have them."""
    found: dict[str, Any] = {}
    trained = question.candidate.trained_by(question.ground.training)
    for key, values in question.space.items():
        value = getattr(question.candidate if key in Parts.model_fields else trained, key)
        if not isinstance(values, Range):
            same = [spell(each) for each in values if each == value]
            if not same:
                return {}
            found[key] = same[0]
        elif isinstance(value, int | float) and values.low <= value <= values.high:
            found[key] = value
        else:
            return {}
    return found


def made(number: int, params: Mapping[str, Any], question: Question) -> Trial:
    """The trial that was drawn: running, or refused where its choices do not go together."""
    choices, ground = _choices(params, question), question.ground
    of_network = {key: value for key, value in choices.items() if key in Parts.model_fields}
    of_training = {key: value for key, value in choices.items() if key not in Parts.model_fields}
    try:
        candidate = checked(Candidate, question.candidate.model_dump() | of_network)
        if lines := refusals_of_task(candidate, ground.task.static):
            raise ConfigError("\n".join(lines))
        trained = checked(Training, ground.training.model_dump(exclude_unset=True) | of_training)
    except ConfigError as error:
        return Trial(number, choices, state=REFUSED, reason=str(error))
    return Trial(number, choices, candidate, trained)
