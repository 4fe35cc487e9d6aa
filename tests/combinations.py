"""A grid of small networks in which every two choices that go together stand together at least once."""

import random
from itertools import combinations, product

from rnnforecast.config import Parts
from rnnforecast.config_choices import complete

ATTENTION = {"decoder": "attention", "attention_length": 12, "sample_paths": 100}
OTHERS = {"attention": "additive", "attention_length": 48, "sample_paths": 100}

# A factor is what is chosen as one; each of its levels names all of its fields.
FACTORS = {
    "cell": [
        {"cell": "rnn", "activation": "tanh"},
        {"cell": "rnn", "activation": "relu"},
        {"cell": "lstm", "activation": "tanh"},
        {"cell": "gru", "activation": "tanh"},
    ],
    "layers": [
        {"num_layers": 1, "residual": False},
        {"num_layers": 2, "residual": False},
        {"num_layers": 2, "residual": True},
    ],
    "skip": [{"skip": False}, {"skip": True}],
    "reader": [{"reader_size": 0}, {"reader_size": 8}],
    "local": [{"local_size": 0}, {"local_size": 8}],
    "dropout": [{"dropout": 0.0}, {"dropout": 0.2}],
    "bidirectional": [{"bidirectional": False}, {"bidirectional": True}],
    "start": [{"start": word} for word in ("zero", "learned", "static")],
    "init": [
        {"init": "default", "forget_bias": 0.0},
        {"init": "default", "forget_bias": 1.0},
        {"init": "orthogonal", "forget_bias": 0.0},
        {"init": "identity", "forget_bias": 0.0},
    ],
    "context_length": [{"context_length": None}, {"context_length": 24}],
    "patch_length": [{"patch_length": 1}, {"patch_length": 3}],
    "lags": [{"lags": "seasons"}, {"lags": "cycles"}, {"lags": (1, 2)}],
    "embedding_size": [{"embedding_size": 0}, {"embedding_size": 4}],
    "scaling": [{"scaling": word} for word in ("none", "standard", "mean", "ewm", "robust", "last", "revin", "offset")],
    "transform": [{"transform": word} for word in ("none", "log", "asinh")],
    "base": [{"base": word} for word in ("none", "naive", "profile", "moved", "linear")],
    "mix": [{"mix": word} for word in ("cutoff", "step")],
    "decoder": [
        {**OTHERS, "decoder": "direct"},
        {**OTHERS, "decoder": "seq2seq"},
        {**ATTENTION, "attention": "additive"},
        {**ATTENTION, "attention": "dot"},
        {**OTHERS, "decoder": "parallel"},
        {**OTHERS, "decoder": "autoregressive", "sample_paths": 20},
    ],
    "teacher_forcing": [{"teacher_forcing_ratio": ratio} for ratio in (0.0, 0.5)],
    "head": [
        {"head": "quantiles", "loss": "mae"},
        {"head": "point", "loss": "mae"},
        {"head": "point", "loss": "mse"},
        {"head": "point", "loss": "huber"},
        {"head": "gaussian", "loss": "mae"},
        {"head": "student_t", "loss": "mae"},
        {"head": "negative_binomial", "loss": "mae"},
    ],
    "conformal": [{"conformal": False}, {"conformal": True}],
}
TRIES = 4  # networks made for each that is kept: the one with the most new pairs


def covering(seed=0):
    """Few allowed networks of 8 units, so that every allowed two levels of two factors are in one of them.

    Those with `start: static` need static covariates (or have an embedding).
    """
    chance = random.Random(seed)
    missing = {pair for pair in level_pairs() if complete(values(dict(pair))) is not None}
    found = []
    while missing:
        tries = [_network(missing, chance) for _ in range(TRIES)]
        best = max(tries, key=lambda levels: len(missing & inside(levels)))
        missing -= inside(best)
        found.append(Parts(hidden_size=8, **values(best)))
    return found


def level_pairs():
    """Every two levels of two factors, each as ((factor, level), (factor, level)) with factors in their order."""
    return [
        ((one, first), (other, second))
        for one, other in combinations(FACTORS, 2)
        for first, second in product(range(len(FACTORS[one])), range(len(FACTORS[other])))
    ]


def values(levels):
    """The fields that these levels {factor: level} name."""
    return {name: value for factor, level in levels.items() for name, value in FACTORS[factor][level].items()}


def inside(levels):
    """The pairs in a network {factor: level}."""
    return set(combinations([(factor, levels[factor]) for factor in FACTORS if factor in levels], 2))


def _network(missing, chance):
    """One allowed network: a pair missing of the largest two factors, then factor by factor the level that adds most.

    Large factors go first: scaling and head alone need 44 networks, which the small factors fit into.
    """
    sizes = {pair: sum(len(FACTORS[factor]) + chance.random() / 2 for factor, _ in pair) for pair in sorted(missing)}
    levels = dict(max(sizes, key=sizes.__getitem__))
    rest = [factor for factor in FACTORS if factor not in levels]
    rest.sort(key=lambda factor: -len(FACTORS[factor]) - 3 * chance.random())
    for factor in rest:
        order = list(range(len(FACTORS[factor])))
        chance.shuffle(order)
        order.sort(key=lambda level: -_gain({**levels, factor: level}, factor, missing))
        levels[factor] = next(each for each in order if complete(values({**levels, factor: each})) is not None)
    return levels


def _gain(levels, factor, missing):
    mine = (factor, levels[factor])
    return sum((mine, other) in missing or (other, mine) in missing for other in levels.items())
