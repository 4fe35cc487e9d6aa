"""What a search for better settings may try: values or a range for any key of a network or of its training."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, get_args

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from rnnforecast.config_candidate import PRESETS, TRAININGS, Candidate
from rnnforecast.config_errors import ConfigError, explain, nearest
from rnnforecast.config_parts import Parts
from rnnforecast.config_section import Section
from rnnforecast.config_sections import Training

SEARCHED: Final = "searched"  # what the best of a search is called after its candidate


class Range(Section):
    """Numbers from `low` to `high`, both included."""

    low: float = Field(allow_inf_nan=False, description="Smallest value.")
    high: float = Field(allow_inf_nan=False, description="Largest value.")
    log: bool = Field(False, description="Try orders of magnitude evenly, as a learning rate wants it.")

    @model_validator(mode="after")
    def _ascends(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"expected low below high; found low: {self.low:g}, high: {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"expected low above 0, for log: true; found {self.low:g}")
        return self


def _kind(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "values"


Values = Annotated[
    Annotated[tuple[Any, ...], Field(min_length=1), Tag("values")] | Annotated[Range, Tag("range")],
    Discriminator(_kind),
]


# What is tried where the file names nothing: what matters in most pipelines, no more than 20 trials can tell apart.
SPACE: Final[Mapping[str, tuple[Any, ...] | Range]] = {
    "cell": ("gru", "lstm"),
    "hidden_size": (32, 64, 128),
    "num_layers": (1, 2),
    "decoder": ("direct", "seq2seq"),
    "base": ("naive", "profile"),
    "learning_rate": Range(low=5e-4, high=1e-2, log=True),
}


def _spelt(values: tuple[Any, ...] | Range) -> str:
    if isinstance(values, Range):
        return f"{values.low:g} to {values.high:g}" + (" (log)" if values.log else "")
    return " | ".join(map(str, values))


class Search(Section):
    """A search over the choices of one network, judged on the validation span alone (`rnnforecast search`)."""

    trials: int = Field(20, ge=1, description="Networks trained at most.")
    max_seconds: float | None = Field(None, gt=0, description="No network is begun after so long; absent: no limit.")
    space: dict[str, Values] = Field(
        default_factory=dict,
        description="Key of a network or of training: a list of values, or {low, high, log}. Empty: "
        + "; ".join(f"{key} {_spelt(values)}" for key, values in SPACE.items())
        + "; but not what the candidate itself chooses, by its keys or its preset.",
    )

    def of(self, candidate: Candidate) -> dict[str, tuple[Any, ...] | Range]:
        """What is tried for a candidate: the file's space, or the keys of `SPACE` that the candidate leaves open."""
        defaults = {name: field.default for name, field in Parts.model_fields.items()}
        chosen = {name for name, value in defaults.items() if getattr(candidate, name) != value}
        return dict(self.space) or {key: values for key, values in SPACE.items() if key not in chosen}

    @field_validator("space", mode="after")
    @classmethod
    def _known_keys_and_values(cls, value: dict[str, Any]) -> dict[str, Any]:
        lines = [line for key, values in value.items() for line in _wrong(key, values)]
        if lines:
            raise ValueError("\n".join(lines))
        return value


def network(models: Sequence[Candidate], name: str | None = None) -> Candidate:
    """The candidate that is searched for: the one of this name, or the first network. Raises ConfigError."""
    labels = [each.label for each in models if each.is_network]
    if not labels:
        raise ConfigError("models: no network competes, so there is nothing to search; add one, such as gru")
    if name is not None and name not in labels:
        raise ConfigError(f"models: expected a network, one of {labels}; found {name!r}{nearest(name, labels)}")
    return next(each for each in models if each.label == (name or labels[0]))


def lines(candidate: Candidate, chosen_for_training: Mapping[str, Any]) -> str:
    """What to write into a pipeline file to have this network: an entry of `models:`, the keys of `training:`.

    The entry begins with the candidate's preset or with another that it is, whichever needs fewer keys beside it, and
    has a name of its own, so that it can stand beside the candidate that it came from.
    """
    how = TRAININGS.get(candidate.model)  # another word would train it otherwise
    fitting = [word for word, keys in PRESETS.items() if all(getattr(candidate, k) == v for k, v in keys.items())]
    others = [word for word in fitting if TRAININGS.get(word) == how]
    entries = [_entry(candidate, word) for word in (candidate.model, *others)]
    shortest = min(entries, key=len)
    name = candidate.label if candidate.label.endswith(SEARCHED) else f"{candidate.label}_{SEARCHED}"
    entry = {"model": shortest.pop("model"), "name": name, **shortest}
    text = f"models:\n  - {_yaml(entry, in_one_line=True)}"
    return text + (f"training:\n{_yaml(chosen_for_training)}" if chosen_for_training else "")


def _entry(candidate: Candidate, word: str) -> dict[str, Any]:
    """The keys that differ from those of a preset."""
    preset = {**{name: field.default for name, field in Parts.model_fields.items()}, **PRESETS[word]}
    differing = {name: getattr(candidate, name) for name in preset if getattr(candidate, name) != preset[name]}
    return {"model": word, **differing}


def _yaml(values: Mapping[str, Any], *, in_one_line: bool = False) -> str:
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=in_one_line, width=10_000)
    return text if in_one_line else "".join(f"  {line}\n" for line in text.splitlines())


def whole(key: str) -> bool:
    """Whether a key takes whole numbers."""
    return int in _kinds(key)


def _kinds(key: str) -> tuple[Any, ...]:
    annotation = _section(key).model_fields[key].annotation
    return (annotation, *get_args(annotation))


def _section(key: str) -> type[Section]:
    return Parts if key in Parts.model_fields else Training


def _wrong(key: str, values: Any) -> list[str]:
    """What is wrong with one entry: the key, or a value that the key does not take."""
    known = [*Parts.model_fields, *Training.model_fields]
    if key not in known:
        return [f"{key}: unknown key{nearest(key, known)}"]
    section, found = _section(key), []
    if isinstance(values, Range) and bool in _kinds(key):
        return [f"{key}: expected a list of values, such as [false, true]; a range is for numbers"]
    for tried in values if isinstance(values, tuple) else (_number(values.low), _number(values.high)):
        try:
            section.model_validate({key: tried})
        except ValidationError as error:
            found += explain(error, section).splitlines()
    return found


def _number(value: float) -> float:
    return int(value) if value == int(value) else value
