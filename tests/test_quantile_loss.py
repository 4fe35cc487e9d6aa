"""The quantile loss and the gradient that it makes itself, against finite differences and a slow composition."""

import pytest
import torch

from rnnforecast.nn.head import quantiles
from rnnforecast.nn.quantile_loss import quantile_loss

LEVELS = (0.05, 0.1, 0.5, 0.9, 0.99)


@pytest.mark.parametrize("levels", [(0.5,), (0.5, 0.9), (0.1, 0.5), LEVELS])
def test_the_gradient_of_the_quantile_loss_is_that_of_finite_differences(levels):
    random = torch.Generator().manual_seed(0)
    shapes = ((6, 4, len(levels)), (6, 4), (6, 4))
    raw, centre, actual = (torch.randn(each, generator=random).double().requires_grad_() for each in shapes)
    given = quantile_loss(raw, centre, actual, levels=levels)
    torch.testing.assert_close(given, slow_quantile_loss(raw, centre, actual, levels))
    assert torch.autograd.gradcheck(lambda *x: quantile_loss(*x, levels=levels), (raw, centre, actual))


def slow_quantile_loss(raw, centre, actual, levels):
    miss = actual[..., None] - centre[..., None] - quantiles(raw, levels.index(0.5))
    return torch.maximum(2 * torch.tensor(levels) * miss, 2 * (torch.tensor(levels) - 1) * miss).mean(dim=-1)


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_the_quantile_loss_is_least_at_the_quantile(level):
    actual = torch.linspace(0, 1, 1001)
    grid = torch.linspace(0.01, 0.99, 99)  # how far the quantile lies from the median
    levels = tuple(sorted((0.5, level)))
    raw = torch.zeros(99, 1, 2)
    raw[:, 0, levels.index(level)] = grid.expm1().log()
    losses = quantile_loss(raw.expand(-1, 1001, -1), torch.tensor(0.5), actual, levels=levels).mean(dim=1)
    assert grid[losses.argmin()].item() == pytest.approx(abs(level - 0.5), abs=0.011)
