"""What must hold of every network that the parts allow: a grid in which every allowed pair of choices stands."""

import random
from itertools import pairwise

import polars as pl
import pytest
import torch
from builders import before_each_step, rich, rich_task, untrained
from combinations import covering
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast import training, windows
from rnnforecast.batches import Spans, gather
from rnnforecast.config import PRESETS, Candidate, Parts, Training
from rnnforecast.forecast import forecast
from rnnforecast.nn import features, memory, network, scaling
from rnnforecast.nn.sampling import predict
from rnnforecast.panel import Cutoffs

LENGTHS = (100, 70)
STEP = 47  # the cutoff of most tests: inside both series, in no way special
NUMBERS = ("mean", "q0.1", "q0.5", "q0.9")


def word(parts):
    """A short name of what differs from the defaults."""
    chosen = parts.model_dump(exclude_defaults=True, exclude={"hidden_size", "attention_length", "sample_paths"})
    return "-".join(str(value) if not isinstance(value, bool) else name for name, value in chosen.items())


PRESET = Parts(**{**PRESETS["m4-hourly"], "hidden_size": 8, "reader_size": 8})  # the one of the most parts, as a whole
GRID = [
    pytest.param(parts, channels, id=f"{place}-{word(parts)}-{len(channels) or 1}")
    for place, parts in enumerate([*covering(), PRESET])
    for channels in ((), ("x", "y"))
]
TRAINED = [
    each for place, each in enumerate(GRID) if place % 4 in (0, 3)
]  # one channel and two in turn: training is slow


def built(parts, channels, lengths=LENGTHS):
    """A network of random weights on data with every kind of covariate; its model and the frame."""
    frame = rich(lengths, channels)
    model = untrained(of=rich_task(channels), entities=("s0",), **parts.model_dump())
    return model, frame


def without(frame, moment):
    """What was known at `moment`: no target and no past covariate after it."""
    later = pl.col("timestamp") > moment
    return frame.with_columns(target=pl.when(~later).then("target"), load=pl.when(~later).then("load"))


def moment_of(model, frame, step=STEP):
    panel = model.task.panel(frame)
    return panel.stamps(panel.starts[:1] + step)[0]


def at(panel, *positions):
    """These cutoffs of every channel of the first entity."""
    series = torch.arange(panel.channels).repeat_interleave(len(positions))
    return Cutoffs(series, torch.tensor(positions).repeat(panel.channels))


def close(found, expected, model):
    """Equal to 1e-5; the quantiles of counts are counts, and may differ by one where the last bit decides.

    Where log or asinh is undone, equal in the units it was made in: the exponential of a wild path widens the last bit.
    """
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    same = torch.isclose(found, expected, rtol=1e-5, atol=1e-5)
    if model.candidate.transform != "none":
        same |= torch.isclose(found.asinh(), expected.asinh(), rtol=1e-5, atol=1e-5)
    enough = 0.9 if model.candidate.head == "negative_binomial" else 1.0
    assert same.float().mean() >= enough, (found - expected).abs().max()


def numbers(frame):
    return torch.tensor(frame.select(NUMBERS).to_numpy())


def leaks(model, frame, step=STEP):
    """What after the cutoff changes the forecast there, if it is rewritten: nothing, of an honest network."""
    panel, moment = model.task.panel(frame), moment_of(model, frame, step)
    horizon = pl.duration(hours=model.task.horizon)
    later, own = pl.col("timestamp") > moment, pl.col("series_id").str.starts_with("s0")
    rewritten = {
        "target": pl.when(later & own).then(pl.col("timestamp").dt.hour() * 37.0 + 1.0).otherwise("target"),
        "load": pl.when(later).then(-9.0).otherwise("load"),
        "price": pl.when(pl.col("timestamp") > pl.lit(moment) + horizon).then(-9.0).otherwise("price"),
        "other series": pl.when(later & ~own).then(1e3).otherwise("target").alias("target"),
    }
    mine = at(panel, step - 5, step)
    beside = torch.arange(panel.channels, len(panel))  # the other series run in the same pass, to their ends
    places = Cutoffs(torch.cat([mine.series, beside]), torch.cat([mine.position, panel.lengths[beside] - 1]))

    def forecasts(panel):
        return model.forecast_at(panel, places).head(len(mine) * model.task.horizon)

    expected, found = forecasts(panel), []
    for name, expression in rewritten.items():
        column = "target" if name == "other series" else name
        other = frame.with_columns(expression.alias(column))
        if not forecasts(model.task.panel(other)).equals(expected):
            found.append(name)
    return found


@pytest.mark.parametrize(("parts", "channels"), GRID)
def test_nothing_after_a_cutoff_changes_a_bit_of_its_forecast(parts, channels):
    model, frame = built(parts, channels)
    assert leaks(model, frame) == []


