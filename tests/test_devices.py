"""Where a training runs and in which precision changes little of what it comes to: bf16, two processes, a GPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from builders import before_each_step, task, untrained, waves

from rnnforecast import training, windows
from rnnforecast.batches import PROCESS_SEED, Spans, TrainingSegments, gather
from rnnforecast.config import Candidate, Training
from rnnforecast.learner import Learner
from rnnforecast.nn.network import Inputs
from rnnforecast.nn.sampling import predict
from rnnforecast.panel import Panel

SETTINGS = Training(
    max_steps=20, validate_every=5, batch_size=4, segment_length=24, learning_rate=1e-2, carry=0.9, accelerator="cpu"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPUS = [
    pytest.param("cuda", "32-true", 1e-2, marks=[pytest.mark.gpu, needs_gpu]),  # cuDNN multiplies in TF32
    pytest.param("cuda", "bf16-mixed", 5e-2, marks=[pytest.mark.gpu, needs_gpu]),
]
DEVICES = [pytest.param("cpu", "bf16-mixed", 2e-2), *GPUS]
NETWORKS = [
    {"model": "gru"},
    {"model": "lstm", "num_layers": 2, "residual": True},
    {"model": "rnn", "decoder": "seq2seq", "head": "gaussian"},
    {"model": "gru", "decoder": "attention", "attention_length": 6, "patch_length": 2},
    {"model": "gru", "context_length": 24, "head": "point"},
    {"model": "deepar", "hidden_size": 8, "sample_paths": 20},
    {"model": "lstm", "start": "static", "embedding_size": 2, "context_length": 24},
]


@pytest.fixture(scope="module")
def panel():
    return Panel.from_frame(waves((90, 70)), "1h")


def fit(panel, candidate=None, folder=None, **changes):
    chosen = SETTINGS.model_copy(update=changes)
    candidate = Candidate(**{"hidden_size": 6, **(candidate or {"model": "gru"})})
    parts = windows.split(panel, 18, 18)
    return training.fit(task(), candidate, panel, parts, training=chosen, progress=False, checkpoints=folder)


def on(device, precision):
    """The settings that put a training there."""
    return {"accelerator": "cpu" if device == "cpu" else "gpu", "precision": precision}


class StoppedError(Exception):
    pass


def watch(monkeypatch, *, stop_at=0):
    """Everything carried between chunks, and the gradients of each step as they are after clipping."""
    carried, gradients = [], []
    loss = Learner.segment_loss

    def watched_loss(self, batch, number):
        found = loss(self, batch, number)
        carried.append(self._carried)
        return found

    def look(gradient):
        gradients.append(gradient.cpu())
        if len(gradients) == stop_at:
            raise StoppedError

    monkeypatch.setattr(Learner, "segment_loss", watched_loss)
    before_each_step(monkeypatch, look)
    return carried, gradients


def losses(trained, name):
    return np.array([row[name] for row in trained.history if name in row])


@pytest.mark.parametrize(("device", "precision", "close"), DEVICES)
@pytest.mark.parametrize("parts", NETWORKS, ids=lambda parts: "-".join(map(str, parts.values())))
def test_a_training_there_comes_to_what_it_does_on_the_cpu(panel, parts, device, precision, close, monkeypatch):
    """Trained, clipped and validated; the carried state and the weights stay float32 however one multiplies."""
    how = {"cutoffs_per_segment": 24, "gradient_clip_val": 0.05}  # all cutoffs: a GPU draws other ones
    expected = fit(panel, parts, **how)
    carried, gradients = watch(monkeypatch)
    found = fit(panel, parts, **how, **on(device, precision))
    assert len(gradients) == 20
    assert all(gradient.norm() <= 0.05 * 1.001 for gradient in gradients)
    states = [state for state in carried if state is not None]
    assert len(states) == (0 if "context_length" in parts else 20)  # a window carries nothing
    assert {part.dtype for state in states for part in state} <= {torch.float32, torch.bool}
    assert {part.device.type for state in states for part in state} <= {device}
    assert {part.dtype for part in found.model.network.parameters()} == {torch.float32}
    assert losses(found, "train_loss")[0] == pytest.approx(losses(expected, "train_loss")[0], rel=close, abs=close / 10)
    assert losses(found, "grad_norm")[0] == pytest.approx(losses(expected, "grad_norm")[0], rel=4 * close)
    assert losses(found, "val_loss") == pytest.approx(losses(expected, "val_loss"), rel=2 * close, abs=close)
    ours, theirs = (each.model.forecast_at(panel, panel.last)["q0.5"].to_numpy() for each in (found, expected))
    assert ours == pytest.approx(theirs, abs=0.2)  # waves of height 1


@pytest.mark.parametrize(("device", "precision", "close"), DEVICES)
def test_a_training_there_goes_on_from_a_checkpoint(panel, tmp_path, device, precision, close, monkeypatch):
    straight = fit(panel, {"model": "lstm"}, **on(device, precision))
    watch(monkeypatch, stop_at=12)
    with pytest.raises(StoppedError):
        fit(panel, {"model": "lstm"}, tmp_path, **on(device, precision))
    monkeypatch.undo()
    found = fit(panel, {"model": "lstm"}, tmp_path, **on(device, precision))
    assert losses(found, "val_loss") == pytest.approx(losses(straight, "val_loss"), rel=close / 10)
    for name, part in straight.model.network.state_dict().items():
        torch.testing.assert_close(found.model.network.state_dict()[name], part, rtol=close, atol=close / 10)


def moved(inputs, device):
    return Inputs(*(part.to(device) for part in inputs))


@pytest.mark.parametrize(("device", "precision", "close"), DEVICES)
@pytest.mark.parametrize("parts", NETWORKS[:4], ids=lambda parts: "-".join(map(str, parts.values())))
def test_a_stream_there_forecasts_what_one_pass_on_the_cpu_does(panel, parts, device, precision, close):
    network = untrained(parts["model"], **{key: parts[key] for key in parts if key != "model"}, hidden_size=8).network
    lane, codes = torch.tensor([0]), torch.zeros(2, dtype=torch.int64)

    def stream(device, pieces, *, cast):
        network.to(device)
        state, start = network.initial_state(panel.static[:1].to(device), codes[:1].to(device)), 0
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=cast):
            for steps in pieces:
                inputs = gather(panel, lane, torch.tensor([start]), steps, 6, codes)
                encoding, state = network.encode(moved(inputs, device), state)
                assert {part.dtype for part in state} == {torch.float32, torch.bool}
                start += steps
            mean, quantiles = predict(network, encoding, torch.tensor([[pieces[-1] - 1]], device=device))
        return mean.cpu(), quantiles.cpu()

    expected = stream("cpu", [80], cast=False)
    found = stream(device, [1, 30, 1, 1, 40, 7], cast=precision == "bf16-mixed")
    torch.testing.assert_close(found, expected, rtol=close, atol=close)  # values of about 10


@pytest.mark.parametrize(("device", "precision", "close"), GPUS)
def test_the_rate_found_there_is_about_that_of_the_cpu(panel, device, precision, close):
    expected, found = (fit(panel, learning_rate="auto", **on(*at)) for at in (("cpu", "32-true"), (device, precision)))
    assert losses(found, "found_learning_rate")[0] == pytest.approx(losses(expected, "found_learning_rate")[0], rel=0.5)


def test_two_processes_train_one_network_each_on_lanes_of_its_own(panel, tmp_path):
    """Their gradients are averaged, both stop at once, and weights and history come back to where `fit` was called."""
    how = {"learning_rate": 1e-7, "patience": 2, "validate_every": 2}
    alone, both = fit(panel, **how), fit(panel, folder=Path(tmp_path), devices=2, **how)
    stopped = [1, 2, 4, 6, 8, 10, 10, 12, 14]  # two validations after that of half of 20 steps
    assert [row["step"] for row in both.history] == [row["step"] for row in alone.history] == stopped
    weights = both.model.network.state_dict()
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(part, kept[f"network.{name}"]) for name, part in weights.items())
    filled = torch.load(tmp_path / "last.ckpt", weights_only=True)["carried"][0]
    assert filled.shape[:2] == (2, 4)  # processes, lanes
    assert not torch.equal(filled[0].nan_to_num(), filled[1].nan_to_num())
    # The first step by hand: the mean of the gradients of two streams, the second with the second process's seed.
    torch.manual_seed(SETTINGS.seed)
    network = untrained("gru", hidden_size=6, num_layers=1).network
    network.load_state_dict(weights)  # which a rate of 1e-7 has not moved
    spans = Spans(panel, windows.split(panel, 18, 18).train_end, torch.zeros(2, dtype=torch.int64), 6, network.memory)
    learner, gradients = Learner(network, SETTINGS), []
    for seed in (SETTINGS.seed, SETTINGS.seed + PROCESS_SEED):
        network.zero_grad()
        batch = next(iter(TrainingSegments(spans, steps=24, lanes=4, carry=0.9, seed=seed)))
        learner._carried = None
        learner.segment_loss(batch, 0).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert losses(both, "grad_norm")[0] == pytest.approx(float(sum(gradients).norm() / 2), rel=1e-3)
    assert losses(alone, "grad_norm")[0] == pytest.approx(float(gradients[0].norm()), rel=1e-3)
    assert losses(both, "val_loss") == pytest.approx(losses(alone, "val_loss"), rel=1e-3)
