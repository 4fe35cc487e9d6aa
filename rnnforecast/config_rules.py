"""Which parts of a network do not go together, why, and what to choose instead.

A rule looks at the values of a few fields and at nothing else, never at who set them: a field at its default is no
choice, so that what was stored with every field filled in reads back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rnnforecast.config_parts import DEFAULTS


@dataclass(frozen=True)
class Rule:
    """A combination that is refused."""

    fields: tuple[str, ...]
    when: Callable[..., bool]  # of the values of `fields`, in their order
    choice: str  # the combination in words
    why: str
    instead: str

    def refuses(self, values: Mapping[str, Any]) -> bool:
        """Whether these values (a name for each of `fields` at least) are the combination."""
        return self.when(*(values[name] for name in self.fields))

    def told(self, parts: Any) -> str:
        """One line: what was found, why it does not go together, what to choose instead."""
        found = " with ".join(f"{name}: {spell(getattr(parts, name))}" for name in self.fields)
        return f"{found}: {self.why}; {self.instead}"


def spell(value: Any) -> str:
    """A value as the pipeline file has it."""
    if value is None:
        return "absent"
    if isinstance(value, tuple):
        return f"[{', '.join(map(spell, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


WINDOWED_SCALINGS: Final = ("last", "revin")
STEPWISE_DECODERS: Final = ("seq2seq", "attention")  # they read what came at the step before
COUNTS_SCALINGS: Final = ("none", "mean")

RULES: Final = (
    Rule(
        ("activation", "cell"),
        lambda activation, cell: activation != DEFAULTS["activation"] and cell != "rnn",
        "activation relu with cell lstm or gru",
        "gates are fixed functions; only the vanilla rnn has an activation to choose",
        "choose cell: rnn, or leave activation out",
    ),
    Rule(
        ("init", "cell"),
        lambda init, cell: init == "identity" and cell != "rnn",
        "init identity with cell lstm or gru",
        "the identity start (IRNN) is one for a state without gates",
        "choose cell: rnn (with activation: relu as in the paper), or init: orthogonal",
    ),
    Rule(
        ("forget_bias", "cell"),
        lambda bias, cell: bias != 0 and cell != "lstm",
        "forget_bias with cell rnn or gru",
        "only the LSTM has a forget gate",
        "choose cell: lstm, or leave forget_bias out",
    ),
    Rule(
        ("residual", "num_layers"),
        lambda residual, layers: residual and layers == 1,
        "residual with num_layers 1",
        "the first layer's input has not the size of its output, and there is no second",
        "choose num_layers: 2 or more, or leave residual out",
    ),
    Rule(
        ("bidirectional", "context_length"),
        lambda both, context: both and context is None,
        "bidirectional without context_length",
        "the backward pass reads later steps, so a state that is carried on would know the future; a window ends at "
        "the cutoff",
        "give context_length (a window model), or leave bidirectional out",
    ),
    Rule(
        ("scaling", "context_length"),
        lambda scaling, context: scaling in WINDOWED_SCALINGS and context is None,
        "scaling last or revin without context_length",
        "its units are those of one window, and a carried recurrence has none",
        "give context_length (a window model), or choose scaling: robust, ewm or mean, which run along",
    ),
    Rule(
        ("context_length", "patch_length"),
        lambda context, patch: context is not None and (context % patch != 0 or context < 2 * patch),
        "context_length that is not two or more whole segments of patch_length",
        "a window is read in whole segments, at least two of them",
        "choose context_length as a multiple (2 or more) of patch_length",
    ),
    Rule(
        ("lags",),
        lambda lags: not isinstance(lags, str) and (list(lags) != sorted(set(lags)) or any(lag < 1 for lag in lags)),
        "lags that are not ascending steps of at least 1",
        "a lag counts steps back from the next one, and each is read once",
        "choose ascending whole numbers from 1, such as lags: [1, 24], or lags: seasons",
    ),
    Rule(
        ("mix", "base"),
        lambda mix, base: mix != DEFAULTS["mix"] and base in ("none", "linear"),
        "mix step with base none or linear",
        "there is nothing to mix",
        "choose base: naive, profile or moved, or leave mix out",
    ),
    Rule(
        ("local_size", "base"),
        lambda size, base: size > 0 and base in ("none", "linear"),
        "local_size with base none or linear",
        "it reads the naive forecasts of each step, and there are none",
        "choose base: naive, profile or moved, or leave local_size out",
    ),
    Rule(
        ("decoder", "context_length"),
        lambda decoder, context: decoder == "autoregressive" and context is not None,
        "decoder autoregressive with context_length",
        "its sample paths go on from the carried recurrence, one and the same for past and future",
        "leave context_length out, or choose decoder: direct, seq2seq, attention or parallel",
    ),
    Rule(
        ("reader_size", "decoder"),
        lambda size, decoder: size > 0 and decoder in STEPWISE_DECODERS,
        "reader_size with decoder seq2seq or attention",
        "they go on from the recurrence's state, in its size",
        "choose decoder: direct or parallel, or leave reader_size out",
    ),
    Rule(
        ("decoder", "head"),
        lambda decoder, head: decoder == "autoregressive" and head == "quantiles",
        "decoder autoregressive with head quantiles",
        "a sample path needs a distribution to draw the next value from",
        "choose head: student_t, gaussian or negative_binomial (or point, for a single path), or decoder: direct",
    ),
    Rule(
        ("sample_paths", "decoder"),
        lambda paths, decoder: paths != DEFAULTS["sample_paths"] and decoder != "autoregressive",
        "sample_paths with a decoder other than autoregressive",
        "other decoders forecast quantiles themselves and draw no paths",
        "choose decoder: autoregressive, or leave sample_paths out",
    ),
    Rule(
        ("teacher_forcing_ratio", "decoder"),
        lambda ratio, decoder: ratio > 0 and decoder not in STEPWISE_DECODERS,
        "teacher_forcing_ratio with decoder direct, parallel or autoregressive",
        "only seq2seq and attention read their own forecast of the step before, which the actual value can stand in "
        "for (direct and parallel read none, autoregressive is trained on the actual values anyway)",
        "choose decoder: seq2seq or attention, or leave teacher_forcing_ratio out",
    ),
    Rule(
        ("teacher_forcing_schedule", "teacher_forcing_ratio"),
        lambda schedule, ratio: schedule != DEFAULTS["teacher_forcing_schedule"] and ratio == 0,
        "teacher_forcing_schedule without teacher_forcing_ratio",
        "a share of 0 cannot fall",
        "give teacher_forcing_ratio (such as 0.5), or leave teacher_forcing_schedule out",
    ),
    Rule(
        ("attention", "decoder"),
        lambda attention, decoder: attention != DEFAULTS["attention"] and decoder != "attention",
        "attention dot with a decoder other than attention",
        "no other decoder attends to the encoder's states",
        "choose decoder: attention, or leave attention out",
    ),
    Rule(
        ("attention_length", "decoder"),
        lambda length, decoder: length != DEFAULTS["attention_length"] and decoder != "attention",
        "attention_length with a decoder other than attention",
        "no other decoder attends to the encoder's states",
        "choose decoder: attention, or leave attention_length out",
    ),
    Rule(
        ("attention_length", "patch_length", "decoder"),
        lambda length, patch, decoder: decoder == "attention" and length < patch,
        "attention_length shorter than patch_length",
        "attention looks over segments, and not one whole segment is that short",
        "choose attention_length of at least patch_length",
    ),
    Rule(
        ("loss", "head"),
        lambda loss, head: loss != DEFAULTS["loss"] and head != "point",
        "loss with a head other than point",
        "quantiles are trained by the pinball loss, distributions by their likelihood",
        "choose head: point, or leave loss out",
    ),
    Rule(
        ("conformal", "head"),
        lambda conformal, head: conformal and head == "point",
        "conformal with head point",
        "its quantiles are nothing but the errors on the validation span, with or without it",
        "leave conformal out, or choose head: quantiles, gaussian or student_t",
    ),
    Rule(
        ("conformal", "head"),
        lambda conformal, head: conformal and head == "negative_binomial",
        "conformal with head negative_binomial",
        "counts moved by parts of a unit are no counts",
        "leave conformal out, or choose head: quantiles, gaussian or student_t",
    ),
    Rule(
        ("conformal", "decoder"),
        lambda conformal, decoder: conformal and decoder == "autoregressive",
        "conformal with decoder autoregressive",
        "its quantiles are those of sample paths, which it draws one step after the other",
        "leave conformal out, or choose decoder: direct",
    ),
    Rule(
        ("head", "scaling"),
        lambda head, scaling: head == "negative_binomial" and scaling not in COUNTS_SCALINGS,
        "head negative_binomial with a scaling other than none or mean",
        "counts may be divided by a scale, but a shift makes them negative",
        "choose scaling: mean (or none), or head: student_t",
    ),
    Rule(
        ("head", "transform"),
        lambda head, transform: head == "negative_binomial" and transform != "none",
        "head negative_binomial with a transform",
        "the logarithm of a count is no count",
        "leave transform out, or choose head: gaussian or student_t",
    ),
)


def broken(parts: Any) -> list[Rule]:
    """The rules that these parts break."""
    return [rule for rule in RULES if rule.refuses({name: getattr(parts, name) for name in rule.fields})]


def refusals(parts: Any) -> list[str]:
    """One line for each choice that does not go with the others: what was found, why, what to choose instead."""
    return [rule.told(parts) for rule in broken(parts)]


def refusals_of_task(parts: Any, static: Sequence[str]) -> list[str]:
    """One line for each choice that needs something of the task that it has not; `static`: its static covariates."""
    if parts.start == "static" and not static and not parts.embedding_size:
        return [
            "start: static without static_covariates: nothing is known of a series before its first step; name "
            "static_covariates, or give embedding_size, or choose start: learned"
        ]
    return []
