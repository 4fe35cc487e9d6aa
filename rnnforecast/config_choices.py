"""What combines with what: every choice of every part, and which two of them can stand in one network."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin

from rnnforecast.config_parts import DEFAULTS, Parts
from rnnforecast.config_rules import RULES, Rule

# Fields that take any number have a few values here that stand for all: the default, and one that makes a difference.
NUMBERS: Final[Mapping[str, tuple[Any, ...]]] = {
    "num_layers": (1, 2),
    "dropout": (0.0, 0.1),
    "reader_size": (0, 8),
    "local_size": (0, 8),
    "forget_bias": (0.0, 1.0),
    "context_length": (None, 24),
    "patch_length": (1, 3),
    "lags": ("seasons", "cycles", (1, 2)),
    "embedding_size": (0, 4),
    "attention_length": (48, 12),
    "teacher_forcing_ratio": (0.0, 0.5),
    "sample_paths": (100, 20),
}


def words(name: str) -> tuple[Any, ...]:
    """The words of a field that takes words, its default first; of a number, nothing."""
    annotation = Parts.model_fields[name].annotation
    if annotation is bool:
        return (False, True)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


CHOICES: Final = {name: found for name in DEFAULTS if (found := words(name) or NUMBERS.get(name, ()))}


class Pair(NamedTuple):
    """Two choices: whether they go together in at least one network, and if not, the rules that keep them apart."""

    first: tuple[str, Any]
    second: tuple[str, Any]
    because: tuple[Rule, ...]

    @property
    def allowed(self) -> bool:
        return not self.because


def complete(chosen: Mapping[str, Any], rules: Sequence[Rule] = RULES) -> dict[str, Any] | None:
    """The fewest further choices that make `chosen` an allowed network; None where no choice does.

    A broken rule is mended only by one of its own fields, so a search that changes those alone misses nothing.
    """
    values = DEFAULTS | dict(chosen)
    broken = next((rule for rule in rules if rule.refuses(values)), None)
    if broken is None:
        return dict(chosen)
    free = [(name, value) for name in broken.fields if name not in chosen for value in CHOICES.get(name, ())]
    tries = (complete({**chosen, name: value}, rules) for name, value in free if value != DEFAULTS[name])
    return min((found for found in tries if found is not None), key=len, default=None)


def pairs() -> list[Pair]:
    """Every two choices of two fields, in the order of the fields."""
    found = []
    for first, second in combinations(CHOICES, 2):
        for one in CHOICES[first]:
            for other in CHOICES[second]:
                found.append(Pair((first, one), (second, other), _between({first: one, second: other})))
    return found


def _between(chosen: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The fewest rules that keep these choices apart: each is needed for it; none where the choices go together."""
    if complete(chosen) is not None:
        return ()
    needed = list(RULES)
    for rule in RULES:
        fewer = [other for other in needed if other is not rule]
        if complete(chosen, fewer) is None:
            needed = fewer
    return tuple(needed)
