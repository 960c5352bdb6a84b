"""One step of training: batches through the network, gradients averaged, clipped and applied."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import isfinite
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from volseg.errors import ConfigError, TrainingError
from volseg.infer.sliding import TilePlacing
from volseg.models.extents import ExtentRule
from volseg.train.bad_batch import save_bad_batch
from volseg.train.distributed import Ranks
from volseg.train.losses.heads import training_loss
from volseg.train.optimise import make_optimizer, update_average
from volseg.train.precision import Precision
from volseg.train.samples.patches import Batch
from volseg.train.settings import TrainConfig
from volseg.train.targets import TargetCode, answered

_SMALLEST_SCALE = 1e-4
"""A gradient scale below this means that the gradients are never finite, however small the loss is made (it starts at
65536 and is halved by each step that is skipped)."""


class Stepper:
    """A network in training: its weights, the optimizer's state and the averaged weights.

    Where its logits are smaller than a patch, by `margins` on each face, the middle of the labels is its truth.

    Args:
        module: the network, on its device; its parameters are changed in place.
        config: the settings.
        code: from label indices to channels.
        precision: of the forward pass, from choose_precision.
        ranks: the processes whose gradients are averaged.
    """

    def __init__(
        self, module: nn.Module, config: TrainConfig, code: TargetCode, *, precision: Precision, ranks: Ranks
    ) -> None:
        self.module, self.config, self.code, self.ranks = module, config, code, ranks
        self.device = next(module.parameters()).device
        self.margins = TilePlacing.of(cast(ExtentRule, module.extents)).margins
        self._is_2d = config.architecture.dimensions == 2
        self._layout = memory_layout(config)
        cast(Any, module).to(memory_format=self._layout)  # torch declares no such overload
        if config.gradient_checkpointing:
            recompute_activations(module)
        self._network = cast(nn.Module, torch.compile(module)) if config.compile else module
        self._precision = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.optimizer = make_optimizer(module, config.optimizer)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.average = {name: value.clone() for name, value in module.state_dict().items()}

    def gradients(self, batches: Sequence[Batch], *, progress: float) -> float:
        """Add up the gradients of the batches of a step and return their mean loss in this process.

        At the first loss that is not finite it stops and returns that loss; the gradients are then worthless.

        Args:
            batches: `config.accumulate` of them.
            progress: 0 at the first step of the training, 1 at the last.
        """
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses: list[float] = []
        for batch in batches:
            loss = self._loss(batch, progress)
            losses.append(loss.item())
            if not isfinite(losses[-1]):
                return losses[-1]
            self.scaler.scale(loss / len(batches)).backward()
        return sum(losses) / len(losses)

    def apply(self, step: int, rate: float) -> bool:
        """Average the gradients over the processes, clip them, move the weights, then their average.

        Args:
            step: counts from 1.
            rate: learning rate.

        Returns:
            Whether the gradients were finite. In fp16 the scaler skips a step with infinite ones and lowers its scale;
            False is then given only when that no longer helps.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.ranks.average_gradients(self.module.parameters())
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.optimizer.clip_norm)
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            return False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ranks.share_buffers(self.module)
        update_average(self.average, self.module, step, self.config.optimizer.ema_decay)
        return not self.scaler.is_enabled() or self.scaler.get_scale() > _SMALLEST_SCALE

    def state(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint keeps, under the names of the network that is not compiled."""
        return {
            "module": self.module.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, dict[str, Any]]) -> None:
        """Take up the state of a checkpoint."""
        self.module.load_state_dict(state["module"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    def _loss(self, batch: Batch, progress: float) -> Tensor:
        images = batch.images.to(self.device, non_blocking=True)
        images = (images.squeeze(-1) if self._is_2d else images).contiguous(memory_format=self._layout)
        labels = answered(batch.labels, self.margins)
        target = self.code.encode(labels.to(self.device, non_blocking=True))
        with self._autocast():
            heads = self._network(images)
        heads = heads if isinstance(heads, list) else [heads]
        heads = [head.unsqueeze(-1) for head in heads] if self._is_2d else heads
        return training_loss(heads, target, self.config.loss, progress=progress)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self._precision, enabled=self._precision is not None)


def memory_layout(config: TrainConfig) -> torch.memory_format:
    """How the tensors of the network lie in memory."""
    if not config.channels_last:
        return torch.contiguous_format
    return torch.channels_last if config.architecture.dimensions == 2 else torch.channels_last_3d


def recompute_activations(module: nn.Module) -> None:
    """Switch gradient checkpointing on.

    Raises:
        ConfigError: the architecture has no such mode.
    """
    switch = getattr(module, "recompute", None)
    if switch is None:
        raise ConfigError(
            f"gradient_checkpointing: {type(module).__name__} cannot compute its activations again; set it to false."
        )
    switch(on=True)


def broken_training(
    batches: Sequence[Batch], what: str, folder: Path, *, precision: str, rank: int
) -> TrainingError:
    """Save the batches of the step that broke a training, and say what happened and what to try.

    Args:
        batches: of this process.
        what: such as "the loss became nan".
        folder: the run folder.
        precision: the one that was computed in.
        rank: of this process.
    """
    path = save_bad_batch(batches, folder, rank=rank)
    wider = "precision=bf16 (where the GPU can) or fp32, or " if precision == "fp16" else ""
    return TrainingError(
        f"{what} at step {batches[0].step}, so the training cannot go on. The batch is in {path}; the checkpoints in "
        f"{folder} are from before. If the images there look right, train again with {wider}a lower "
        "optimizer.learning_rate or more optimizer.warmup_steps."
    )
