"""Which parts go together: every rule told, every word of a preset right, and a grid that holds every allowed pair."""

import json
from itertools import product
from typing import get_args

import combinations
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnforecast.config import (
    BASELINES,
    COMBINATION,
    NETWORKS,
    PRESETS,
    TRAININGS,
    Candidate,
    ConfigError,
    Model,
    Parts,
    TaskSettings,
    Training,
    checked,
    refusals,
    refusals_of_task,
)
from rnnforecast.config_choices import CHOICES, complete, pairs
from rnnforecast.config_rules import RULES

REFUSED = [
    ({"cell": "lstm", "activation": "relu"}, "gates are fixed functions", "choose cell: rnn"),
    ({"cell": "gru", "init": "identity"}, "state without gates", "choose cell: rnn"),
    ({"cell": "gru", "forget_bias": 1.0}, "only the LSTM has a forget gate", "choose cell: lstm"),
    ({"residual": True}, "there is no second", "choose num_layers: 2"),
    ({"bidirectional": True}, "would know the future", "give context_length"),
    ({"scaling": "last"}, "units are those of one window", "give context_length"),
    ({"scaling": "revin"}, "units are those of one window", "choose scaling: robust"),
    ({"context_length": 25, "patch_length": 3}, "whole segments", "a multiple"),
    ({"context_length": 3, "patch_length": 3}, "at least two of them", "a multiple"),
    ({"lags": (2, 1)}, "each is read once", r"lags: \[1, 24\]"),
    ({"lags": (0, 1)}, "counts steps back", r"lags: \[1, 24\]"),
    ({"lags": (1, 1)}, "each is read once", "lags: seasons"),
    ({"mix": "step", "base": "none"}, "nothing to mix", "choose base: naive"),
    ({"mix": "step", "base": "linear"}, "nothing to mix", "choose base: naive"),
    ({"local_size": 8, "base": "none"}, "there are none", "choose base: naive"),
    ({"local_size": 8, "base": "linear"}, "there are none", "leave local_size out"),
    (
        {"decoder": "autoregressive", "head": "gaussian", "context_length": 24},
        "carried recurrence",
        "leave context_len",
    ),
    ({"reader_size": 8, "decoder": "seq2seq"}, "from the recurrence's state", "choose decoder: direct or parallel"),
    ({"decoder": "autoregressive"}, "a distribution to draw", "choose head: student_t"),
    ({"sample_paths": 50}, "draw no paths", "choose decoder: autoregressive"),
    ({"teacher_forcing_ratio": 0.5}, "their own forecast of the step before", "choose decoder: seq2seq or attention"),
    ({"decoder": "seq2seq", "teacher_forcing_schedule": "constant"}, "share of 0", "give teacher_forcing_ratio"),
    ({"attention": "dot"}, "no other decoder attends", "choose decoder: attention"),
    ({"attention_length": 20}, "no other decoder attends", "choose decoder: attention"),
    ({"decoder": "attention", "attention_length": 8, "patch_length": 12}, "over segments", "at least patch_length"),
    ({"conformal": True, "head": "point"}, "errors on the validation span", "leave conformal out"),
    ({"conformal": True, "head": "negative_binomial", "scaling": "mean"}, "no counts", "choose head: quantiles"),
    (
        {"conformal": True, "decoder": "autoregressive", "head": "gaussian"},
        "those of sample paths",
        "leave conformal out, or choose decoder",
    ),
    ({"loss": "mse"}, "trained by the pinball loss", "choose head: point"),
    ({"head": "negative_binomial"}, "a shift makes them negative", "choose scaling: mean"),
    ({"head": "negative_binomial", "scaling": "mean", "transform": "log"}, "no count", "leave transform out"),
]


@pytest.mark.parametrize(("choice", "why", "instead"), REFUSED)
def test_a_combination_that_is_refused_says_what_was_found_why_and_what_instead(choice, why, instead):
    (line,) = refusals(Parts(**choice))
    assert line.startswith(tuple(f"{name}: " for name in choice))
    with pytest.raises(ConfigError, match=f"{why}.*; .*{instead}"):
        checked(Parts, choice)
    with pytest.raises(ConfigError, match=f"^.*{why}"):
        checked(Candidate, {"model": "gru", **choice})


def test_every_rule_is_among_the_refused():
    hit = {
        rule.choice
        for choice, *_ in REFUSED
        for rule in RULES
        if refusals(Parts(**choice))[0] == rule.told(Parts(**choice))
    }
    assert hit == {rule.choice for rule in RULES}


def test_who_follows_every_advice_ends_with_an_allowed_network():
    parts = {"decoder": "autoregressive", "scaling": "last"}
    assert len(refusals(Parts(**parts))) == 2
    parts |= {"scaling": "mean", "head": "student_t"}
    assert refusals(Parts(**parts)) == []


