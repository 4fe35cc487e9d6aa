"""The Lightning module: one step, one loss, the optimiser. Nothing else."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from rnnforecast.batches import Segment, remember
from rnnforecast.config import Training
from rnnforecast.nn.head import pinball
from rnnforecast.nn.memory import State
from rnnforecast.nn.network import Network

CUTOFFS_OF_RECURRENT_DECODER = 16  # it runs once per cutoff and step: learn from so many of a segment's steps


class Forecaster(pl.LightningModule):
    """Trains a network on segments: a forecast and a loss at every step after the warm-up (forking sequences,
    Wen et al. 2017), the state carried from segment to segment where the batch says so (truncated
    back-propagation through time, Williams and Peng 1990)."""

    def __init__(self, network: Network, training: Training) -> None:
        super().__init__()
        self.network = network
        self.training_config = training
        self.levels: Tensor
        self.register_buffer("levels", torch.tensor(network.config.quantile_levels))
        self._carried: State | None = None  # of the lanes, between training steps only

    def training_step(self, batch: Segment, batch_idx: int) -> Tensor:
        state = remember(self.network, batch.before, batch.before_mask)
        if self._carried is not None:
            state = state.where(batch.fresh, self._carried)
        encoding, state = self.network.encode(batch.inputs, state)
        self._carried = state.detach()
        loss = self._loss(encoding, batch, self._training_cutoffs(batch))
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch.fresh))
        return loss

    def validation_step(self, batch: Segment, batch_idx: int) -> Tensor:
        state = remember(self.network, batch.before, batch.before_mask)
        encoding, _ = self.network.encode(batch.inputs, state)
        at = torch.nonzero(batch.first[0])[:, 0]
        at = at[torch.linspace(0, len(at) - 1, min(len(at), 32), device=at.device).long()].expand(len(batch.fresh), -1)
        loss = self._loss(encoding, batch, at)
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch.fresh))
        return loss

    def _training_cutoffs(self, batch: Segment) -> Tensor:
        lanes, steps = batch.first.shape
        device = batch.first.device
        if self.network.config.decoder == "direct":
            return torch.arange(steps, device=device).expand(lanes, -1)
        return torch.randint(steps, (lanes, CUTOFFS_OF_RECURRENT_DECODER), device=device)

    def _loss(self, encoding: Any, batch: Segment, at: Tensor) -> Tensor:
        """Mean quantile loss over the cutoffs `at` [B, K] in units of the causal spread."""
        horizon = self.network.config.horizon
        lane = torch.arange(len(at), device=at.device)[:, None]
        ahead = at[:, :, None] + torch.arange(horizon, device=at.device)
        actual, weight = batch.targets[lane[..., None], ahead], batch.target_mask[lane[..., None], ahead]
        weight = weight & batch.first[lane, at][..., None]
        forecast = self.network.decode(encoding, at)
        scaled = (actual - forecast.level[..., None]) / forecast.spread[..., None]
        losses = pinball(forecast.scaled, scaled, self.levels).mean(dim=-1)
        return (losses * weight).sum() / weight.sum().clamp(min=1)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.log("grad_norm", torch.nn.utils.get_total_norm(gradients))  # before clipping

    def configure_optimizers(self) -> Any:
        chosen = self.training_config
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=chosen.learning_rate, total_steps=chosen.max_steps + 1
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
