"""What heads promise: likelihoods as scipy computes them, quantiles in order, numbers that stay numbers."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rnnforecast.config_parts import Parts
from rnnforecast.nn import transform
from rnnforecast.nn.head import QuantileHead, build, mean_weights, quantiles

LEVELS = (0.05, 0.1, 0.5, 0.9, 0.99)
HEADS = ("quantiles", "point", "gaussian", "student_t", "negative_binomial")
DISTRIBUTIONS = HEADS[2:]
HORIZON = 4


def head(name, **parts):
    return build(Parts(head=name, **parts), HORIZON, LEVELS)


def drawn(found, *, size=30, wild=2.0, seed=0):
    """Raw outputs, bases, actual values and scales of a head, in float64, [size, H] each."""
    random = torch.Generator().manual_seed(seed)
    shape = (size, HORIZON)
    raw = wild * torch.randn(*shape, found.outputs, generator=random, dtype=torch.float64)
    base, actual, scale = (torch.rand(*shape, generator=random, dtype=torch.float64) for _ in range(3))
    return raw, 3 * base, 3 * actual, 0.5 + 5 * scale


def frozen(name, raw, base, scale):
    """The distribution of scipy.stats that raw outputs mean, and what it counts in (scaled units or counts)."""
    first, second, *more = (raw[..., i].numpy() for i in range(raw.shape[-1]))
    softplus = lambda x: np.logaddexp(0.0, x)  # noqa: E731
    base, scale = base.numpy(), scale.numpy()
    if name == "gaussian":
        return stats.norm(base + first, softplus(second) + 1e-4), 1.0
    if name == "student_t":
        return stats.t(2 + softplus(more[0]), base + first, softplus(second) + 1e-4), 1.0
    mean = (softplus(first + np.log(np.expm1(np.maximum(base, 1e-2)))) + 1e-8) * scale
    number = 1 / (softplus(second) + 1e-6)
    return stats.nbinom(number, number / (number + mean)), scale


@pytest.mark.parametrize("name", ["gaussian", "student_t"])
def test_the_loss_is_the_negative_log_likelihood_of_scipy(name):
    found = head(name)
    raw, base, actual, scale = drawn(found)
    expected, _ = frozen(name, raw, base, scale)
    loss = found.loss(raw, base, actual, scale=scale)
    assert loss.numpy() == pytest.approx(-expected.logpdf(actual.numpy()), rel=1e-9)


@pytest.mark.parametrize("shape", [-50.0, -5.0, 0.0, 5.0])
def test_the_loss_of_counts_is_the_negative_log_likelihood_of_scipy(shape):
    found = head("negative_binomial")
    raw, base, _, scale = drawn(found)
    raw[..., 1] = shape
    counts = torch.arange(30.0, dtype=torch.float64)[:, None].expand(-1, HORIZON)
    expected, _ = frozen("negative_binomial", raw, base, scale)
    loss = found.loss(raw, base, counts / scale, scale=scale)
    assert loss.numpy() == pytest.approx(-expected.logpmf(counts.numpy()), rel=1e-6, abs=1e-9)


def test_counts_of_least_shape_are_poisson():
    found = head("negative_binomial")
    raw = torch.tensor([[0.0, -50.0]] * HORIZON)
    base, scale = torch.full((HORIZON,), 2.5), torch.full((HORIZON,), 10.0)
    counts = torch.tensor([0.0, 10.0, 25.0, 60.0])
    loss = found.loss(raw, base, counts / scale, scale=scale)
    assert loss.tolist() == pytest.approx(-stats.poisson(25).logpmf(counts.numpy()), rel=1e-3)
    expected = stats.poisson(25).ppf(LEVELS)
    assert (found.quantiles(raw, base, scale=scale)[0] * 10).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_quantiles_are_those_of_scipy(name):
    found = head(name)
    raw, base, _, scale = drawn(found)
    expected, unit = frozen(name, raw, base, scale)
    for index, level in enumerate(LEVELS):
        of_level = found.quantiles(raw, base, scale=scale)[..., index].numpy()
        assert of_level == pytest.approx(expected.ppf(level) / unit, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_mean_is_that_of_scipy_and_the_location_is_fed_back_in_scaled_units(name):
    found = head(name)
    raw, base, _, scale = drawn(found)
    expected, unit = frozen(name, raw, base, scale)
    mean = found.mean(raw, base, scale=scale)
    assert mean.numpy() == pytest.approx(expected.mean() / unit, rel=1e-9)
    assert torch.equal(found.location(raw, base), mean)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_samples_are_the_quantiles_at_the_uniform_numbers(name):
    found = head(name)
    raw, base, _, scale = drawn(found)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    together = found.quantiles(raw, base, scale=scale)
    for index in range(len(LEVELS)):
        sample = found.sample(raw, base, levels[index].expand_as(base), scale=scale)
        torch.testing.assert_close(sample, together[..., index])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_many_samples_have_the_mean_and_deviation_of_the_distribution(name):
    found = head(name)
    raw = torch.tensor([0.7, -0.3, 3.0])[: found.outputs].expand(100_000, -1)
    base, scale = torch.full((100_000,), 2.0), torch.full((100_000,), 4.0)
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000  # every quantile once: no luck needed
    sample = found.sample(raw, base, uniform, scale=scale).double()
    expected, unit = frozen(name, raw[:1].double(), base[:1].double(), scale[:1].double())
    assert float(sample.mean()) == pytest.approx((expected.mean() / unit).item(), rel=1e-3)
    assert float(sample.std()) == pytest.approx((expected.std() / unit).item(), rel=1e-2)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_uniform_number_at_the_very_end_still_gives_a_number(name):
    found = head(name)
    raw, base, _, scale = (part.float() for part in drawn(found, size=2))
    for end in (0.0, 1.0):
        assert found.sample(raw, base, torch.full_like(base, end), scale=scale).isfinite().all()


def test_counts_are_whole_numbers_and_not_negative():
    found = head("negative_binomial")
    raw, base, actual, scale = drawn(found)
    for counts in (
        found.quantiles(raw, base, scale=scale) * scale[..., None],
        found.sample(raw, base, actual / 3, scale=scale) * scale,
    ):
        assert counts.numpy() == pytest.approx(counts.round().numpy(), abs=1e-9)
        assert (counts >= 0).all()


def test_counts_without_a_base_begin_at_one_softplus_of_the_raw_output():
    found = head("negative_binomial", base="none")
    base = torch.zeros(3, HORIZON)
    mean = found.location(torch.zeros(3, HORIZON, 2), base)
    assert mean.flatten().tolist() == pytest.approx([np.log(2)] * 12)


def test_a_zero_raw_output_leaves_the_base_as_it_is():
    base = torch.tensor([0.01, 0.7, 3.0, 250.0])
    for name in HEADS:
        found = head(name)
        assert found.location(torch.zeros(HORIZON, found.outputs), base).tolist() == pytest.approx(
            base.tolist(), rel=1e-5
        )


@pytest.mark.parametrize("name", HEADS)
@settings(deadline=None, max_examples=40)
@given(
    raw=st.lists(st.floats(-50, 50, width=32), min_size=len(LEVELS), max_size=len(LEVELS)),
    base=st.floats(-30, 30, width=32),
    actual=st.floats(-100, 1000, width=32),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_no_raw_output_makes_a_number_that_is_none_and_quantiles_never_cross(name, raw, base, actual, scale):
    found = head(name)
    outputs = torch.tensor(raw[: found.outputs]).expand(HORIZON, -1).clone().requires_grad_()
    bases, actuals, scales = (torch.full((HORIZON,), value) for value in (base, actual, scale))
    loss = found.loss(outputs, bases, actuals, scale=scales)
    loss.sum().backward()
    assert loss.shape == (HORIZON,)
    assert loss.isfinite().all()
    assert outputs.grad.isfinite().all()
    with torch.no_grad():
        forecast = found.quantiles(outputs, bases, scale=scales)
        assert forecast.shape == (HORIZON, len(LEVELS))
        assert forecast.isfinite().all()
        assert (forecast.diff(dim=-1) >= 0).all()
        assert found.mean(outputs, bases, scale=scales).isfinite().all()


@pytest.mark.parametrize("name", HEADS)
def test_training_a_head_alone_finds_the_middle_of_the_data(name):
    """Counts of mean 6 around 6: every head's location must get there from a base of 2."""
    actual = torch.from_numpy(np.random.default_rng(0).poisson(6.0, (500, 1))).float()
    found = head(name)
    raw = torch.zeros(1, found.outputs, requires_grad=True)
    base, scale = torch.full_like(actual, 2.0), torch.ones_like(actual)
    optimiser = torch.optim.Adam([raw], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        found.loss(raw.expand(500, 1, -1), base, actual, scale=scale).mean().backward()
        optimiser.step()
    assert found.location(raw.detach().expand(500, 1, -1), base)[0].item() == pytest.approx(6.0, abs=0.35)


@pytest.mark.parametrize(("name", "kept"), [(name, {"offsets"} if name == "point" else set()) for name in HEADS])
def test_only_what_was_learned_is_saved_with_the_network(name, kept):
    assert set(head(name).state_dict()) == kept


@pytest.mark.parametrize("name", HEADS)
def test_half_precision_outputs_beside_full_precision_bases_lose_nothing_else(name):
    found = head(name)
    raw, base, actual, scale = (part.float() for part in drawn(found))
    coarse = raw.bfloat16()
    for way in (lambda r: found.loss(r, base, actual, scale=scale), lambda r: found.location(r, base)):
        assert way(coarse).dtype == torch.float32
        torch.testing.assert_close(way(coarse), way(coarse.float()))


# Quantiles


def test_quantiles_never_cross_and_the_median_corrects_the_base():
    found = head("quantiles")
    raw, base, _, scale = drawn(found, wild=30.0)
    forecast = found.quantiles(raw, base, scale=scale)
    assert (forecast.diff(dim=-1) >= 0).all()
    torch.testing.assert_close(forecast[..., 2], base + raw[..., 2])
    torch.testing.assert_close(forecast, base[..., None] + quantiles(raw, 2))


def test_the_quantile_loss_is_the_mean_pinball_loss_of_a_slow_loop():
    found = head("quantiles")
    raw, base, actual, scale = drawn(found, size=5)
    loss = found.loss(raw.float(), base.float(), actual.float(), scale=scale)
    for row, step in product(range(5), range(HORIZON)):
        expected = []
        for level, forecast in zip(LEVELS, found.quantiles(raw, base, scale=scale)[row, step].tolist(), strict=True):
            miss = actual[row, step].item() - forecast
            expected.append(2 * max(level * miss, (level - 1) * miss))
        assert float(loss[row, step]) == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_mean_of_quantiles_integrates_the_quantile_function():
    """A uniform distribution on (0, 1), whose quantiles are the levels: the mean is 0.5, but for the flat ends."""
    levels = tuple(np.linspace(0.01, 0.99, 99).round(2).tolist())
    found = QuantileHead(levels)
    median = 49
    steps = np.full(99, np.log(np.expm1(0.01)))
    steps[median] = 0.5
    raw = torch.tensor(steps).float()[None]
    assert found.mean(raw, torch.zeros(1), scale=torch.ones(1)).item() == pytest.approx(0.5, abs=1e-4)
    assert mean_weights((0.1, 0.5, 0.9)) == pytest.approx([0.3, 0.4, 0.3])


def test_quantiles_have_nothing_to_draw_from():
    found = head("quantiles")
    raw, base, actual, scale = drawn(found)
    with pytest.raises(ValueError, match="choose head gaussian, student_t or negative_binomial"):
        found.sample(raw, base, actual, scale=scale)


# Point


@pytest.mark.parametrize(("loss", "expected"), [("mae", [0.5, 3.0]), ("mse", [0.25, 9.0]), ("huber", [0.125, 2.5])])
def test_the_loss_of_a_point_is_the_one_chosen(loss, expected):
    found = head("point", loss=loss)
    raw, base = torch.tensor([[0.5], [-1.0]]), torch.tensor([1.0, 2.0])
    actual = torch.tensor([2.0, 4.0])  # misses of 0.5 and 3
    assert found.loss(raw, base, actual, scale=torch.ones(2)).tolist() == expected


def test_a_point_lies_in_the_middle_and_its_quantiles_are_its_offsets_around_it():
    found = head("point")
    raw, base, _, scale = (part.float() for part in drawn(found))
    found.offsets = torch.randn(HORIZON, len(LEVELS)).sort(dim=-1).values
    mean, forecast = found.summary(raw, base, scale=scale)
    assert torch.equal(mean, base + raw[..., 0])
    torch.testing.assert_close(forecast, mean[..., None] + found.offsets)
    assert torch.equal(found.sample(raw, base, base, scale=scale), mean)
    assert torch.equal(found.quantiles(raw, base, scale=scale), mean[..., None].expand_as(forecast))


@pytest.mark.parametrize("name", ["quantiles", "gaussian", "student_t"])
def test_offsets_move_the_quantiles_of_any_head_and_they_do_not_cross(name):
    found, plain = head(name, conformal=True), head(name)
    raw, base, _, scale = (part.float() for part in drawn(found, wild=0.3))
    _, before = plain.summary(raw, base, scale=scale)
    assert torch.equal(found.summary(raw, base, scale=scale)[1], before)  # none yet
    found.offsets = torch.randn(HORIZON, len(LEVELS))
    _, after = found.summary(raw, base, scale=scale)
    width = (before[..., -1:] - before[..., :1]).numpy()
    expected = np.sort(before.numpy() + found.offsets.numpy() * width, axis=-1)
    np.testing.assert_allclose(after.numpy(), expected, rtol=1e-5, atol=1e-5)
    if name == "quantiles":  # the mean is that of what is forecast
        mean, _ = found.summary(raw, base, scale=scale)
        torch.testing.assert_close(mean, after @ torch.tensor(mean_weights(LEVELS)))


# Transforms


@settings(deadline=None)
@given(
    st.lists(st.floats(2.0**-20, 2.0**20, width=32), min_size=1, max_size=9), st.sampled_from(["none", "log", "asinh"])
)
def test_a_transform_is_undone_by_its_inverse(values, name):
    given_values = torch.tensor(values)
    back = transform.inverse(name, transform.forward(name, given_values))
    torch.testing.assert_close(back, given_values, rtol=1e-5, atol=1e-6)
    if name != "log":
        back = transform.inverse(name, transform.forward(name, -given_values))
        torch.testing.assert_close(back, -given_values, rtol=1e-5, atol=1e-6)


def test_transforms_keep_what_is_missing_missing_and_never_make_anything_else_so():
    values = torch.tensor([-1e30, -1.0, 0.0, 1e-38, 1e30])
    for name in ("none", "log", "asinh"):
        assert transform.forward(name, torch.tensor([torch.nan])).isnan().all()
        assert transform.forward(name, values).isfinite().all()
        wide = transform.inverse(name, torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4]))
        assert wide.isfinite().all()
        assert (wide.diff() >= 0).all()
    assert transform.forward("log", torch.tensor([np.e])).item() == pytest.approx(1)
    assert transform.forward("asinh", torch.tensor([2.0])).item() == pytest.approx(np.log(2 + np.sqrt(5)))
