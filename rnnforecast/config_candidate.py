"""Who competes: a baseline, or a network put together from parts. A preset is a word for some parts, and for how
they are trained."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from rnnforecast.config_parts import DEFAULTS, Parts
from rnnforecast.config_rules import Rule, broken
from rnnforecast.config_sections import Training

BASELINES: Final = ("naive", "seasonal_naive", "auto_ets", "auto_theta")
COMBINATION: Final = "combination"

# What differs from the defaults of `Parts`; a key that is given wins over its preset's. segrnn: the paper's windows are
# of 720 steps and its segments of 48; here of about four days of hours, so that short series have a window too.
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "gru": {},
        "lstm": {"cell": "lstm"},
        "rnn": {"cell": "rnn", "init": "orthogonal"},
        "seq2seq": {"decoder": "seq2seq"},
        "attention": {"decoder": "attention"},
        "mqrnn": {"cell": "lstm", "base": "none", "scaling": "standard"},
        "deepar": {
            "cell": "lstm",
            "num_layers": 2,
            "decoder": "autoregressive",
            "head": "student_t",
            "scaling": "mean",
            "base": "none",
        },
        "segrnn": {
            "context_length": 96,
            "patch_length": 12,
            "decoder": "parallel",
            "scaling": "last",
            "base": "none",
            "head": "point",
            "loss": "mae",
        },
        "ltsf": {
            "context_length": 720,
            "patch_length": 48,
            "dropout": 0.5,
            "decoder": "parallel",
            "scaling": "offset",
            "base": "linear",
            "head": "point",
            "loss": "mae",
        },
        "m4-hourly": {
            "cell": "lstm",
            "hidden_size": 96,
            "transform": "log",
            "lags": "cycles",
            "skip": True,
            "reader_size": 256,
            "local_size": 32,
            "embedding_size": 8,
            "base": "moved",
            "mix": "step",
        },
    }
)
NETWORKS: Final = tuple(PRESETS)

# How a preset is trained, where that differs from the defaults of `Training`; a key that is given wins, here too.
TRAININGS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "ltsf": {
            "members": 5,
            "max_steps": 600,
            "batch_size": 128,
            "learning_rate": 2e-3,
            "ema_decay": 0.995,
            "validate_every": 100,
            "weighting": "spread",
        },
        "m4-hourly": {
            "max_steps": 3_000,
            "batch_size": 16,
            "segment_length": 252,
            "cutoffs_per_segment": 48,
            "weight_decay": 0.3,
            "weighting": "both",
            "holdout": False,
            "validate_every": 500,
        },
    }
)

Model = Literal[
    "naive",
    "seasonal_naive",
    "auto_ets",
    "auto_theta",
    "gru",
    "lstm",
    "rnn",
    "seq2seq",
    "attention",
    "mqrnn",
    "deepar",
    "segrnn",
    "ltsf",
    "m4-hourly",
    "combination",
]


DEFAULT_MODELS: Final[tuple[Model, ...]] = (
    "naive",
    "seasonal_naive",
    "auto_theta",
    "gru",
    "lstm",
    "seq2seq",
    "combination",
)


class Candidate(Parts):
    """One model that competes; a bare name in the file means all defaults of that name."""

    model: Model = Field(
        description="A baseline (naive, seasonal_naive, auto_ets, auto_theta), a network by its preset (gru, lstm, "
        "rnn, seq2seq, attention, mqrnn, deepar, segrnn, ltsf, m4-hourly), whose other keys say how it differs, or "
        "combination: the weighted mean of the best network and the two best baselines among the others."
    )
    name: str = Field("", description="How it is called in leaderboards; absent: the model's name.")

    @model_validator(mode="before")
    @classmethod
    def _parts_of_the_preset(cls, value: Any) -> Any:
        word = value.get("model") if isinstance(value, Mapping) else None
        return {**PRESETS[word], **value} if isinstance(word, str) and word in PRESETS else value

    @model_validator(mode="after")
    def _allowed(self) -> "Candidate":
        lines = self._without_keys() if not self.is_network else [self._told(rule) for rule in broken(self)]
        if lines:
            raise ValueError("\n".join(lines))
        return self

    def _without_keys(self) -> list[str]:
        """A dump of a baseline names every key, so a value that equals the default is no choice."""
        set_ = [name for name, default in DEFAULTS.items() if getattr(self, name) != default]
        return [f"{name}: a key of networks; `{self.model}` is a {self.kind} and takes none of them" for name in set_]

    def _told(self, rule: Rule) -> str:
        preset = PRESETS[self.model]
        ours = [name for name in rule.fields if name in preset and getattr(self, name) == preset[name]]
        return rule.told(self) + (f" (`model: {self.model}` sets {' and '.join(ours)})" if ours else "")

    def refusals_of_training(self, training: Training) -> list[str]:
        """One line for each choice that does not go with how it is trained."""
        if self.conformal and not self.trained_by(training).holdout:
            return [
                "conformal: true with holdout: false: errors on a span that was learned from say little of those to "
                "come; set holdout: true, or leave conformal out"
            ]
        return []

    @property
    def label(self) -> str:
        return self.name or self.model

    @property
    def kind(self) -> Literal["network", "baseline", "combination"]:
        if self.model == COMBINATION:
            return "combination"
        return "network" if self.is_network else "baseline"

    @property
    def is_network(self) -> bool:
        return self.model in PRESETS

    def trained_by(self, training: Training) -> Training:
        """How this candidate is trained: by what `training` was given, then its preset's keys, then the defaults."""
        given = training.model_dump(exclude_unset=True)
        return Training(**{**TRAININGS.get(self.model, {}), **given})