@pytest.mark.parametrize(("parts", "channels"), GRID)
def test_training_backtest_batch_and_stream_give_one_forecast(parts, channels):
    model, frame = built(parts, channels)
    panel = model.task.panel(frame)
    together = model.forecast_at(panel, at(panel, 20, STEP, 80))
    moment = moment_of(model, frame)
    of_step = together.filter(pl.col("cutoff") == moment)
    alone = forecast(model, without(frame, moment)).filter(pl.col("series_id").str.starts_with("s0"))
    close(numbers(alone.filter(pl.col("cutoff") == moment)), numbers(of_step), model)

    net, horizon, codes = model.network, model.task.horizon, model.codes(panel)
    lane, wanted = torch.zeros(1, dtype=torch.int64), numbers(of_step)[:, 1:].view(panel.channels, horizon, 3)
    with torch.inference_mode():
        spans = Spans(panel, panel.lengths, codes, horizon, net.memory)
        first, second = (spans.segment(lane, lane + start, steps=30) for start in (0, 30))
        _, carried = net.encode(first.inputs, net.initial_state(panel.static[:1], codes[:1]))
        state = net.remember(second.before).where(torch.tensor([False]), carried)
        encoding, _ = net.encode(second.inputs, state)
        close(predict(net, encoding, torch.tensor([[STEP - 30]]))[1][:, 0].double(), wanted, model)
        state = net.initial_state(panel.static[:1], codes[:1])
        for start, stop in pairwise((0, 1, 2, 9, 31, 44, 45, STEP + 1)):
            inputs = gather(panel, lane, lane + start, stop - start, horizon, codes)
            encoding, state = net.encode(inputs, state)
        close(predict(net, encoding, torch.tensor([[stop - start - 1]]))[1][:, 0].double(), wanted, model)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), cuts=st.sets(st.integers(1, 99), max_size=6))
def test_a_series_in_random_pieces_gives_the_forecast_of_one_pass(data, cuts):
    parts, channels = data.draw(st.sampled_from([each.values for each in GRID]))
    model, frame = built(parts, channels)
    panel, net = model.task.panel(frame), model.network
    codes, lane, horizon = model.codes(panel), torch.zeros(1, dtype=torch.int64), model.task.horizon
    start = net.initial_state(panel.static[:1], codes[:1])
    with torch.inference_mode():
        whole, last = net.encode(gather(panel, lane, lane, 100, horizon, codes), start)
        state, edges = start, [0, *sorted(cuts), 100]
        for begin, end in pairwise(edges):
            encoding, state = net.encode(gather(panel, lane, lane + begin, end - begin, horizon, codes), state)
        expected, found = (
            predict(net, whole, torch.tensor([[99]])),
            predict(net, encoding, torch.tensor([[end - begin - 1]])),
        )
    for one, other in zip(found, expected, strict=True):
        close(one, other, model)
    for one, other in zip(state, last, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("parts", "channels"), GRID)
def test_a_batch_of_unequal_series_equals_them_one_by_one(parts, channels):
    model, frame = built(parts, channels, (100, 33, 61))
    ends = pl.col("timestamp").max().over("series_id") - pl.duration(hours=model.task.horizon)
    frame = frame.with_columns(target=pl.when(pl.col("timestamp") <= ends).then("target"))
    together = forecast(model, frame)
    for name in ("s0", "s1", "s2"):
        mine = pl.col("series_id").str.starts_with(name)
        alone = forecast(model, frame.filter(mine))
        close(numbers(together.filter(mine)), numbers(alone), model)


@pytest.mark.parametrize(("parts", "channels"), GRID)
def test_the_gradient_of_a_pass_in_pieces_is_that_of_the_whole(parts, channels):
    """Nothing on the way from piece to piece stops it: so a chunk as long as the series is full back-propagation."""
    model, frame = built(parts, channels)
    panel, net = model.task.panel(frame), model.network
    codes, lane, horizon = model.codes(panel), torch.zeros(1, dtype=torch.int64), model.task.horizon
    gradients = []
    for edges in ((0, STEP + 1), (0, 7, 30, 31, STEP + 1)):
        net.zero_grad()
        state = net.initial_state(panel.static[:1], codes[:1])
        for begin, end in pairwise(edges):
            encoding, state = net.encode(gather(panel, lane, lane + begin, end - begin, horizon, codes), state)
        decoded = net.decode(encoding, torch.tensor([[end - begin - 1]]))
        decoded.raw.sum().backward()
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=2e-3, atol=2e-4 * float(whole.abs().max() + 1e-3))


