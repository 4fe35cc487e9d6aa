"""Truncated back-propagation through time, clipping, and what a loss counts, each against a loop made by hand."""

import pytest
import torch
from builders import before_each_step, task, waves
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast import training, windows
from rnnforecast.batches import Spans, TrainingSegments, gather
from rnnforecast.config import Candidate, Training
from rnnforecast.learner import Learner
from rnnforecast.nn.network import Network
from rnnforecast.panel import Panel
from rnnforecast.recurrent import network_config

HORIZON, LENGTH = 3, 48
SETTINGS = Training(max_steps=10, accelerator="cpu")
CELLS = [
    {"model": "rnn"},
    {"model": "gru", "start": "learned"},
    {"model": "lstm", "num_layers": 2, "residual": True},
    {"model": "lstm", "base": "none", "scaling": "standard", "patch_length": 3},
    {"model": "gru", "decoder": "attention", "attention_length": 6},
]


@pytest.fixture(scope="module")
def spans():
    panel = Panel.from_frame(waves((LENGTH + 10,)), "1h")
    return Spans(panel, torch.tensor([LENGTH + HORIZON]), torch.zeros(1, dtype=torch.int64), HORIZON, 36)


def learner(**choices):
    """A learner with random weights everywhere, the zero-initialised output layers too."""
    torch.manual_seed(0)
    network = Network(network_config(task(horizon=HORIZON), Candidate(hidden_size=6, **choices)))
    with torch.no_grad():
        for parameter in network.decoder.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return Learner(network, SETTINGS.model_copy(update={"cutoffs_per_segment": LENGTH}))


def chunks(spans, steps):
    """The series from its start to its end in chunks of so many steps, as the training sees them."""
    for start in range(0, LENGTH, steps):
        batch = spans.segment(torch.tensor([0]), torch.tensor([start]), steps=steps)
        yield batch._replace(fresh=torch.tensor([start == 0]))


def gradients(module):
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()]


def stepwise(spans, network, *, detached_after):
    """Gradients of the losses of each chunk by a loop over single steps; the state is cut loose after its last."""
    panel, lane, found = spans.panel, torch.tensor([0]), []
    state = network.initial_state(panel.static, spans.codes)
    network.zero_grad()
    losses, count = [], 0
    for step in range(LENGTH):
        inputs = gather(panel, lane, torch.tensor([step]), 1, HORIZON, spans.codes)
        encoding, state = network.encode(inputs, state)
        values = panel.values[step + 1 : step + 1 + HORIZON]
        known = panel.mask[step + 1 : step + 1 + HORIZON] & (torch.arange(HORIZON) + step + 1 < int(spans.end[0]))
        loss = network.loss(network.decode(encoding, torch.tensor([[0]])), values[None, None])[0, 0]
        losses.append(loss[known].sum())
        count += int(known.sum())
        if (step + 1) % detached_after == 0:
            (sum(losses) / count).backward()
            found.append(gradients(network))
            network.zero_grad()
            losses, count, state = [], 0, state.detach()
    return found


def chunked(spans, ours, *, steps):
    found = []
    for number, batch in enumerate(chunks(spans, steps)):
        ours.zero_grad()
        ours.segment_loss(batch, number).backward()
        found.append(gradients(ours.network))
    return found


@pytest.mark.parametrize("choices", CELLS, ids=lambda choices: choices["model"])
def test_one_chunk_as_long_as_the_series_is_full_back_propagation(spans, choices):
    ours = learner(**choices)
    torch.testing.assert_close(
        chunked(spans, ours, steps=LENGTH), stepwise(spans, ours.network, detached_after=LENGTH), rtol=2e-4, atol=2e-6
    )


@pytest.mark.parametrize("choices", CELLS, ids=lambda choices: choices["model"])
@pytest.mark.parametrize("steps", [6, 24])
def test_chunks_carry_their_state_and_are_cut_loose_between_them(spans, choices, steps):
    ours = learner(**choices)
    found, expected = chunked(spans, ours, steps=steps), stepwise(spans, ours.network, detached_after=steps)
    assert len(found) == LENGTH // steps
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-6)
    # The truncation is there to be seen: back-propagation through all of it has another gradient.
    whole = stepwise(spans, ours.network, detached_after=LENGTH)[0]
    mean = [sum(parts) / len(found) for parts in zip(*found, strict=True)]
    assert not all(torch.allclose(a, b, rtol=1e-2, atol=1e-5) for a, b in zip(mean, whole, strict=True))


