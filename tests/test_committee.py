"""Members of a committee forecast as they would alone; the committee's forecast is their mean, and is stored whole."""

import json

import polars as pl
import pytest
import torch
from builders import rich, rich_task, task, untrained, waves

from rnnforecast import training, windows
from rnnforecast.batches import gather
from rnnforecast.config import Candidate, Training
from rnnforecast.forecast import forecast, load_model
from rnnforecast.nn.committee import Committee
from rnnforecast.nn.sampling import predict
from rnnforecast.panel import Panel
from rnnforecast.recurrent import RecurrentModel
from rnnforecast.stream import Stream

PARTS = [
    {"name": "gru"},
    {"name": "lstm", "patch_length": 3},
    {"name": "attention", "attention_length": 12},
    {"name": "segrnn", "context_length": 24, "patch_length": 3, "num_layers": 1},
    {"name": "deepar", "sample_paths": 10},
    {"name": "gru", "embedding_size": 4, "start": "static"},
]
COLUMNS = ["mean", "q0.1", "q0.5", "q0.9"]


def committee(of, **parts):
    """Three networks of random weights, and the committee of them."""
    known = ("s0",) if "embedding_size" in parts else ()
    alone = [untrained(of=of, seed=seed, entities=known, **parts) for seed in (1, 2, 3)]
    for one in alone[1:]:  # the units of one training span
        for name in ("past_stats", "known_stats", "static_stats", "target_stats"):
            getattr(one.network, name).copy_(getattr(alone[0].network, name))
    seated = Committee([each.network for each in alone])
    return alone, RecurrentModel(of, alone[0].candidate, seated, entities=known)


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "-".join(map(str, parts.values())))
def test_a_committee_forecasts_the_mean_of_its_members(parts, tmp_path):
    of, frame = rich_task(), rich((70, 50))
    panel = of.panel(frame)
    cutoffs = windows.rolling(torch.tensor([40, 30]), panel.lengths, of.horizon, 5)
    alone, together = committee(of, **parts)
    expected = [each.forecast_at(panel, cutoffs) for each in alone]
    found = together.forecast_at(panel, cutoffs)
    for column in COLUMNS:
        mean = sum(each[column].to_numpy() for each in expected) / 3
        assert found[column].to_numpy() == pytest.approx(mean, rel=1e-5, abs=1e-6)
    together.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["members"] == 3
    assert load_model(tmp_path).forecast_at(panel, cutoffs).equals(found)


@pytest.mark.parametrize(
    "parts", [part for part in PARTS if part["name"] != "segrnn"], ids=lambda parts: "-".join(map(str, parts.values()))
)
def test_the_state_of_a_committee_goes_on_from_piece_to_piece(parts):
    of = rich_task()
    panel = of.panel(rich((70, 70)))
    _, together = committee(of, **parts)
    net, codes, lanes = together.network, together.codes(panel), torch.arange(2)
    with torch.inference_mode():
        state = net.initial_state(panel.static, codes)
        whole, _ = net.encode(gather(panel, lanes, torch.zeros(2, dtype=torch.int64), 60, of.horizon, codes), state)
        for start, steps in ((0, 23), (23, 1), (24, 36)):
            inputs = gather(panel, lanes, torch.full((2,), start), steps, of.horizon, codes)
            piece, state = net.encode(inputs, state)
        expected = predict(net, whole, torch.tensor([[59], [59]]))
        found = predict(net, piece, torch.tensor([[35], [35]]))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "-".join(map(str, parts.values())))
def test_a_stream_of_a_committee_forecasts_what_a_pass_would(parts):
    of, frame = rich_task(), rich((70, 50))
    begins = pl.col("timestamp") < pl.col("timestamp").min() + pl.duration(hours=30)
    ends = pl.col("timestamp").max().over("series_id") - pl.duration(hours=of.horizon)
    frame = frame.with_columns(target=pl.when(pl.col("timestamp") <= ends).then("target"))
    _, together = committee(of, **parts)
    stream = Stream.start(together, frame.filter(begins))
    for _, rows in frame.filter(~begins).sort("timestamp").group_by("timestamp", maintain_order=True):
        stream.update(rows)
    found, expected = stream.forecast().sort("series_id", "step"), forecast(together, frame).sort("series_id", "step")
    assert found["timestamp"].equals(expected["timestamp"])
    for column in COLUMNS:
        assert found[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-4, abs=1e-4)


def test_members_are_trained_from_the_seeds_that_follow_each_as_it_would_be_alone(tmp_path):
    panel = Panel.from_frame(waves((240, 200)), "1h")
    chosen = Training(max_steps=10, batch_size=4, validate_every=5, segment_length=48, seed=4, accelerator="cpu")

    def fit(folder=None, **changes):
        settings = chosen.model_copy(update=changes)
        parts = windows.split(panel, 18, 18)
        candidate = Candidate(model="gru", hidden_size=8)
        return training.fit(task(), candidate, panel, parts, training=settings, progress=False, checkpoints=folder)

    both, again = fit(tmp_path, members=2), fit(tmp_path, members=2)  # the second finds both trained
    alone = [fit(seed=seed) for seed in (4, 5)]
    for number, one in enumerate(alone):
        for name, part in one.model.network.state_dict().items():
            assert torch.equal(part, both.model.network.members[number].state_dict()[name])
            assert torch.equal(part, again.model.network.members[number].state_dict()[name])
    assert both.best_validation == pytest.approx(sum(one.best_validation for one in alone) / 2)
    assert [row["step"] for row in both.history if "val_loss" in row] == [5, 10, 15, 20]
