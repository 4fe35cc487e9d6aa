"""The Lightning module: one step, one loss, the optimiser. Nothing else."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from rnnforecast.batches import PROCESS_SEED, Segment
from rnnforecast.config import Training
from rnnforecast.config_parts import Transform
from rnnforecast.learner_weighting import weights
from rnnforecast.nn import transform
from rnnforecast.nn.memory import State
from rnnforecast.nn.network import Encoding, Network
from rnnforecast.nn.places import Places
from rnnforecast.nn.teaching import teacher_forcing_ratio

CHEAP_DECODERS = ("direct", "autoregressive")  # all steps of a segment can be decoded in one product
CUTOFFS_OF_OTHERS = 16  # one that runs once per cutoff and step learns from so many of a segment's steps
VALIDATION_CUTOFFS = 32
RECORDED = 10  # every so many training steps


class Learner(pl.LightningModule):
    """Trains a network on segments: a forecast and a loss at every step after the warm-up (forking sequences,
    Wen et al. 2017), the state carried from segment to segment where the batch says so (truncated
    back-propagation through time, Williams and Peng 1990)."""

    def __init__(self, network: Network, training: Training) -> None:
        super().__init__()
        self.network = network
        self.training_config = training
        self._carried: State | None = None  # of the lanes, between training steps only

    def training_step(self, batch: Segment, batch_idx: int) -> Tensor:
        loss = self.segment_loss(batch, self.global_step)
        if recorded(self.global_step + 1):
            self.log("train_loss", loss, prog_bar=True, batch_size=len(batch.fresh))
        return loss

    def transfer_batch_to_device(self, batch: Segment, device: torch.device, dataloader_idx: int) -> Any:
        if batch.fresh.device == device:  # resident: its many parts need not be looked at one by one
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def segment_loss(self, batch: Segment, number: int) -> Tensor:
        """The loss of training step `number`; the state that its lanes end in is where the next one begins."""
        # What is drawn in a step (dropout, cutoffs, teacher forcing) follows from its number: a training that goes
        # on from a checkpoint draws what the one that never stopped would have.
        # (`torch.manual_seed` would look for devices, and keep a stack trace of each call where it finds none.)
        seed = torch.manual_seed if self.device.type != "cpu" else torch.default_generator.manual_seed
        seed(self.training_config.seed * 1_000_003 + number + self.global_rank * PROCESS_SEED)
        encoding, forced = self._encoding(batch), self._teacher_forcing(number)
        return self._loss(encoding, batch, self._training_cutoffs(batch), teacher_forcing=forced)

    def _encoding(self, batch: Segment) -> Encoding:
        if batch.windows is not None:
            return self.network.described(batch.windows)
        state = self.network.remember(batch.before)
        if self._carried is not None:
            state = state.where(batch.fresh, self._carried)
        encoding, state = self.network.encode(batch.inputs, state)
        if not self.network.config.window:  # a window carries nothing
            self._carried = state.detach()
        return encoding

    @torch.no_grad()
    def loss_afresh(self, batch: Segment) -> float:
        """The training loss of a segment whose lanes all begin afresh, with the same draws each time."""
        carried, self._carried = self._carried, None
        loss = float(self.segment_loss(batch, 0))
        self._carried = carried
        return loss

    def validation_step(self, batch: Segment, batch_idx: int) -> Tensor:
        encoding, _ = self.network.encode(batch.inputs, self.network.remember(batch.before))
        at = validation_cutoffs(batch)
        loss = self._loss(encoding, batch, at)
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch.fresh), sync_dist=True)
        return loss

    def _training_cutoffs(self, batch: Segment) -> Tensor | None:
        """The cutoffs [B, K] of a training step; None: every step."""
        lanes, steps = batch.first.shape
        device, wanted = batch.first.device, self.training_config.cutoffs_per_segment
        if wanted == "auto":
            wanted = steps if self.network.config.parts.decoder in CHEAP_DECODERS else CUTOFFS_OF_OTHERS
        if wanted >= steps:
            return None
        return torch.randint(steps, (lanes, wanted), device=device)

    def _teacher_forcing(self, number: int) -> float:
        parts = self.network.config.parts
        progress = number / self.training_config.max_steps
        return teacher_forcing_ratio(parts.teacher_forcing_schedule, parts.teacher_forcing_ratio, min(progress, 1.0))

    def _loss(self, encoding: Encoding, batch: Segment, at: Tensor | None, *, teacher_forcing: float = 0.0) -> Tensor:
        """Mean loss over the cutoffs `at` [B, K] (None: every step) and their steps that may be learned from."""
        config = self.network.config
        actual, weight = following(batch, at, config.learned_horizon, bent=config.parts.transform)
        told = actual.where(weight, torch.nan) if teacher_forcing else None
        forecast = self.network.decode(encoding, at, actual=told, teacher_forcing=teacher_forcing)
        losses, how = self.network.loss(forecast, actual), self.training_config.weighting
        degree = self.network.head.degree
        if how != "scale":
            counts = weights(how, forecast.scale, actual, units=batch.units, bend=config.parts.transform)
            losses = losses * counts**degree
        if self.network.misses is not None:
            losses = losses / self.network.misses**degree
        counted = weight.to(losses.dtype)
        return (losses * counted).sum() / counted.sum().clamp(min=1)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if recorded(self.global_step + 1):
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            self.log("grad_norm", torch.nn.utils.get_total_norm(gradients))  # before clipping

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["carried"] = None if self._carried is None else [self._of_all(part) for part in self._carried]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        carried = checkpoint["carried"]
        mine = None if carried is None else [part[self.global_rank].to(self.device) for part in carried]
        self._carried = None if mine is None else State(*mine)

    def _of_all(self, part: Tensor) -> Tensor:
        """A tensor of every process, [processes, ...]: each has lanes of its own."""
        if not part.numel():
            return part.expand(self.trainer.world_size, *part.shape)
        found = self.all_gather(part.byte() if part.dtype == torch.bool else part)
        return torch.as_tensor(found).to(part.dtype).reshape(self.trainer.world_size, *part.shape)

    def configure_optimizers(self) -> Any:
        chosen = self.training_config
        assert chosen.learning_rate != "auto"  # found before training begins
        optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=chosen.learning_rate,
            weight_decay=chosen.weight_decay,
            fused="mixed" not in chosen.precision,  # Lightning clips no gradients of a fused one that are mixed
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=chosen.learning_rate, total_steps=chosen.max_steps + 1
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def recorded(step: int) -> bool:
    """Whether this training step, counted from 1, tells its loss: a note takes Lightning a millisecond."""
    return step == 1 or step % RECORDED == 0


def following(batch: Segment, at: Tensor | None, horizon: int, *, bent: Transform) -> tuple[Tensor, Tensor]:
    """What came after the cutoffs `at` [B, K] (None: every step): transformed values, and whether they may be learned
    from, [R, K, H] each."""
    places = Places(batch.first.shape[1], at)
    channels = len(batch.targets) // len(batch.first)
    may = places.of(batch.first).repeat_interleave(channels, dim=0)
    values = places.windows(transform.forward(bent, batch.targets), 0, horizon)
    return values, places.windows(batch.target_mask, 0, horizon) & may[..., None]


def validation_cutoffs(batch: Segment, most: int = VALIDATION_CUTOFFS) -> Tensor:
    """Evenly spread cutoffs [B, K] where a loss may stand, so many at most."""
    at = torch.nonzero(batch.first[0])[:, 0]
    count = min(len(at), most)
    return at[torch.linspace(0, len(at) - 1, count, device=at.device).long()].expand(len(batch.fresh), -1)