def ahead(monkeypatch):
    """The lag of a season is read one step too late: from the step that is to be forecast."""
    honest = features.steps_seen
    monkeypatch.setattr(
        network.features, "steps_seen", lambda past, places, *a, **k: honest(past, Late(places), *a, **k)
    )


class Late:
    """Places one step later than they should be."""

    def __init__(self, places):
        self.places = places

    def of(self, values, *, back=0):
        at = torch.arange(self.places.steps) if self.places.at is None else self.places.at
        later = (at + 1).clamp(max=self.places.steps - 1)
        return values[:, later + values.shape[1] - self.places.steps - back]

    def spread(self, part):
        return part


def both_ends(monkeypatch):
    """The encoder reads the pass from both ends."""
    honest = network.Encoder.forward

    def leaky(self, seen, state):
        outputs, after = honest(self, seen, state)
        return outputs + honest(self, seen.flip(1), state)[0].flip(1), after

    monkeypatch.setattr(network.Encoder, "forward", leaky)


def whole_units(monkeypatch):
    """The units are those of the whole series, as scikit-learn's scaler fitted before the split gives them."""
    honest = scaling.units

    def leaky(*args, **kwargs):
        found = honest(*args, **kwargs)
        return found._replace(scale=found.scale.mean(dim=1, keepdim=True).expand_as(found.scale))

    monkeypatch.setattr(network.scaling, "units", leaky)


def filled_backward(monkeypatch):
    """A gap is filled with the mean of what is on both sides of it."""
    honest = memory.extend

    def leaky(state, values, mask):
        filled, observed, since = honest(state, values, mask)
        back = honest(state, values.flip(1), mask.flip(1))[0].flip(1)[:, : values.shape[1]]
        both = (filled[:, -values.shape[1] :] + back) / 2
        return torch.cat([filled[:, : -values.shape[1]], both], dim=1), observed, since

    monkeypatch.setattr(network, "extend", leaky)


def covariates_ahead(monkeypatch):
    """A past covariate is treated as if it were known a step ahead."""
    honest = network.standardised

    def leaky(values, stats):
        found = honest(values, stats)
        return found.roll(-1, dims=1) if found.ndim == 3 and values.shape[1] == 100 else found

    monkeypatch.setattr(network, "standardised", leaky)


def other_series(monkeypatch):
    """Normalised over the batch: the series beside it are felt."""
    honest = network.Encoder.forward

    def leaky(self, seen, state):
        return honest(self, seen - seen.mean(dim=(0, 1), keepdim=True), state)

    monkeypatch.setattr(network.Encoder, "forward", leaky)


LEAKS = {
    ahead: {"target", "load"},
    both_ends: {"target", "load"},
    whole_units: {"target"},
    filled_backward: {"target"},
    covariates_ahead: {"load"},
    other_series: {"other series"},
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_caught(leak, monkeypatch):
    frame, model = rich((100, 100)), untrained(of=rich_task())
    panel = model.task.panel(frame)
    gap = 6 + int(torch.nonzero(~panel.mask[6:100])[0])  # a cutoff without a reading
    assert leaks(model, frame, gap) == []
    leak(monkeypatch)
    assert set(leaks(model, frame, gap)) >= LEAKS[leak]


class KilledError(RuntimeError):
    pass


@pytest.mark.parametrize(("parts", "channels"), TRAINED)
def test_a_training_clips_every_step_and_ends_the_same_whether_or_not_it_was_stopped(
    parts, channels, tmp_path, monkeypatch
):
    of, frame = rich_task(channels), rich((120, 90), channels)
    if parts.head == "negative_binomial":
        frame = frame.with_columns(pl.col("target").round())
    panel = of.panel(frame)
    halves = windows.split(panel, 6, 12)
    by_value = parts.num_layers == 2
    chosen = Training(
        max_steps=6,
        validate_every=2,
        batch_size=4,
        segment_length=24,
        cutoffs_per_segment=4,
        accelerator="cpu",
        gradient_clip_val=0.01,
        gradient_clip_algorithm="value" if by_value else "norm",
    )
    candidate = Candidate(model="gru", **parts.model_dump())
    steps, kill = [], []

    def look(gradient):
        steps.append(float(gradient.abs().max() if by_value else gradient.norm()))
        if len(steps) in kill:
            raise KilledError

    def fit(name):
        steps.clear()
        return training.fit(
            of, candidate, panel, halves, training=chosen, progress=False, checkpoints=tmp_path / name
        ).model.network.state_dict()

    before_each_step(monkeypatch, look)
    expected = fit("never stopped")
    assert len(steps) == 6
    assert max(steps) <= 0.01 * 1.0001
    kill.append(random.Random(word(parts)).randint(1, 6))
    with pytest.raises(KilledError):
        fit("stopped")
    kill.clear()
    found = fit("stopped")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
