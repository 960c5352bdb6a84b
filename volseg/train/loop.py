"""The training loop: batches in, checkpoints, a log and curves out; resumes exactly where it stopped."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import yaml
from torch import nn

from volseg.config import check_config, dump_config
from volseg.errors import InputError, TrainingError
from volseg.infer.engines import choose_device, keep_memory_mapped
from volseg.train.cache import CachedCase
from volseg.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from volseg.train.log import TrainLog, draw_curves
from volseg.train.losses import deep_supervision
from volseg.train.optimise import (
    check_extents,
    check_precision,
    learning_rate,
    make_optimizer,
    update_average,
)
from volseg.train.patches import Batch, PatchSampler
from volseg.train.settings import TrainConfig
from volseg.train.validate import validation_dice

_LOG_STEPS = 50
_FREE = {
    *(
        "dataset",
        "card",
        "golden",
        "tile",
        "mirror_axes",
        "postprocess",
        "workers",
        "validation",
        "cross_validation",
    ),
    *("locate", "located_labels", "template"),
}
_FIXED = tuple(name for name in TrainConfig.model_fields if name not in _FREE)
"""Settings a resumed run must share with its checkpoint; the others change no weight (the dataset may have moved)."""


@dataclass(frozen=True)
class Progress:
    """What a progress display shows after each step."""

    step: int
    steps: int
    loss: float
    """Mean of the last steps, at most 50."""
    dice: float | None
    """Mean foreground Dice of the last validation."""
    seconds_left: float


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Cached cases of both sides of the split and what the labels are called."""

    training: Sequence[CachedCase]
    validation: Sequence[CachedCase]
    label_names: Sequence[str]
    """Of label indices 1..L-1."""

    @property
    def channels(self) -> int:
        """Channels C of every image."""
        return int(self.training[0].image.shape[0])


class Trainer:
    """The moving parts of one run. `run` trains to the last step; `last.pt` and `best.pt` hold its state."""

    def __init__(
        self, config: TrainConfig, data: TrainingData, folder: Path, *, device: str = "auto"
    ) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.device = choose_device(device)
        torch.manual_seed(config.seed)
        label_count = len(data.label_names) + 1
        self.module = config.architecture.build(data.channels, label_count).to(self.device)
        divisors = cast(tuple[int, ...], self.module.divisors)
        for name, extents in (
            ("patch_voxels", config.patch_voxels),
            ("tile.tile_voxels", config.tile.tile_voxels),
        ):
            check_extents(name, extents, divisors)
        check_precision(config.precision, self.device, config.patch_voxels, divisors)
        self.average = {name: value.clone() for name, value in self.module.state_dict().items()}
        self.optimizer = make_optimizer(self.module, config.optimizer)
        self.step, self.best_dice, self.last_dice = 0, -1.0, None
        self.losses: list[float] = []

    def resume(self) -> None:
        """Go on from last.pt of the run folder.

        Raises:
            InputError: there is none, or it belongs to another configuration.
        """
        checkpoint = load_checkpoint(self.folder / "last.pt")
        written = check_config(
            yaml.safe_load(checkpoint.config), TrainConfig, source="the checkpoint's configuration"
        )
        changed = [name for name in _FIXED if getattr(written, name) != getattr(self.config, name)]
        if changed:
            raise InputError(
                f"{self.folder / 'last.pt'}: was written with another {' and '.join(changed)}; resume with the same "
                "settings (a copy is in the run folder's config.yaml) or train into a new folder."
            )
        self.module.load_state_dict(checkpoint.module)
        self.average = {name: value.to(self.device) for name, value in checkpoint.average.items()}
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.step, self.best_dice, self.losses = checkpoint.step, checkpoint.best_dice, checkpoint.losses

    def run(self, report: Callable[[Progress], None]) -> None:
        """Train from the current step to the last one; `report` is called after each."""
        keep_memory_mapped()
        config = self.config
        sampler = PatchSampler(
            self.data.training,
            len(self.data.label_names) + 1,
            config.patch_voxels,
            config.foreground_fraction,
            config.augment,
            config.seed,
        )
        log = TrainLog(self.folder, self.data.label_names, resumed_at=self.step)
        first, began = self.step + 1, time.monotonic()
        for batch in sampler.batches(first, config.steps, config.batch_size, config.workers):
            self._train_step(batch)
            seconds = time.monotonic() - began
            self._after_step(log, log.seconds_before + seconds)
            recent = self.losses[-_LOG_STEPS:]
            left = seconds / (self.step - first + 1) * (config.steps - self.step)
            report(Progress(self.step, config.steps, sum(recent) / len(recent), self.last_dice, left))

    def _train_step(self, batch: Batch) -> None:
        settings = self.config.optimizer
        self.step = batch.step
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config.steps, settings)
        self.module.train()
        images = batch.images.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        is_2d = self.config.architecture.dimensions == 2
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            heads = self.module(images.squeeze(-1) if is_2d else images)
        heads = heads if isinstance(heads, list) else [heads]
        heads = [head.unsqueeze(-1) for head in heads] if is_2d else heads
        loss = deep_supervision(heads, labels, self.config.loss)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} at step {self.step}, so the training cannot go on; the checkpoints in "
                f"{self.folder} are from before. Train again with a lower optimizer.learning_rate."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), settings.clip_norm)
        self.optimizer.step()
        update_average(self.average, self.module, self.step, settings.ema_decay)
        self.losses = [*self.losses[-_LOG_STEPS:], loss.item()]

    def _after_step(self, log: TrainLog, seconds: float) -> None:
        config, row = self.config, {}
        last = self.step == config.steps
        if self.step % _LOG_STEPS == 0 or last:
            rate = learning_rate(self.step, config.steps, config.optimizer)
            mean_loss = sum(self.losses[-_LOG_STEPS:]) / len(self.losses[-_LOG_STEPS:])
            row = {"loss": mean_loss, "learning_rate": rate, "seconds": seconds}
        if self.step % config.validation.every_steps == 0 or last:
            row |= self._validate()
        if row:
            log.add({"step": self.step} | row)
        if self.step % config.validation.every_steps == 0 or last:
            draw_curves(log.path, self.folder / "curves.png")
        if self.step % config.checkpoint_steps == 0 or last:
            self._save("last.pt")

    def _validate(self) -> dict[str, float]:
        cases = self.data.validation[: self.config.validation.max_cases]
        if not cases:
            return {}
        network = self.averaged_module()
        dice = validation_dice(network, cases, self.config, len(self.data.label_names) + 1, self.device)
        self.last_dice = sum(dice) / len(dice)
        if self.last_dice > self.best_dice:
            self.best_dice = self.last_dice
            self._save("best.pt")
        return {f"dice_{name}": value for name, value in zip(self.data.label_names, dice, strict=True)}

    def averaged_module(self) -> nn.Module:
        """The network with the averaged weights, ready for inference."""
        network = self.config.architecture.build(self.data.channels, len(self.data.label_names) + 1)
        network.load_state_dict(self.average)
        return network.to(self.device).eval()

    def _save(self, name: str) -> None:
        state = self.module.state_dict(), self.average, self.optimizer.state_dict()
        checkpoint = Checkpoint(self.step, *state, self.best_dice, self.losses, dump_config(self.config))
        save_checkpoint(checkpoint, self.folder / name)
