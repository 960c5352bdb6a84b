"""The loop of a pre-training: batches in, checkpoints and a log out; resumes exactly where it stopped."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import astuple, dataclass
from math import isfinite
from pathlib import Path
from typing import cast

import torch
import yaml
from torch import Tensor

from volseg.config import check_config, dump_config
from volseg.errors import InputError, TrainingError
from volseg.infer.engines import choose_device, keep_memory_mapped
from volseg.io.atomic import replacing
from volseg.models.extents import ExtentRule
from volseg.pretrain.data import PretrainData
from volseg.pretrain.measure import HeldOutMeasure, patch_sampler
from volseg.pretrain.network import padded
from volseg.pretrain.pictures import draw_curves
from volseg.pretrain.settings import PretrainConfig
from volseg.pretrain.step import Learner, Losses
from volseg.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from volseg.train.interrupt import PausedError, StopRequest
from volseg.train.optimise import check_extents, learning_rate
from volseg.train.records.log import Row, TrainLog
from volseg.train.records.record import Clock
from volseg.train.samples.feeders import open_feeder

LAST, CONFIG = "last.pt", "pretrain.yaml"
_LOG_STEPS = 50
_TASK_COLUMNS = ("masked_loss", "contrastive_loss")
_FREE = {"dataset", "folders", "workers", "checkpoint_minutes"}
"""Settings that may differ when a run goes on: the scans may have moved (which they are is compared)."""


@dataclass(frozen=True)
class Progress:
    """What a display shows after each step."""

    step: int
    steps: int
    is_measured: bool
    """Held-out scans were looked at: a printer of lines prints now."""
    loss: float
    """Mean of the last steps, at most 50."""
    measured: dict[str, float]
    """Of the held-out scans, by column of the log; empty before the first measurement and without such scans."""
    patches_per_second: float
    seconds_left: float


class Pretrainer:
    """The moving parts of one run. `run` goes to the last step; `last.pt` holds its state.

    Args:
        config: the settings.
        data: the scans.
        folder: the run folder; it exists.
        device: "auto", "cpu" or "cuda".
    """

    def __init__(
        self, config: PretrainConfig, data: PretrainData, folder: Path, *, device: str = "auto"
    ) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.device = choose_device(device)
        torch.manual_seed(config.seed)
        self.learner = Learner(config, data.channels, self.device)
        self.held_out = HeldOutMeasure(self.learner, data.held_out)
        self.step = 0
        self.measured: dict[str, float] = {}
        self._recent: list[Losses] = []
        self._seconds_before, self._saved_at = 0.0, time.monotonic()
        self._clock = self._row_clock = Clock(config.batch_size)

    def resume(self) -> None:
        """Go on from last.pt of the run folder.

        Raises:
            InputError: there is none, or it belongs to other settings or scans.
        """
        path = self.folder / LAST
        checkpoint = load_checkpoint(path)
        changed = changed_settings(checkpoint.config, self.config, path)
        if changed:
            raise InputError(
                f"{path}: was written with another {' and '.join(changed)}; resume with the same settings (a copy is in the "
                f"run folder's {CONFIG}) or pre-train into a new folder."
            )
        self.learner.load(checkpoint.state)
        self.step, self.measured = checkpoint.step, checkpoint.last_dice
        numbers = iter(checkpoint.losses)
        self._recent = [Losses(*three) for three in zip(numbers, numbers, numbers, strict=True)]
        self._seconds_before = checkpoint.seconds

    def run(self, report: Callable[[Progress], None]) -> None:
        """From the current step to the last one.

        Args:
            report: called after each step.

        Raises:
            PausedError: SIGTERM or SIGINT asked to stop; last.pt holds the state.
            TrainingError: a loss or gradient is no number any more.
        """
        keep_memory_mapped()
        further = (*_TASK_COLUMNS, *self.held_out.columns)
        log = TrainLog(self.folder, (), resumed_at=self.step, further=further)
        config = self.config
        with StopRequest() as stop, closing(self._batches()) as batches:
            self._clock, self._row_clock = Clock(config.batch_size), Clock(config.batch_size)
            while self.step < config.steps:
                began = time.monotonic()
                images = next(batches)
                waited = time.monotonic() - began
                self._train(images)
                for clock in (self._clock, self._row_clock):
                    clock.count(time.monotonic() - began, waited)
                self._after_step(log, pause=stop.asked)
                report(self._progress())
        self._save()

    def _batches(self) -> Generator[Tensor]:
        """[B, C, I, J, K] for each step that is left."""
        config, size = self.config, self.config.batch_size
        sampler = patch_sampler(config, self.data.training)
        feeder = open_feeder(config.augment.where, sampler, config.workers, self.device)
        try:
            groups = [(step, tuple(range(size))) for step in range(self.step + 1, config.steps + 1)]
            for images, _ in feeder.feed(groups):
                yield images
        finally:
            feeder.close()

    def _train(self, images: Tensor) -> None:
        step = self.step + 1
        losses = self.learner.gradients(images, step)
        if not isfinite(losses.total):
            raise self._broken(images, step, f"the loss became {losses.total}")
        if not self.learner.apply(step, self._rate(step)):
            raise self._broken(images, step, "the gradients became infinite or no numbers")
        self.step = step
        self._recent = [*self._recent[1 - _LOG_STEPS :], losses]

    def _broken(self, images: Tensor, step: int, what: str) -> TrainingError:
        from safetensors.torch import save_file  # noqa: PLC0415 - only where a run breaks

        path = self.folder / "nan_batch.safetensors"
        with replacing(path) as unfinished:
            save_file({"images": images.cpu().contiguous()}, unfinished, {"step": str(step)})
        return TrainingError(
            f"{what} at step {step}, so the pre-training cannot go on. The batch is in {path}; {LAST} in {self.folder}, if "
            "it is there, is from before. If the images there look right, try a lower optimizer.learning_rate, more "
            "optimizer.warmup_steps or precision=fp32."
        )

    def _rate(self, step: int) -> float:
        return learning_rate(step, self.config.steps, self.config.optimizer)

    def _after_step(self, log: TrainLog, *, pause: bool) -> None:
        last = self.step == self.config.steps
        is_measured = self._is_measured(self.step)
        if self.step % _LOG_STEPS == 0 or last or is_measured:
            row: Row = {"step": self.step, "learning_rate": self._rate(self.step), "seconds": self._seconds}
            row |= self._mean_losses() | self._row_clock.rates()
            if is_measured:
                self.measured = self.held_out.measure(self.learner.averaged_module())
            row |= self.measured if is_measured else {}
            log.add(row)
            self._row_clock = Clock(self.config.batch_size)
        if is_measured:
            draw_curves(log.path, self.folder / "curves.png", error=self.config.masked.error)
        if pause:
            self._save()
            raise PausedError(self.step)
        if time.monotonic() - self._saved_at > 60 * self.config.checkpoint_minutes:
            self._save()

    def _is_measured(self, step: int) -> bool:
        return step % self.config.held_out.every_steps == 0 or step == self.config.steps

    def _mean_losses(self) -> Row:
        """Over the last steps, of the tasks that are on."""
        total, masked, contrastive = (
            sum(numbers) / len(self._recent) for numbers in zip(*map(astuple, self._recent), strict=True)
        )
        row: Row = {"loss": total}
        row |= {"masked_loss": masked} if self.config.masked.weight else {}
        return row | ({"contrastive_loss": contrastive} if self.config.contrastive.weight else {})

    @property
    def _seconds(self) -> float:
        return self._seconds_before + self._clock.elapsed

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        losses = [number for losses in self._recent for number in astuple(losses)]
        checkpoint = Checkpoint(
            step=self.step, recorded=self.step, state=self.learner.state(), plateau={}, best_dice=-1.0,
            last_dice=self.measured, losses=losses, seconds=self._seconds, processes=1, config=dump_config(self.config),
        )  # fmt: skip
        save_checkpoint(checkpoint, self.folder / LAST)

    def _progress(self) -> Progress:
        clock = self._clock
        return Progress(
            step=self.step,
            steps=self.config.steps,
            is_measured=self._is_measured(self.step),
            loss=self._mean_losses()["loss"],
            measured=self.measured,
            patches_per_second=clock.rates()["patches_per_second"],
            seconds_left=clock.elapsed / clock.steps * (self.config.steps - self.step),
        )


def check_patch(config: PretrainConfig) -> None:
    """Refuse a patch that the encoder cannot take, before any scan is read.

    Raises:
        ConfigError: its extents do not suit the network; the message gives the ones to use.
    """
    with torch.device("meta"):
        network = padded(config.architecture).build(1, 2)
    check_extents("patch_voxels", config.patch_voxels, cast(ExtentRule, network.extents))


def changed_settings(written: str, config: PretrainConfig, path: Path) -> list[str]:
    """The names of settings that would give other weights than those a run began with."""
    old = check_config(yaml.safe_load(written), PretrainConfig, source=f"the configuration in {path}")
    names = [name for name in PretrainConfig.model_fields if name not in _FREE]
    return [name for name in names if getattr(old, name) != getattr(config, name)]
