"""The training loop: batches in, checkpoints, a log and curves out; resumes exactly where it stopped."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from volseg.config import dump_config
from volseg.errors import InputError, TrainingError
from volseg.infer.engines import choose_device, keep_memory_mapped
from volseg.models.extents import ExtentRule
from volseg.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from volseg.train.data import TrainingData
from volseg.train.distributed import ALONE, Ranks
from volseg.train.interrupt import PausedError, StopRequest
from volseg.train.optimise import Plateau, check_boxes, learning_rate
from volseg.train.precision import choose_precision
from volseg.train.pretrained import apply_encoder_weights
from volseg.train.priors import channel_shares, start_at_shares
from volseg.train.records.log import Row
from volseg.train.records.record import Clock, Progress, Recorder, epoch_of
from volseg.train.resume import changed_settings
from volseg.train.samples.patches import Batch, BatchSource
from volseg.train.settings import TrainConfig
from volseg.train.split import trained_regions
from volseg.train.step import Stepper, broken_training
from volseg.train.targets import channel_rule
from volseg.train.validate import index_rule, validation_dice

_LOG_STEPS = 50


class Trainer:
    """The moving parts of one run. `run` trains to the last step; `last.pt` and `best.pt` hold its state.

    Args:
        config: the settings.
        data: the cases.
        folder: the run folder; it exists.
        device: "auto", "cpu" or "cuda".
        ranks: the processes that train together, from open_ranks.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        folder: Path,
        *,
        device: str = "auto",
        ranks: Ranks = ALONE,
    ) -> None:
        self.config, self.data, self.folder, self.ranks = config, data, folder, ranks
        self.device = choose_device(device)
        rule = channel_rule(config.dataset.labels(), trained_regions(config))
        self._rule = index_rule(rule, data.label_values)
        torch.manual_seed(config.seed)
        module = self._build()
        start_at_shares(module, channel_shares(data.training, data.code), exclusive=data.code.exclusive)
        check_boxes(config, cast(ExtentRule, module.extents))
        architecture = config.architecture
        self.precision, self.precision_reason = choose_precision(
            config.precision, self.device, config.patch_voxels, architecture, in_channels=self._in_channels
        )
        self._stepper = Stepper(module, config, data.code, precision=self.precision, ranks=ranks)
        self.plateau = Plateau()
        self.step, self.recorded, self.best_dice = 0, 0, -1.0
        self.last_dice: dict[str, float] = {}
        self.losses: list[float] = []
        self._seconds_before, self._saved_at = 0.0, time.monotonic()
        self._clock = self._row_clock = self._new_clock()

    @property
    def module(self) -> nn.Module:
        """The network that is trained."""
        return self._stepper.module

    @property
    def average(self) -> dict[str, Tensor]:
        """The averaged weights by name: what is validated and shipped."""
        return self._stepper.average

    def start_encoder(self, weights: Path) -> str:
        """Give the encoder trained weights to begin with; before the first step.

        Returns:
            What was done, in a line; see apply_encoder_weights.
        """
        told = apply_encoder_weights(self.module, weights)
        for name, value in self.module.state_dict().items():
            self.average[name].copy_(value)
        return told

    def resume(self) -> None:
        """Go on from last.pt of the run folder.

        Raises:
            InputError: there is none, or it belongs to another configuration or number of processes.
        """
        path = self.folder / "last.pt"
        checkpoint = load_checkpoint(path)
        changed = changed_settings(checkpoint.config, self.config)
        if changed:
            raise InputError(
                f"{path}: was written with another {' and '.join(changed)}; resume with the same "
                "settings (a copy is in the run folder's config.yaml) or train into a new folder."
            )
        if checkpoint.processes != self.ranks.size:
            raise InputError(
                f"{path}: was written by {checkpoint.processes} processes, now there are {self.ranks.size}; each draws "
                "patches of its own, so resume with as many or train into a new folder."
            )
        self._stepper.load(checkpoint.state)
        self.plateau = Plateau(**checkpoint.plateau)
        self.step, self.recorded, self.best_dice = checkpoint.step, checkpoint.recorded, checkpoint.best_dice
        self.last_dice, self.losses = checkpoint.last_dice, checkpoint.losses
        self._seconds_before = checkpoint.seconds

    def run(self, report: Callable[[Progress], None]) -> None:
        """Train from the current step to the last one.

        Args:
            report: called after each step, in the first process.

        Raises:
            PausedError: SIGTERM or SIGINT asked this process or another one to stop; last.pt holds the state.
            TrainingError: a loss or gradient is no number any more, or another process is gone.
        """
        keep_memory_mapped()
        recorder = None
        if self.ranks.is_first:
            recorder = Recorder(self.config, self.data.code.names, self.folder, resumed_at=self.recorded)
        finished = False
        try:
            with StopRequest() as stop:
                self._clock, self._row_clock = self._new_clock(), self._new_clock()
                if self.recorded < self.step:
                    self._record(recorder)
                if self.step < self.config.steps:
                    self._run_steps(recorder, stop, report)
            self._save("last.pt")
            finished = True
        finally:
            if recorder is not None:
                recorder.close(finished=finished)

    def averaged_module(self) -> nn.Module:
        """The network with the averaged weights, ready for inference."""
        network = self._build()
        network.load_state_dict(self.average)
        return network.eval()

    @property
    def _in_channels(self) -> int:
        return self.data.channels * (2 * self.config.tile.slices_around + 1)

    def _build(self) -> nn.Module:
        network = self.config.architecture.build(self._in_channels, self.data.code.channels)
        return network.to(self.device)

    def _new_clock(self) -> Clock:
        return Clock(self.config.batch_size * self.config.accumulate * self.ranks.size)

    def _run_steps(
        self, recorder: Recorder | None, stop: StopRequest, report: Callable[[Progress], None]
    ) -> None:
        config, label_count = self.config, len(self.data.label_values) + 1
        with BatchSource(
            config, self.data.training, label_count,
            device=self.device, rank=self.ranks.rank, margins=self._stepper.margins,
        ) as source:  # fmt: skip
            batches = source.batches(self.step + 1, config.steps)
            while self.step < config.steps:
                began, waited = time.monotonic(), source.waited_seconds
                asked = self._train(list(islice(batches, config.accumulate)), stop)
                for clock in (self._clock, self._row_clock):
                    clock.count(time.monotonic() - began, source.waited_seconds - waited)
                self._after_step(recorder, pause=asked)
                if self.ranks.is_first:
                    report(self._progress())

    def _train(self, batches: Sequence[Batch], stop: StopRequest) -> bool:
        """One step; whether this process or another one was asked to stop, in which all processes agree."""
        step, steps = batches[0].step, self.config.steps
        loss = self._stepper.gradients(batches, progress=(step - 1) / max(1, steps - 1))
        is_bad = not isfinite(loss)
        total, bad, asked = self.ranks.sum([0.0 if is_bad else loss, is_bad, stop.asked]).tolist()
        if is_bad:
            raise self._broken(batches, f"the loss became {loss}")
        if bad:
            raise TrainingError(
                f"the loss became no number in another process at step {step}; its batch is in {self.folder}."
            )
        if not self._stepper.apply(step, self._rate(step)):
            raise self._broken(batches, "the gradients became infinite or no numbers")
        self.step = step
        self.losses = [*self.losses[1 - _LOG_STEPS :], total / self.ranks.size]
        return asked > 0

    def _broken(self, batches: Sequence[Batch], what: str) -> TrainingError:
        return broken_training(batches, what, self.folder, precision=self.precision, rank=self.ranks.rank)

    def _rate(self, step: int) -> float:
        return learning_rate(step, self.config.steps, self.config.optimizer, self.plateau.drops)

    def _after_step(self, recorder: Recorder | None, *, pause: bool) -> None:
        """Record what is due, save what is due; before a validation, which may take long, too."""
        is_logged, is_validated = self._due(self.step)
        if not is_logged and not is_validated:
            self.recorded = self.step
        if pause:
            self._save("last.pt")
            raise PausedError(self.step)
        if is_validated:
            self._save("last.pt")
        if self.recorded < self.step:
            self._record(recorder)
        if time.monotonic() - self._saved_at > 60 * self.config.checkpoint_minutes:
            self._save("last.pt")

    def _due(self, step: int) -> tuple[bool, bool]:
        """Whether a step is logged, and whether it is validated."""
        last = step == self.config.steps
        return step % _LOG_STEPS == 0 or last, step % self.config.validation.every_steps == 0 or last

    def _record(self, recorder: Recorder | None) -> None:
        """Log and validate the current step; also what a run that was stopped in between has left out."""
        is_logged, is_validated = self._due(self.step)
        row: Row = {"step": self.step}
        if is_logged:
            mean_loss = sum(self.losses) / len(self.losses)
            row |= {"loss": mean_loss, "learning_rate": self._rate(self.step), "seconds": self._seconds}
            row |= self._row_clock.rates()
            self._row_clock = self._new_clock()
        if is_validated:
            self._validate()
            row |= {f"dice_{name}": dice for name, dice in self.last_dice.items()}
        if recorder is not None:
            recorder.add(row, redraw=is_validated)
        self.recorded = self.step

    def _validate(self) -> None:
        cases = self.data.validation[: self.config.validation.max_cases]
        if not cases:
            return
        code = self.data.code
        dices = validation_dice(
            self.averaged_module(), cases, self.config, code=code, rule=self._rule, device=self.device, ranks=self.ranks
        )  # fmt: skip
        self.last_dice = dict(zip(code.names, dices, strict=True))
        mean = sum(dices) / len(dices)
        if self.config.optimizer.schedule == "plateau":
            self.plateau.update(mean, self.config.optimizer.plateau_patience)
        if mean > self.best_dice:
            self.best_dice = mean
            self._save("best.pt")

    @property
    def _seconds(self) -> float:
        return self._seconds_before + self._clock.elapsed

    def _save(self, name: str) -> None:
        if name == "last.pt":
            self._saved_at = time.monotonic()
        if not self.ranks.is_first:
            return
        checkpoint = Checkpoint(
            self.step, self.recorded, self._stepper.state(), vars(self.plateau), self.best_dice, self.last_dice,
            self.losses, self._seconds, self.ranks.size, dump_config(self.config),
        )  # fmt: skip
        save_checkpoint(checkpoint, self.folder / name)

    def _progress(self) -> Progress:
        config, clock = self.config, self._clock
        epoch, epochs = epoch_of(self.step, config)
        dices, rates = list(self.last_dice.values()), clock.rates()
        return Progress(
            step=self.step,
            steps=config.steps,
            epoch=epoch,
            epochs=epochs,
            is_epoch_end=self._due(self.step)[1],
            loss=sum(self.losses) / len(self.losses),
            learning_rate=self._rate(self.step),
            dice=sum(dices) / len(dices) if dices else None,
            dice_by_name=self.last_dice,
            best_dice=self.best_dice if dices else None,
            patches_per_second=rates["patches_per_second"],
            waited=rates["waited"],
            seconds=self._seconds,
            seconds_left=clock.elapsed / clock.steps * (config.steps - self.step),
        )