def test_the_defaults_and_every_preset_are_allowed():
    assert refusals(Parts()) == []
    for word in NETWORKS:
        candidate = Candidate(model=word)
        assert refusals(candidate) == []
        differs = {name for name in Parts.model_fields if getattr(candidate, name) != getattr(Parts(), name)}
        assert differs <= set(PRESETS[word])


def test_every_model_is_a_baseline_or_a_preset():
    assert get_args(Model) == (*BASELINES, *NETWORKS, COMBINATION)


def test_a_key_that_is_given_wins_over_the_preset():
    assert Candidate(model="deepar").head == "student_t"
    assert Candidate(model="deepar", head="gaussian").head == "gaussian"
    assert Candidate(model="deepar", head="gaussian").num_layers == 2
    assert Candidate(model="segrnn", context_length=None, scaling="robust").context_length is None


def test_training_follows_what_is_given_then_the_preset_then_the_defaults():
    preset, plain = Candidate(model="m4-hourly"), Candidate(model="gru")
    assert preset.trained_by(Training()).model_dump(include=set(TRAININGS["m4-hourly"])) == TRAININGS["m4-hourly"]
    given = preset.trained_by(Training(max_steps=7, holdout=True))  # holdout: the default, but it was said
    assert (given.max_steps, given.holdout) == (7, True)
    assert given.cutoffs_per_segment == TRAININGS["m4-hourly"]["cutoffs_per_segment"]
    assert plain.trained_by(Training(seed=3)) == Training(seed=3)


@pytest.mark.parametrize("model", TRAININGS)
def test_the_keys_of_a_preset_s_training_are_keys_of_training(model):
    assert model in PRESETS
    assert checked(Training, dict(TRAININGS[model]))


def test_what_a_preset_has_chosen_is_told_where_it_does_not_go_with_a_key():
    with pytest.raises(
        ConfigError, match=r"decoder: autoregressive with head: quantiles.*`model: deepar` sets decoder"
    ):
        checked(Candidate, {"model": "deepar", "head": "quantiles"})


def test_a_baseline_with_a_key_of_networks_is_refused_by_name():
    with pytest.raises(ConfigError, match="hidden_size: a key of networks; `auto_theta` is a baseline") as error:
        checked(Candidate, {"model": "auto_theta", "hidden_size": 32, "cell": "lstm", "dropout": 0.0})
    assert len(str(error.value).splitlines()) == 2  # dropout is at its default: nobody chose it


@pytest.mark.parametrize("model", [*BASELINES, *NETWORKS])
def test_a_dump_of_a_candidate_reads_back_though_it_names_every_key(model):
    candidate = Candidate(model=model, name="mine")
    assert Candidate(**json.loads(json.dumps(candidate.model_dump()))) == candidate
    if candidate.is_network:
        other = Candidate(**{**candidate.model_dump(), "hidden_size": 8, "lags": (1, 7)})
        assert Candidate(**json.loads(other.model_dump_json())) == other


@pytest.mark.parametrize(
    ("section", "given", "message"),
    [
        (Parts, {"cell": "lsmt"}, r"^cell: expected rnn, lstm or gru; found 'lsmt'; did you mean `lstm`\?$"),
        (Parts, {"hiden_size": 3}, r"^hiden_size: unknown key; did you mean `hidden_size`\?$"),
        (
            Parts,
            {"lags": "season"},
            r"^lags: expected a list or seasons or cycles; found 'season'; did you mean `seasons`\?$",
        ),
        (Candidate, {"model": "SegRNN"}, r"model: .*found 'SegRNN'; did you mean `segrnn`\?$"),
        (Candidate, {"model": "deepar", "decoder": "autoregresive"}, "did you mean `autoregressive`"),
        (Training, {"learning_rate": "atuo"}, r"^learning_rate: expected a number or auto; .*did you mean `auto`\?$"),
        (Training, {"learning_rate": 0}, "^learning_rate: expected a number above 0, or auto; found 0"),
        (Training, {"devices": 0}, "^devices: .*greater than or equal to 1; found 0$"),
        (TaskSettings, {}, "^horizon: this key is needed and absent$"),
        (TaskSettings, {"horizon": 3, "channels": ["x", "x"]}, "^channels: expected distinct names"),
    ],
)
def test_a_wrong_word_from_python_is_answered_as_in_the_file(section, given, message):
    with pytest.raises(ConfigError, match=message) as error:
        checked(section, given)
    assert len(str(error.value).splitlines()) == 1


