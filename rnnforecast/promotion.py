"""Who serves: the alias `champion` moves only to a model that is strictly better on the same cutoffs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlflow import MlflowClient

from rnnforecast.backtest import decisive
from rnnforecast.combination import SAFER, chosen_by
from rnnforecast.config import Pipeline
from rnnforecast.registry import CHAMPION, DECISION_TAG, Logged, aliases
from rnnforecast.store import RegistryError, client, hidden

CHALLENGER: Final = "challenger"
PREVIOUS: Final = "previous"
FORGIVEN: Final = f"{100 * SAFER:.0f} %"


@dataclass(frozen=True)
class Decision:
    """What a promotion decided, and why in a sentence with numbers."""

    champion_version: str
    challenger_version: str | None
    promoted: bool
    reason: str


def promote(
    pipeline: Pipeline, logged: Sequence[Logged], *, champion_row: Mapping[str, Any] | None, cutoffs: int
) -> Decision:
    """Let the best of `logged` contend with the present champion, on `pipeline.backtest.metric`.

    `champion_row`: the leaderboard row of the present champion (`registry.champion(pipeline).model`) scored on
    today's cutoffs, the same `cutoffs` that the contenders were scored on; None where there is no champion, or
    where it can no longer be scored (other horizon, other covariates): then the contender takes over and the
    reason says so. Strictly better wins alias `champion` (the former one becomes `previous`); otherwise the
    contender gets alias `challenger`. A combination that is 5 % behind at most counts as better. The sentence is
    kept as tag `decision` of the version and of its run.

    Raises RegistryError if `logged` is empty.
    """
    if not logged:
        raise RegistryError(f"{pipeline.name}: no candidate was logged, so none can be promoted; train at least one")
    metric = decisive(pipeline.backtest.metric, (entry.row.get(pipeline.backtest.metric) for entry in logged))
    best = min(logged, key=lambda entry: chosen_by(entry.kind, _score(entry.row, metric)))
    store = client(pipeline)
    former = aliases(pipeline).get(CHAMPION)
    present = _present(
        store, pipeline.name, former, score=None if champion_row is None else _score(champion_row, metric)
    )
    on = f"on the same {cutoffs} cutoff{'s' if cutoffs != 1 else ''}"
    promoted, reason = _judge(best, logged, present, metric=metric, on=on)
    if promoted:
        _crown(store, pipeline.name, best.version, former)
    else:
        store.set_registered_model_alias(pipeline.name, CHALLENGER, best.version)
    store.set_model_version_tag(pipeline.name, best.version, DECISION_TAG, reason)
    store.update_model_version(pipeline.name, best.version, description=reason)
    store.set_tag(best.run_id, DECISION_TAG, reason)
    store.set_tag(best.run_id, "mlflow.note.content", reason)  # the description on the run's page
    champion = best.version if promoted or former is None else former
    return Decision(champion, None if promoted else best.version, promoted, reason)


def rollback(pipeline: Pipeline) -> Decision:
    """Put the former champion back: `previous` becomes `champion` and the other way round.

    Raises RegistryError if there is no previous champion.
    """
    names = aliases(pipeline)
    present, previous = names.get(CHAMPION), names.get(PREVIOUS)
    if present is None or previous is None or present == previous:
        raise RegistryError(
            f"{hidden(pipeline.mlflow_uri)}: {pipeline.name} has no previous champion to go back to "
            f"(champion: {'version ' + present if present else 'none'}); its versions are in the registry"
        )
    store = client(pipeline)
    _crown(store, pipeline.name, previous, present)
    reason = f"rolled back by hand: v{previous} serves again in place of v{present}"
    store.set_model_version_tag(pipeline.name, previous, DECISION_TAG, reason)
    return Decision(previous, None, True, reason)


@dataclass(frozen=True)
class _Present:
    """The champion of now: what it is called, what it is, and its score on today's cutoffs, if it could be scored."""

    name: str
    kind: str
    score: float | None


def _present(store: MlflowClient, name: str, version: str | None, *, score: float | None) -> _Present | None:
    if version is None:
        return None
    tags = store.get_model_version(name, version).tags
    return _Present(f"champion v{version} {tags.get('candidate', '')}".strip(), tags.get("kind", ""), score)


def _judge(
    best: Logged, rivals: Sequence[Logged], present: _Present | None, *, metric: str, on: str
) -> tuple[bool, str]:
    """Whether the best takes the alias, and the sentence that says why."""
    score = _score(best.row, metric)
    plainly = ""
    if best.kind == "baseline":
        networks = any(rival.kind == "network" for rival in rivals)
        plainly = " (a baseline: no network did better)" if networks else " (a baseline)"
    if present is None or present.score is None:
        why = "the first champion" if present is None else f"takes over from {present.name}, which cannot be scored now"
        least = min(_score(rival.row, metric) for rival in rivals)
        place = "the best" if score <= least else f"within {FORGIVEN} of the best, {least:.4g},"
        return True, f"{best.label}: {metric} {score:.4g} is {place} of {len(rivals)} {on}; {why}{plainly}"
    ours, theirs = _apart(score, present.score)
    promoted = chosen_by(best.kind, score) < chosen_by(present.kind, present.score)
    verb = "beats" if promoted else "does not beat"
    if promoted and score >= present.score:
        verb, plainly = "takes over from", f" (a combination is chosen where it is within {FORGIVEN})"
    return promoted, f"{best.label}: {metric} {ours} {verb} {present.name} {theirs} {on}{plainly}"


def _apart(ours: float, theirs: float) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart."""
    for digits in range(4, 18):
        shown = f"{ours:.{digits}g}", f"{theirs:.{digits}g}"
        if shown[0] != shown[1] or ours == theirs:
            break
    return shown


def _crown(store: MlflowClient, name: str, version: str, former: str | None) -> None:
    """Move `champion` in one step; a kill between the steps leaves a champion and a way back."""
    if former is not None and former != version:
        store.set_registered_model_alias(name, PREVIOUS, former)
    store.set_registered_model_alias(name, CHAMPION, version)
    if CHALLENGER in store.get_registered_model(name).aliases:
        store.delete_registered_model_alias(name, CHALLENGER)


def _score(row: Mapping[str, Any], metric: str) -> float:
    """The metric, where less is better; what could not be computed loses to everything."""
    value = row.get(metric)
    return math.inf if value is None or math.isnan(value) else float(value)
