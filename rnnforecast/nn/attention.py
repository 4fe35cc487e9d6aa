"""Attention: a weighted mean of the encoder's states, with weights that the decoder's state asks for."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

AttentionName = Literal["additive", "dot"]


class Attention(nn.Module):
    """Looks over the encoder's states: `additive` (Bahdanau et al. 2015: v . tanh(W q + U s)) or `dot` (scaled dot
    product of query and key: Luong et al. 2015, Vaswani et al. 2017).

    The keys are a projection of the states that does not depend on the query: make them once per forecast.
    """

    def __init__(self, hidden_size: int, kind: AttentionName) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)  # a bias would add to the query's
        self.score = nn.Linear(hidden_size, 1, bias=False) if kind == "additive" else None

    def keys(self, states: Tensor) -> Tensor:
        """states [N, A, D]; returns [N, A, D]."""
        found: Tensor = self.key(states)
        return found

    def forward(self, hidden: Tensor, *, keys: Tensor, states: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What is read [N, D] and the weights [N, A], for the decoder's state `hidden` [N, D].

        keys of `keys(states)`; where `valid` [N, A] is False the weight is 0 (at least one must be True).
        """
        query = self.query(hidden)
        if self.score is None:
            scores = (keys @ query[:, :, None])[..., 0] / math.sqrt(keys.shape[-1])
        else:
            scores = self.score(torch.tanh(query[:, None] + keys))[..., 0]
        weights = scores.to(states.dtype).masked_fill(~valid, -math.inf).softmax(dim=-1)
        return (weights[:, None] @ states)[:, 0], weights