def test_a_start_from_static_covariates_needs_some_or_an_embedding():
    static = Parts(start="static")
    assert refusals_of_task(static, ("area",)) == []
    assert refusals_of_task(Parts(start="static", embedding_size=4), ()) == []
    (line,) = refusals_of_task(static, ())
    assert "name static_covariates, or give embedding_size, or choose start: learned" in line


@given(st.data())
def test_what_completes_a_choice_is_allowed_and_holds_it(data):
    names = data.draw(st.lists(st.sampled_from(sorted(CHOICES)), max_size=4, unique=True))
    chosen = {name: data.draw(st.sampled_from(CHOICES[name])) for name in names}
    found = complete(chosen)
    if found is not None:
        assert found.items() >= chosen.items()
        assert refusals(Parts(**found)) == []


def test_two_choices_go_together_where_a_search_over_all_others_finds_a_network():
    """The slow way, on the fields that the rules of these choices reach."""
    reached = ("context_length", "bidirectional", "scaling", "decoder", "head", "sample_paths", "loss")
    networks = [dict(zip(reached, each, strict=True)) for each in product(*(CHOICES[name] for name in reached))]
    allowed = [each for each in networks if not refusals(Parts.model_construct(**each))]
    for pair in pairs():
        if pair.first[0] in reached and pair.second[0] in reached:
            (one, first), (other, second) = pair.first, pair.second
            assert pair.allowed == any(each[one] == first and each[other] == second for each in allowed), pair


def test_what_keeps_two_choices_apart_is_told_and_nothing_else():
    because = {(pair.first, pair.second): [rule.choice for rule in pair.because] for pair in pairs()}
    assert because[("bidirectional", True), ("decoder", "autoregressive")] == [
        "bidirectional without context_length",
        "decoder autoregressive with context_length",
    ]
    assert because[("cell", "gru"), ("decoder", "attention")] == []


def test_the_grid_holds_every_pair_of_choices_that_is_allowed():
    """What is allowed, by hand: all pairs but these."""
    apart = [
        ({"activation": "relu"}, {"forget_bias": 1.0}),
        *(({"base": word}, {"mix": "step"}) for word in ("none", "linear")),
        *(({"base": word}, {"local_size": 8}) for word in ("none", "linear")),
        ({"cell": "gru"}, {"init": "identity"}),
        ({"cell": "lstm"}, {"init": "identity"}),
        ({"cell": "gru"}, {"forget_bias": 1.0}),
        ({"cell": "rnn"}, {"forget_bias": 1.0}),
        ({"context_length": None}, {"bidirectional": True}),
        ({"context_length": None}, {"scaling": "last"}),
        ({"context_length": None}, {"scaling": "revin"}),
        ({"decoder": "autoregressive"}, {"context_length": 24}),
        ({"decoder": "autoregressive"}, {"bidirectional": True}),
        ({"decoder": "autoregressive"}, {"scaling": "last"}),
        ({"decoder": "autoregressive"}, {"scaling": "revin"}),
        ({"decoder": "autoregressive"}, {"head": "quantiles"}),
        *(({"decoder": word}, {"teacher_forcing_ratio": 0.5}) for word in ("direct", "parallel", "autoregressive")),
        *(
            ({"head": "negative_binomial"}, {"scaling": word})
            for word in ("standard", "ewm", "robust", "last", "revin", "offset")
        ),
        *(({"head": "negative_binomial"}, {"transform": word}) for word in ("log", "asinh")),
        ({"conformal": True}, {"decoder": "autoregressive"}),
        *(({"reader_size": 8}, {"decoder": word}) for word in ("seq2seq", "attention")),
        ({"reader_size": 8}, {"teacher_forcing_ratio": 0.5}),
        *(({"conformal": True}, {"head": word}) for word in ("point", "negative_binomial")),
    ]
    grid = [parts.model_dump() for parts in combinations.covering()]
    levels = {(factor, index): each for factor, all_ in combinations.FACTORS.items() for index, each in enumerate(all_)}
    for pair in combinations.level_pairs():
        both = [levels[level] for level in pair]
        refused = any(
            (a.items() <= both[x].items() and b.items() <= both[1 - x].items()) for a, b in apart for x in (0, 1)
        )
        found = any(both[0].items() <= each.items() and both[1].items() <= each.items() for each in grid)
        assert found != refused, f"{both}: {'in the grid' if found else 'not in the grid'}"


def test_the_grid_is_small_allowed_and_the_same_for_one_seed():
    grid = combinations.covering()
    assert 48 <= len(grid) <= 58  # 44 for scaling x head, where counts have two scalings and meet six decoders
    assert all(not refusals(parts) and parts.hidden_size == 8 and parts.num_layers <= 2 for parts in grid)
    assert combinations.covering() == grid
    assert combinations.covering(seed=1) != grid
