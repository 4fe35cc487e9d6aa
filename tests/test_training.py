"""Training learns, is reproducible, clips, and its weights survive the disk."""

import polars as pl
import pytest
import torch
from builders import NETWORKS, task, waves

from rnnforecast import training, windows
from rnnforecast.backtest import run
from rnnforecast.baselines import BaselineModel
from rnnforecast.batches import TrainingSegments, remember
from rnnforecast.config import Candidate, Training
from rnnforecast.forecast import forecast, load_model
from rnnforecast.forecaster import Forecaster
from rnnforecast.nn.network import Network
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.recurrent import network_config

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


def test_training_never_reads_what_comes_after_its_span(panel):
    parts = windows.split(panel, 18, 18)
    poisoned = Panel(**{**{k: v for k, v in vars(panel).items() if k != "lengths"}, "values": panel.values.clone()})
    for series in range(len(panel)):
        begin = int(panel.offsets[series] + parts.valid_end[series])
        poisoned.values[begin : int(panel.offsets[series + 1])] = 1e9
    weights = [fit(which, "gru", max_steps=20).model.network.mix.weight for which in (panel, poisoned)]
    assert torch.equal(*weights)


@pytest.mark.parametrize(("algorithm", "limit"), [("norm", 0.01), ("value", 0.001)])
def test_gradients_are_clipped_before_the_step(panel, algorithm, limit, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def watched(self, closure=None):
        result = closure() if closure else None
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
        seen.append((float(norm), max(float(g.abs().max()) for g in gradients)))
        step(self)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    history = fit(panel, "lstm", max_steps=10, gradient_clip_val=limit, gradient_clip_algorithm=algorithm).history
    assert len(seen) == 10
    assert all((norm if algorithm == "norm" else largest) <= limit * 1.001 for norm, largest in seen)
    assert history[0]["grad_norm"] > limit  # logged before clipping


def test_early_stopping_ends_a_training_that_gains_nothing(panel):
    history = fit(panel, "gru", max_steps=200, validate_every=5, patience=2, learning_rate=1e-7).history
    assert history[-1]["step"] == 15


def test_lanes_go_on_with_their_state_or_begin_afresh(panel):
    end = windows.split(panel, 18, 18).train_end
    stream = iter(TrainingSegments(panel, end, steps=40, horizon=6, memory=36, lanes=64, carry=1.0, seed=0))
    first, second = next(stream), next(stream)
    assert first.fresh.all()
    assert not second.fresh.all()
    goes_on = ~second.fresh
    assert torch.equal(second.inputs.ordinals[goes_on, 0], first.inputs.ordinals[goes_on, -1] + 1)
    assert (second.first[goes_on]).all()
    assert not second.first[second.fresh, :10].any()


def test_one_step_of_loss_is_the_mean_pinball_loss_of_a_slow_loop(panel):
    end = windows.split(panel, 18, 18).train_end
    batch = next(iter(TrainingSegments(panel, end, steps=40, horizon=6, memory=36, lanes=4, carry=0.5, seed=0)))
    torch.manual_seed(0)
    network = Network(network_config(task(), Candidate(model="gru", hidden_size=8)))
    forecaster = Forecaster(network, SETTINGS)
    forecaster.log = lambda *args, **kwargs: None
    found = float(forecaster.training_step(batch, 0).detach())
    network.requires_grad_(False)
    encoding, _ = network.encode(batch.inputs, remember(network, batch.before, batch.before_mask))
    total, count = 0.0, 0
    for lane in range(4):
        for step in range(40):
            forecast_ = network.decode(encoding, torch.full((4, 1), step))
            for ahead in range(6):
                if batch.first[lane, step] and batch.target_mask[lane, step + ahead]:
                    actual = float(batch.targets[lane, step + ahead])
                    unit = float(forecast_.spread[lane, 0])
                    for index, level in enumerate((0.1, 0.5, 0.9)):
                        miss = (actual - float(forecast_.quantiles[lane, 0, ahead, index])) / unit
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
    parts = windows.split(panel, 18, 18)
    chosen = SETTINGS.model_copy(update={"ema_decay": decay, "learning_rate": 5e-2})
    trained = fit(panel, "gru", ema_decay=decay, learning_rate=5e-2)
    forecaster = Forecaster(trained.model.network, chosen)
    losses = []
    forecaster.log = lambda name, value, **kwargs: losses.append(float(value))
    steps = training.segment_length(task(), parts, chosen)
    batches = training._validation(panel, parts, task(), steps, trained.model.network.memory)
    with torch.inference_mode():
        for batch in batches:
            forecaster.validation_step(batch, 0)
    logged = [row["val_loss"] for row in trained.history if "val_loss" in row]
    assert len(losses) == 1
    assert losses[0] == pytest.approx(min(logged), rel=1e-5) == pytest.approx(trained.best_validation)


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
