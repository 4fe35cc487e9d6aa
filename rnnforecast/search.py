"""Search for better choices of one network: optuna draws them, the pipeline's training trains them, the validation
span judges them. The test span is left for the comparison of candidates that a retrain makes.

What is drawn follows from the seed and from what was found before, and from nothing else: two searches on the same
table find the same, and one that was killed goes on to what it would have found. Nothing is stopped half-way by its
validation loss: the losses of different heads are different quantities, only forecasts can be compared.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from rnnforecast import __version__, backtest, metrics, search_journal, training
from rnnforecast.columns import MEDIAN
from rnnforecast.config import Candidate, Pipeline, Search
from rnnforecast.search_journal import REPEATS, SearchError
from rnnforecast.search_trial import (
    FAILED,
    FINISHED,
    REFUSED,
    RUNNING,
    Ground,
    Question,
    Trial,
    as_it_stands,
    made,
    suggest,
)
from rnnforecast.windows import Split

STATES: Final = {FINISHED: TrialState.COMPLETE, FAILED: TrialState.FAIL, REFUSED: TrialState.PRUNED}
IN_VAIN: Final = 100  # draws in a row that gave nothing new to train: the space is used up
SEEDS: Final = 2**32

# Entered with a trial when it begins, called with it when it has ended; an exception inside means: stopped.
Watch = Callable[[Trial], AbstractContextManager[Callable[[Trial], None]]]


@contextmanager
def unwatched(trial: Trial) -> Iterator[Callable[[Trial], None]]:
    """Nobody looks on."""
    yield lambda ended: None


@dataclass(frozen=True)
class Found:
    """What a search found: all trials, best first, those that failed or were refused last."""

    trials: list[Trial]
    metric: str
    is_used_up: bool  # the space holds nothing else to try

    @property
    def best(self) -> Trial:
        return self.trials[0]

    def count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)


def search(
    plan: Search, candidate: Candidate, *, ground: Ground, journal: Path | None = None, watch: Watch = unwatched
) -> Found:
    """Try choices for `candidate` until `plan.trials` networks were trained, the time is up, or nothing is left to try.

    The first trial is the candidate as it stands, where the space has it. Choices that do not go together are refused
    before any training and do not count among `plan.trials`; a training that raises has failed, and counts. `journal`:
    a file that keeps the trials (optuna's journal storage); a search that was killed goes on from there, the trial
    that was running is told FAILED and drawn again. Raises WindowError; SearchError where no trial came to a score, or
    where another process is searching by the same journal.
    """
    question = Question(candidate, plan.of(candidate), ground, ground.cutoffs)
    end = time.monotonic() + (plan.max_seconds or math.inf)
    with search_journal.alone(journal), search_journal.quiet():
        study = search_journal.study_of(journal)
        told = search_journal.told(study)
        if not told and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial(as_it_stands(question))
        while search_journal.trained(told) < plan.trials and search_journal.in_vain(told) < IN_VAIN:
            if search_journal.trained(told) and time.monotonic() >= end:
                break
            _next(study, told, question, watch)
            told = search_journal.told(study)
    trials = [_read(each, question) for each in told if REPEATS not in each.user_attrs]
    return _found(trials, ground.backtest.metric, is_used_up=search_journal.in_vain(told) >= IN_VAIN)


def is_over(plan: Search, journal: Path) -> bool:
    """Whether a journal holds all that `search` would do."""
    if not journal.exists():
        return False
    with search_journal.alone(journal), search_journal.quiet():
        told = search_journal.told(search_journal.study_of(journal))
    return search_journal.trained(told) >= plan.trials or search_journal.in_vain(told) >= IN_VAIN


def key(pipeline: Pipeline, candidate: Candidate, table_digest: str) -> str:
    """What decides the trials of a search: the rows, the candidate, its space, the settings, the library's version."""
    aside = {"storage", "schedules", "description", "project", "sources", "search", "models", "name"}
    settings = json.loads(pipeline.model_dump_json(exclude=aside))
    tried = json.loads(Search(space=pipeline.search.of(candidate)).model_dump_json())["space"]
    decides = json.dumps([settings, candidate.model_dump(mode="json"), tried], sort_keys=True)
    return f"{table_digest}-{hashlib.sha256(decides.encode()).hexdigest()[:16]}-{__version__}"


def _next(study: optuna.Study, told: Sequence[FrozenTrial], question: Question, watch: Watch) -> None:
    """Draw, train, judge, and tell the study what came of it."""
    seed = (question.ground.training.seed * 1_000_003 + len(told)) % SEEDS
    # After a draw in vain the next is at random: what was learned so far would lead to the same place again.
    study.sampler = RandomSampler(seed) if search_journal.in_vain(told) else TPESampler(seed=seed, constant_liar=False)
    asked = study.ask()
    for key, values in question.space.items():
        suggest(asked, key, values)
    same = next((each for each in told if each.params == asked.params), None)
    if same is not None:
        search_journal.tell(study, asked, same.state, same.value, {REPEATS: same.number})
        return
    trial = made(asked.number, asked.params, question)
    with watch(trial) as ended:
        if trial.state == RUNNING:
            trial = _judged(trial, question)
        ended(trial)
    facts = {"reason": trial.reason, "seconds": trial.seconds, "scores": dict(trial.scores)}
    search_journal.tell(study, asked, STATES[trial.state], trial.value, facts)


def _judged(trial: Trial, question: Question) -> Trial:
    """Train the network of a trial on the training span, and score its forecasts on the validation span."""
    ground, started = question.ground, time.monotonic()
    task, panel, parts = ground.task, ground.panel, ground.parts
    assert trial.candidate is not None
    assert trial.training is not None
    try:
        learned = parts if trial.candidate.trained_by(trial.training).holdout else _without_its_end(parts)
        trained = training.fit(task, trial.candidate, panel, learned, training=trial.training, progress=False)
        result = backtest.run(trained.model, panel, question.cutoffs, label=trial.candidate.label)
        if not result.scored[MEDIAN].is_finite().all():
            raise SearchError("its forecasts are not finite: the training diverged")
        series = backtest.by_series([result], panel, parts.train_end, season_length=task.season_length)
        scores = metrics.overall(result.scored, series)
        metric = backtest.decisive(ground.backtest.metric, [scores[ground.backtest.metric]])
        if scores[metric] is None:
            raise SearchError("there is no reading in the validation span to score it against")
    except Exception as error:  # whatever it is, it is this trial's, and the search goes on
        reason = str(error) or type(error).__name__
        return replace(trial, state=FAILED, reason=reason, seconds=round(time.monotonic() - started, 2))
    seconds = round(time.monotonic() - started, 2)
    ended = replace(trial, state=FINISHED, value=scores[metric], scores=scores, seconds=seconds)
    return replace(ended, history=trained.history)


def _without_its_end(parts: Split) -> Split:
    """The split one span earlier, for a training that learns from its validation span: it is judged on the next."""
    earlier = (2 * parts.train_end - parts.valid_end).clamp(min=0)
    return Split(earlier, parts.train_end, parts.valid_end)


def _read(told: FrozenTrial, question: Question) -> Trial:
    """A trial as the journal has it."""
    trial, facts = made(told.number, told.params, question), told.user_attrs
    state = next(name for name, each in STATES.items() if each == told.state)
    kept = {name: facts[name] for name in ("reason", "seconds", "scores")}
    return replace(trial, state=state, value=told.value if state == FINISHED else None, **kept)


def _found(trials: Sequence[Trial], metric: str, *, is_used_up: bool) -> Found:
    order = (FINISHED, FAILED, REFUSED)
    ranked = sorted(trials, key=lambda trial: (order.index(trial.state), trial.value or 0.0, trial.number))
    if not ranked or ranked[0].state != FINISHED:
        said = ranked[0].reason.splitlines()[0] if ranked else "nothing was drawn"
        failed = sum(trial.state == FAILED for trial in ranked)
        raise SearchError(
            f"search: none of {len(ranked)} draws came to a score ({failed} failed, {len(ranked) - failed} refused); "
            f"the first: {said}"
        )
    decided = backtest.decisive(metric, [ranked[0].scores[metric]])
    return Found(ranked, decided, is_used_up)