def test_with_carry_1_a_lane_goes_through_its_series_to_the_end_in_chunks_of_k_steps(spans):
    """Truncated back-propagation over a series of any length: the state at its end is that of one long pass."""
    stream = TrainingSegments(spans, steps=6, lanes=1, carry=1.0, seed=0)
    stream.from_the_start = 1.0
    ours = learner(model="lstm").eval()
    starts = []
    for number, batch in enumerate(stream):
        if number and batch.fresh.all():
            break
        starts.append(int(batch.inputs.ordinals[0, 0] - spans.panel.starts[0]))
        ours.segment_loss(batch, number)
        carried = ours._carried
    assert starts == list(range(0, LENGTH + HORIZON, 6))[: len(starts)]
    assert starts[-1] + 6 >= LENGTH
    lane = torch.tensor([0])
    whole = gather(spans.panel, lane, lane, starts[-1] + 6, HORIZON, spans.codes)
    _, state = ours.network.encode(whole, ours.network.initial_state(spans.panel.static, spans.codes))
    torch.testing.assert_close(tuple(carried), tuple(state.detach()), rtol=1e-5, atol=1e-5, equal_nan=True)
    assert not any(part.requires_grad for part in carried)


@pytest.mark.parametrize("head", ["quantiles", "point", "gaussian", "student_t"])
@settings(deadline=None, max_examples=10)
@given(other=st.floats(-1e6, 1e6), seed=st.integers(0, 99))
def test_targets_that_are_missing_or_warming_up_change_no_gradient(head, other, seed):
    frame = waves((LENGTH + 10, LENGTH), gaps=0.3, seed=seed)
    spans = Spans(Panel.from_frame(frame, "1h"), torch.tensor([40, 30]), torch.zeros(2, dtype=torch.int64), HORIZON, 36)
    batch = next(iter(TrainingSegments(spans, steps=16, lanes=6, carry=0.5, seed=seed)))
    # A target may be learned from if it was read, lies before the end, and a cutoff past the warm-up forecasts it.
    reach = torch.zeros_like(batch.target_mask)
    for ahead in range(HORIZON):
        reach[:, ahead : ahead + 16] |= batch.first
    counts = batch.target_mask & reach
    found = []
    for targets in (batch.targets, torch.where(counts, batch.targets, other)):
        ours = learner(model="gru", head=head)
        ours.segment_loss(batch._replace(targets=targets), 0).backward()
        found.append(gradients(ours.network))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    ours.zero_grad()
    ours.segment_loss(batch._replace(target_mask=torch.zeros_like(batch.target_mask)), 0).backward()
    assert all(not gradient.any() for gradient in gradients(ours.network))


@pytest.mark.parametrize(("algorithm", "limit"), [("norm", 0.01), ("norm", 1e9), ("value", 0.001)])
def test_gradients_are_clipped_at_every_chunk_and_their_norm_before_is_logged(algorithm, limit, monkeypatch):
    """The norm at most c, every entry at most c; a gradient within the limit is left alone."""
    panel = Panel.from_frame(waves((240, 200)), "1h")
    parts, candidate = windows.split(panel, 18, 18), Candidate(model="lstm", hidden_size=6)
    usual = Learner.on_before_optimizer_step
    before, after = [], []

    def watch_before(self, optimizer):
        before.append(torch.cat([p.grad.flatten().double() for p in self.parameters() if p.grad is not None]))
        usual(self, optimizer)

    monkeypatch.setattr(Learner, "on_before_optimizer_step", watch_before)
    before_each_step(monkeypatch, lambda gradient: after.append(gradient.double()))
    chosen = Training(
        max_steps=12,
        validate_every=6,
        segment_length=24,
        batch_size=4,
        carry=1.0,
        gradient_clip_val=limit,
        gradient_clip_algorithm=algorithm,
        accelerator="cpu",
    )
    trained = training.fit(task(), candidate, panel, parts, training=chosen, progress=False)
    assert len(before) == len(after) == 12
    for whole, cut in zip(before, after, strict=True):
        if algorithm == "value":
            assert cut.abs().max() <= limit * (1 + 1e-6)
            torch.testing.assert_close(cut, whole.clamp(-limit, limit))
        else:
            assert cut.norm() <= limit * (1 + 1e-4)
            torch.testing.assert_close(cut, whole * min(1.0, limit / float(whole.norm())), rtol=1e-3, atol=1e-9)
    logged = {row["step"]: row["grad_norm"] for row in trained.history if "grad_norm" in row}
    assert logged == {step: pytest.approx(float(before[step - 1].norm()), rel=1e-5) for step in (1, 10)}
