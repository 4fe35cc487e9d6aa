"""Training learns, is reproducible, clips, and its weights survive the disk."""

from itertools import islice, pairwise

import polars as pl
import pytest
import torch
from builders import NETWORKS, before_each_step, task, waves

from rnnforecast import training, windows
from rnnforecast.backtest import run
from rnnforecast.baselines import BaselineModel
from rnnforecast.batches import Spans, TrainingSegments
from rnnforecast.config import Candidate, Training
from rnnforecast.fitted import FittedError
from rnnforecast.forecast import forecast, load_model
from rnnforecast.learner import Learner
from rnnforecast.nn.network import Network
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.recurrent import network_config
from rnnforecast.training_rate import find_rate, range_test

SETTINGS = Training(
    max_steps=60, batch_size=8, validate_every=20, segment_length=48, learning_rate=1e-2, accelerator="cpu"
)


@pytest.fixture(scope="module")
def panel():
    return Panel.from_frame(waves((240, 200)), "1h")


def fit(panel, name, **changes):
    parts = windows.split(panel, 18, 18)
    chosen = SETTINGS.model_copy(update=changes)
    return training.fit(task(), Candidate(model=name, hidden_size=16), panel, parts, training=chosen, progress=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_small_network_beats_the_seasonal_naive_on_a_noisy_season(name, tmp_path):
    panel = Panel.from_frame(waves((1200, 1200), trend=0.0), "1h")
    parts = windows.split(panel, 200, 60)
    cutoffs = windows.backtest_cutoffs(panel, parts, 6, 6)
    settings = SETTINGS.model_copy(update={"segment_length": 96, "max_steps": 300})
    candidate = Candidate(model=name, hidden_size=16)
    trained = training.fit(task(), candidate, panel, parts, training=settings, progress=False)
    naive = run(BaselineModel(task(), Candidate(model="seasonal_naive")), panel, cutoffs, label="n").scored
    ours = run(trained.model, panel, cutoffs, label="o").scored
    error = {"naive": naive, "ours": ours}
    mae = {k: v.drop_nulls().select((pl.col("q0.5") - pl.col("target")).abs().mean()).item() for k, v in error.items()}
    # Both errors are known: the noise is 0.1, the best forecast misses by 0.08, repeating a noisy season by 0.113.
    assert mae["naive"] == pytest.approx(0.113, rel=0.15)
    assert mae["ours"] < 0.93 * mae["naive"]
    trained.model.save(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert load_model(tmp_path).forecast_at(panel, cutoffs).equals(trained.model.forecast_at(panel, cutoffs))


def test_the_same_seed_gives_the_same_weights_and_another_one_others(panel):
    first, second, other = (fit(panel, "gru", max_steps=20, seed=seed) for seed in (3, 3, 4))
    weights = [trained.model.network.mix.weight for trained in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_history_names_steps_losses_rates_and_gradient_norms(panel):
    history = fit(panel, "gru", max_steps=40).history
    assert [row["step"] for row in history if "val_loss" in row] == [20, 40]
    assert {"step", "train_loss", "grad_norm", "learning_rate"} <= history[0].keys()


def test_the_last_steps_are_validated_too(panel):
    history = fit(panel, "gru", max_steps=25, validate_every=10).history
    assert [row["step"] for row in history if "val_loss" in row] == [10, 20, 25]


def test_a_training_that_diverges_says_so_and_what_to_choose(panel):
    with pytest.raises(FittedError, match=r"gru: the training diverged.*smaller learning_rate"):
        fit(panel, "gru", max_steps=5, learning_rate=1e30)


def test_a_training_that_diverges_ends_at_its_next_validation(panel, monkeypatch):
    """And not in the middle of its cycle, from where on its patience is counted."""
    seen = []
    before_each_step(monkeypatch, lambda gradient: seen.append(float(gradient.norm())))
    with pytest.raises(FittedError, match="the training diverged"):
        fit(panel, "gru", max_steps=40, validate_every=5, learning_rate=1e30)
    assert len(seen) == 5


def test_a_rate_that_is_found_trains_about_as_well_as_the_best_of_a_grid(panel):
    found = fit(panel, "gru", learning_rate="auto")
    rate = found.history[0]["found_learning_rate"]
    assert 1e-3 < rate < 5e-2
    assert max(row.get("learning_rate", 0.0) for row in found.history) == pytest.approx(rate, rel=0.1)  # the peak
    grid = [fit(panel, "gru", learning_rate=fixed).best_validation for fixed in (1e-3, 5e-3, 2e-2)]
    assert found.best_validation < 1.1 * min(grid)


@pytest.mark.parametrize("name", ["gru", "badly scaled"])
def test_the_range_test_lands_well_below_divergence_and_leaves_all_as_it_was(panel, name):
    """Badly scaled: values of about 20 as they are, squared errors of hundreds; Adam's rates are not of that scale."""
    parts = {"scaling": "none", "base": "none", "head": "point", "loss": "mse"} if name == "badly scaled" else {}
    network = Network(network_config(task(), Candidate(model="gru", hidden_size=16, **parts)))
    before = {name: part.clone() for name, part in network.state_dict().items()}
    torch.manual_seed(5)
    rate = find_rate(network, SETTINGS, segment_stream(panel, lanes=8))
    drawn = torch.rand(1)
    assert torch.equal(drawn, torch.rand(1, generator=torch.Generator().manual_seed(5)))
    assert all(torch.equal(part, before[name]) for name, part in network.state_dict().items())
    assert network.training
    rates, gains = range_test(network, SETTINGS, segment_stream(panel, lanes=8))
    at = rates.index(rate)
    assert 2e-3 < rate < 5e-2
    assert gains[at] > 0.6 * max(gains)
    assert max(gains[:at]) < max(gains[at:])  # higher ones still gain: it is not at the cliff
    assert all(gain < 0.05 * max(gains) for gain, each in zip(gains, rates, strict=True) if each < rate / 30)


def test_without_any_gain_the_range_test_takes_the_default(panel):
    network = Network(network_config(task(), Candidate(model="gru", hidden_size=8)))
    nothing = (batch._replace(target_mask=batch.target_mask & False) for batch in segments(panel, lanes=2))
    assert find_rate(network, SETTINGS, list(islice(nothing, 5))) == Training().learning_rate


def test_training_never_reads_what_comes_after_its_span(panel):
    parts = windows.split(panel, 18, 18)
    poisoned = Panel(**{**{k: v for k, v in vars(panel).items() if k != "lengths"}, "values": panel.values.clone()})
    for series in range(len(panel)):
        begin = int(panel.offsets[series] + parts.valid_end[series])
        poisoned.values[begin : int(panel.offsets[series + 1])] = 1e9
    weights = [fit(which, "gru", max_steps=20).model.network.mix.weight for which in (panel, poisoned)]
    assert torch.equal(*weights)


def test_without_a_holdout_the_validation_span_is_learned_too_all_steps_are_made_and_the_last_weights_taken(panel):
    parts = windows.split(panel, 18, 18)
    other = Panel(**{**{k: v for k, v in vars(panel).items() if k != "lengths"}, "values": panel.values.clone()})
    for series in range(len(panel)):
        begin = int(panel.offsets[series])
        other.values[begin + int(parts.train_end[series]) : begin + int(parts.valid_end[series])] += 5.0
    free = {"holdout": False, "max_steps": 20, "validate_every": 5, "patience": 1, "learning_rate": 1e-7}
    fits = {name: fit(which, "gru", **free) for name, which in (("as it is", panel), ("other end", other))}
    assert [row["step"] for row in fits["as it is"].history if "val_loss" in row] == [5, 10, 15, 20]
    mixes = [each.model.network.mix.weight for each in fits.values()]
    assert not torch.equal(*mixes)
    # With a holdout, what is learned from ends before it: the weights of the same steps are the same.
    kept = [fit(which, "gru", max_steps=5, validate_every=5).model.network.mix.weight for which in (panel, other)]
    assert torch.equal(*kept)
    torn = {"max_steps": 20, "validate_every": 1, "learning_rate": 5.0, "gradient_clip_val": 100.0, "ema_decay": 0.0}
    worse = fit(panel, "gru", holdout=False, **torn)
    losses = [row["val_loss"] for row in worse.history if "val_loss" in row]
    assert worse.best_validation == losses[-1] > min(losses)  # the last weights, though there were better ones


@pytest.mark.parametrize(("algorithm", "limit"), [("norm", 0.01), ("value", 0.001)])
def test_gradients_are_clipped_before_the_step(panel, algorithm, limit, monkeypatch):
    seen = []
    before_each_step(monkeypatch, lambda gradient: seen.append((float(gradient.norm()), float(gradient.abs().max()))))
    history = fit(panel, "lstm", max_steps=10, gradient_clip_val=limit, gradient_clip_algorithm=algorithm).history
    assert len(seen) == 10
    assert all((norm if algorithm == "norm" else largest) <= limit * 1.001 for norm, largest in seen)
    assert history[0]["grad_norm"] > limit  # logged before clipping


def test_early_stopping_ends_a_training_that_gains_nothing_in_its_second_half(panel):
    history = fit(panel, "gru", max_steps=40, validate_every=5, patience=2, learning_rate=1e-7).history
    assert history[-1]["step"] == 30


def test_a_loss_that_rises_while_the_learning_rate_is_high_ends_no_training(panel):
    """The best weights may be among those that come after."""
    how = {"max_steps": 120, "validate_every": 5, "patience": 1, "ema_decay": 0.0, "learning_rate": 0.05}
    trained = fit(panel, "gru", **how)
    losses = {row["step"]: row["val_loss"] for row in trained.history if "val_loss" in row}
    before = [loss for step, loss in losses.items() if step < 60]
    assert max(late - early for early, late in pairwise(before)) > 0  # patience 1 would have ended it
    assert trained.best_validation == min(losses.values()) < min(before)


def segment_stream(panel, **changes):
    """The training batches of a panel, 40 steps each."""
    spans = Spans(panel, windows.split(panel, 18, 18).train_end, torch.zeros(2, dtype=torch.int64), 6, 36)
    return TrainingSegments(spans, **{"steps": 40, "lanes": 64, "carry": 1.0, "seed": 0, **changes})


def segments(panel, **changes):
    return iter(segment_stream(panel, **changes))


def test_lanes_go_on_with_their_state_or_begin_afresh(panel):
    stream = segments(panel)
    first, second = next(stream), next(stream)
    assert first.fresh.all()
    assert not second.fresh.all()
    goes_on = ~second.fresh
    assert torch.equal(second.inputs.ordinals[goes_on, 0], first.inputs.ordinals[goes_on, -1] + 1)
    assert (second.first[goes_on]).all()
    assert not second.first[second.fresh, :10].any()


@pytest.mark.parametrize("skip", [0, 1, 3, 5])
def test_windows_gathered_several_batches_at_once_are_those_of_each_batch_alone(panel, skip):
    alone = segment_stream(panel, steps=1, lanes=8, carry=0.0)
    alone.at_once = 1
    expected = list(islice(alone, 11))[skip:]
    found = list(islice(segments(panel, steps=1, lanes=8, carry=0.0, skip=skip), 11 - skip))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)  # part by part, to the last bit


@pytest.mark.parametrize(
    "parts",
    [
        {"model": "gru", "scaling": "revin", "decoder": "attention"},
        {"model": "lstm", "num_layers": 2, "start": "learned", "bidirectional": True},
        {"model": "lstm", "start": "static", "embedding_size": 3},
        {"model": "gru", "scaling": "mean", "decoder": "seq2seq", "patch_length": 4},
    ],
    ids=lambda parts: "-".join(str(value) for value in parts.values()),
)
def test_windows_prepared_several_batches_at_once_teach_what_each_batch_alone_does(panel, parts):
    candidate = Candidate(hidden_size=8, context_length=12, **parts)
    network = Network(network_config(task(), candidate, entities=2)).eval()  # nothing is drawn
    learner = Learner(network, SETTINGS)
    like = {"steps": 1, "lanes": 8, "carry": 0.0}
    both = zip(segments(panel, **like, network=network), segments(panel, **like), strict=True)
    for number, (prepared, alone) in enumerate(islice(both, 6)):
        gradients = []
        for batch in (prepared, alone):
            network.zero_grad()
            learner.segment_loss(batch, number).backward()
            gradients.append([None if each.grad is None else each.grad.clone() for each in network.parameters()])
        assert any(each is not None and each.abs().sum() > 0 for each in gradients[0])
        torch.testing.assert_close(*gradients)
        with torch.no_grad():  # as a training step changes them
            for weight in network.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.1)


def test_one_step_of_loss_is_the_mean_pinball_loss_of_a_slow_loop(panel):
    batch = next(segments(panel, lanes=4, carry=0.5))
    torch.manual_seed(0)
    network = Network(network_config(task(), Candidate(model="gru", hidden_size=8)))
    found = float(Learner(network, SETTINGS).segment_loss(batch, 0).detach())
    network.requires_grad_(False)
    encoding, _ = network.encode(batch.inputs, network.remember(batch.before))
    total, count = 0.0, 0
    for lane in range(4):
        for step in range(40):
            forecast_ = network.decode(encoding, torch.full((4, 1), step))
            _, quantiles = network.summary(forecast_)
            for ahead in range(6):
                if batch.first[lane, step] and batch.target_mask[lane, step + ahead]:
                    actual = float(batch.targets[lane, step + ahead])
                    unit = float(forecast_.scale[lane, 0])
                    for index, level in enumerate((0.1, 0.5, 0.9)):
                        miss = (actual - float(quantiles[lane, 0, ahead, index])) / unit
                        total += 2 * max(level * miss, (level - 1) * miss) / 3
                    count += 1
    assert found == pytest.approx(total / count, rel=1e-3)


def test_a_constant_series_and_one_of_two_steps_train_with_the_others():
    frame = waves((200,))
    flat = frame.head(150).with_columns(series_id=pl.lit("flat"), target=pl.lit(5.0))
    short = frame.head(2).with_columns(series_id=pl.lit("short"))
    panel = Panel.from_frame(pl.concat([frame, flat, short]), "1h")
    trained = fit(panel, "gru", max_steps=20)
    out = forecast(trained.model, panel)
    assert out["q0.5"].is_finite().all()
    assert out.filter(pl.col("series_id") == "flat")["q0.5"].to_numpy() == pytest.approx(5.0, abs=0.1)
    assert set(out["series_id"]) == {"flat", "s0", "short"}


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_weights_handed_out_are_those_that_validated_best(panel, decay):
    """Not the last ones, and with averaging not the raw ones: their validation loss is the best one logged."""
    trained = fit(panel, "gru", ema_decay=decay, learning_rate=5e-2)
    network, parts = trained.model.network, windows.split(panel, 18, 18)
    spans = Spans(panel, parts.train_end, torch.zeros(2, dtype=torch.int64), 6, network.memory)
    (batch,) = training.validation(spans, parts, SETTINGS.segment_length)
    learner, losses = Learner(network, SETTINGS), []
    learner.log = lambda name, value, **kwargs: losses.append(float(value))
    with torch.inference_mode():
        learner.validation_step(batch, 0)
    logged = [row["val_loss"] for row in trained.history if "val_loss" in row]
    assert losses == [pytest.approx(min(logged), rel=1e-5)]
    assert losses[0] == pytest.approx(trained.best_validation)


def test_a_state_carried_far_past_the_training_length_forecasts_as_well_as_a_young_one():
    season = Panel.from_frame(waves((1200,), trend=0.0), "1h")
    parts = windows.split(season, 60, 60)
    settings = SETTINGS.model_copy(update={"segment_length": 96, "max_steps": 150})
    trained = training.fit(
        task(), Candidate(model="lstm", hidden_size=16), season, parts, training=settings, progress=False
    )
    far = Panel.from_frame(waves((20_000,), trend=0.0, seed=5), "1h")
    places = torch.cat([torch.arange(200, 1_200, 3), torch.arange(18_900, 19_900, 3)])
    at = Cutoffs(torch.zeros_like(places), places)
    scored = run(trained.model, far, at, label="o").scored.with_columns(
        late=pl.col("cutoff") > far.stamps(far.starts + 9_000)[0]
    )
    error = scored.drop_nulls().group_by("late").agg((pl.col("q0.5") - pl.col("target")).abs().mean()).sort("late")
    young, old = error["q0.5"]
    assert old == pytest.approx(young, rel=0.1)
