"""A GRU's training on a processor, where torch's own takes two to four times as long as its LSTM.

torch has a kernel for all steps of an LSTM; a GRU it takes step by step, two dozen operations on a few lanes each, and
back through every one of them. Here a step is six operations forwards and four backwards. What a step's gradient is
multiplied by is worked out for many steps at once, and so is the gradient of the weights.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rnnforecast.nn.tiles import TILE

MOST_NUMBERS = 1 << 14  # of a state, of all lanes: above, the operations of a step are long enough for torch's way
FEWEST_STEPS = 16  # below, so many lanes mostly that it is no slower


def better(layer: nn.GRU, inputs: Tensor) -> bool:
    """Whether a layer learns faster here from inputs [B, T, F]."""
    if not torch.is_grad_enabled() or inputs.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    few = 0 < len(inputs) * layer.hidden_size <= MOST_NUMBERS
    return few and inputs.shape[1] >= FEWEST_STEPS and not layer.bidirectional


def run(layer: nn.GRU, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The layer over inputs [B, T, F] from hidden [1, B, D]: outputs [B, T, D] and the hidden state, as its own."""
    into, again, bias_into, bias_again = layer.all_weights[0]
    outputs, last = _Steps.apply(F.linear(inputs.transpose(0, 1), into, bias_into), hidden[0], again, bias_again)
    return outputs.transpose(0, 1), last[None]


class _Steps(Function):
    """From the inputs' share of the gates [T, B, 3D] (reset, update, candidate; Cho et al. 2014) and a state [B, D] to
    the states after each step [T, B, D] and the last."""

    @staticmethod
    def forward(ctx: Any, shares: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        steps, lanes, size = len(shares), *hidden.shape
        states = hidden.new_empty(steps + 1, lanes, size)
        states[0] = hidden
        gates, candidates = torch.empty_like(shares), hidden.new_empty(steps, lanes, size)
        both = slice(0, 2 * size)
        each = zip(
            states,
            gates,
            gates[..., both],
            *gates.chunk(3, dim=-1),
            shares[..., both],
            shares[..., 2 * size :],
            candidates,
            states[1:],
            strict=False,  # the last state begins no step
        )
        turned = weight.T
        for before, all_, open_, reset, update, inner, share, own, candidate, after in each:
            torch.addmm(bias, before, turned, out=all_)
            open_.add_(share).sigmoid_()
            torch.addcmul(own, reset, inner, out=candidate).tanh_()
            torch.lerp(candidate, before, update, out=after)
        ctx.save_for_backward(gates, candidates, states, weight)
        return states[1:], states[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gates, candidates, states, weight = ctx.saved_tensors
        outputs, (steps, lanes, size) = gradients[0], candidates.shape
        into, of_weight, of_bias = torch.empty_like(gates), torch.zeros_like(weight), weight.new_zeros(len(weight))
        flowing, together = gradients[1].clone(), max(TILE // (lanes * size), 1)
        for stop in range(steps, 0, -together):
            some = slice(max(stop - together, 0), stop)
            before = states[:-1][some]
            factors = _factors(gates[some], candidates[some], before)
            update = gates[some].chunk(3, dim=-1)[1]
            parts = factors.flatten(2)[..., : 3 * size]
            each = zip(outputs[some], factors, parts, update, strict=True)
            for output, factor, part, kept in reversed(list(each)):
                flowing.add_(output)
                factor.mul_(flowing[:, None])
                flowing = torch.addmm(flowing.mul_(kept), part, weight)
            of_weight.addmm_(parts.flatten(0, 1).T, before.flatten(0, 1))
            of_bias.add_(parts.sum(dim=(0, 1)))
            torch.cat([factors[..., :2, :].flatten(2), factors[..., 3, :]], dim=-1, out=into[some])
        return into, flowing, of_weight, of_bias


def _factors(gates: Tensor, candidates: Tensor, before: Tensor) -> Tensor:
    """By what the gradient of the state after a step is multiplied, [t, B, 4, D]: for the recurrent share of reset,
    update and candidate, and for the inputs' share of the candidate."""
    reset, update, inner = gates.chunk(3, dim=-1)
    found = torch.empty(*candidates.shape[:2], 4, candidates.shape[2], dtype=candidates.dtype)
    of_reset, of_update, of_inner, of_own = found.unbind(dim=2)
    closed = 1 - update
    torch.mul(candidates, candidates, out=of_own).neg_().add_(1).mul_(closed)
    torch.mul(of_own, reset, out=of_inner)
    torch.mul(of_inner, inner, out=of_reset).mul_(1 - reset)
    torch.sub(before, candidates, out=of_update).mul_(update).mul_(closed)
    return found
