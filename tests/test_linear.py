"""The linear base and the units of the loss, against least squares and sums written out."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from builders import rich, rich_task, task, untrained, waves

from rnnforecast import training, windows
from rnnforecast.batches import Spans
from rnnforecast.config import Candidate, Training
from rnnforecast.learner import Learner, following
from rnnforecast.learner_weighting import error_units
from rnnforecast.nn.network import Network
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.recurrent import network_config
from rnnforecast.training_linear import PENALTIES, solve
from rnnforecast.training_statistics import standardise

WINDOW = {"context_length": 24, "patch_length": 6, "decoder": "parallel", "head": "point", "loss": "mse"}


def solved(panel, parts, *, horizon=6, weighting="scale", **choices):
    """A network whose linear base is solved, its task and its spans."""
    of = task(horizon=horizon)
    candidate = Candidate(model="gru", base="linear", hidden_size=4, **choices)
    network = Network(network_config(of, candidate))
    standardise(network, panel, parts.train_end)
    unit = error_units(panel, parts.train_end, of.season_length)
    codes = torch.zeros(len(panel), dtype=torch.int64)
    spans = Spans(panel, parts.train_end, codes, horizon, network.memory, unit)
    solve(network, spans, training.validation(spans, parts, 0 if network.config.window else 10), weighting=weighting)
    return network


@pytest.mark.parametrize("units", ["scale", "spread"])
def test_the_map_is_the_ridge_regression_of_every_window_of_the_training_span(units):
    panel = Panel.from_frame(waves((200, 150), gaps=0), "1h")
    parts = windows.split(panel, 20, 30)
    network = solved(panel, parts, scaling="last", weighting=units, **WINDOW)
    seen, after = [], []
    for series in range(2):
        end, first = int(parts.train_end[series]), int(panel.offsets[series])
        values = panel.values[first : first + end].double().numpy()
        own = values.std()
        for cutoff in range(23, end - 6):
            recent, ahead = values[cutoff - 23 : cutoff + 1], values[cutoff + 1 : cutoff + 7]
            unit = recent.std() if units == "scale" else own
            seen.append((recent - recent[-1]) / unit)
            after.append((ahead - recent[-1]) / unit)
    x, y = np.array(seen), np.array(after)
    square = x.T @ x
    penalties = [share * np.trace(square) / 24 for share in PENALTIES]
    maps = [np.linalg.solve(square + penalty * np.eye(24), x.T @ y) for penalty in penalties]
    for step in range(6):
        misses = sorted(float(np.abs(network.linear[:, step].numpy() - each[:, step]).max()) for each in maps)
        assert misses[0] < 1e-3 < misses[1]


def test_a_recursion_without_noise_is_forecast_exactly_and_at_once():
    """A sum of two sines obeys a linear recursion of order five (with its last value taken away): before any step of a
    gradient the forecasts are right."""
    steps = np.arange(400)
    values = 3 + np.sin(steps / 3) + 0.5 * np.sin(steps / 7 + 1)
    frame = pl.DataFrame({"series_id": "s", "timestamp": steps, "target": values})
    panel = Panel.from_frame(frame, "1i")
    parts = windows.split(panel, 50, 50)
    network = solved(panel, parts, scaling="last", **WINDOW)
    model = untrained("gru", task(), base="linear", scaling="last", num_layers=1, **WINDOW)
    model.network.load_state_dict({**model.network.state_dict(), "linear": network.linear})
    with torch.no_grad():
        for parameter in model.network.decoder.parameters():
            parameter.zero_()
    mean, _ = model.tensors_at(panel, Cutoffs(torch.tensor([0, 0]), torch.tensor([360, 390])))
    expected = torch.from_numpy(np.stack([values[361:367], values[391:397]]))
    torch.testing.assert_close(mean.double(), expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    "choices", [WINDOW | {"scaling": "revin"}, {}, {"decoder": "autoregressive", "head": "gaussian"}]
)
def test_gaps_and_short_series_are_taken_as_they_are(choices):
    """Series with gaps, one shorter than a window and a horizon, a constant one: the map is finite and not zero."""
    frame = waves((200, 12, 90), gaps=0.2)
    frame = frame.with_columns(target=pl.when(pl.col("series_id") == "s2").then(5.0).otherwise("target"))
    panel = Panel.from_frame(frame, "1h")
    parts = windows.split(panel, 10, 20)
    network = solved(panel, parts, **choices)
    assert network.linear.isfinite().all()
    assert network.linear.abs().max() > 1e-3


def test_what_lies_beyond_the_training_span_changes_the_map_only_through_the_penalty(monkeypatch):
    monkeypatch.setattr("rnnforecast.training_linear.PENALTIES", (0.1,))
    panel = Panel.from_frame(waves((200,), gaps=0), "1h")
    parts = windows.split(panel, 20, 30)
    later = torch.arange(200) >= int(parts.train_end[0])
    other = replace(panel, values=torch.where(later, 1e3 * torch.rand(200), panel.values))
    maps = [solved(each, parts, scaling="last", **WINDOW).linear for each in (panel, other)]
    assert torch.equal(*maps)


def test_the_training_counts_errors_in_units_of_the_series_and_of_each_step():
    panel = rich_task().panel(rich((120, 90)))
    spread = torch.tensor([[1.0, 1.0, 2.0], [1.0, 1.0, 5.0]])
    for head, loss, degree in (("point", "mae", 1), ("point", "mse", 2), ("quantiles", "mae", 1)):
        model = untrained("gru", rich_task(), head=head, loss=loss, base="linear")
        network = model.network
        network.misses.copy_(torch.linspace(0.5, 1.5, 6))
        spans = Spans(panel, panel.lengths, torch.zeros(2, dtype=torch.int64), 6, network.memory, spread)
        batch = spans.segment(torch.tensor([1, 0]), torch.tensor([40, 60]), steps=5)
        encoding, _ = network.encode(batch.inputs, network.remember(batch.before))
        at = torch.tensor([[1, 3], [0, 2]])
        actual, weight = following(batch, at, 6, bent="none")
        mean, quantiles = network.summary(network.decode(encoding, at))
        unit = torch.tensor([5.0, 2.0])[:, None, None] * network.misses
        if head == "quantiles":
            miss, level = (actual[..., None] - quantiles) / unit[..., None], torch.tensor(rich_task().quantile_levels)
            errors = (2 * torch.maximum(level * miss, (level - 1) * miss)).mean(dim=-1)
        else:
            errors = ((actual - mean) / unit).abs() ** degree
        found = Learner(network, Training(weighting="spread"))._loss(encoding, batch, at)
        assert found.item() == pytest.approx(errors[weight].mean().item(), rel=1e-4)


def test_a_training_keeps_the_map_and_it_survives_the_disk(tmp_path):
    panel = Panel.from_frame(waves((240, 200)), "1h")
    parts = windows.split(panel, 18, 18)
    settings = Training(max_steps=3, batch_size=4, validate_every=3, accelerator="cpu", weighting="spread")
    candidate = Candidate(model="gru", base="linear", hidden_size=4)
    trained = training.fit(task(), candidate, panel, parts, training=settings, progress=False)
    alone = solved(panel, parts, weighting="spread")
    assert torch.equal(trained.model.network.linear, alone.linear)
    trained.model.save(tmp_path)
    again = type(trained.model).load(tmp_path)
    assert again.forecast_at(panel, panel.last).equals(trained.model.forecast_at(panel, panel.last))
