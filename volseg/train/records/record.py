"""What a training writes while it runs: the log, its curves and the trackers; and what a display is told."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from volseg.train.records.log import Row, TrainLog, draw_curves
from volseg.train.records.trackers import open_trackers
from volseg.train.settings import TrainConfig


@dataclass(frozen=True)
class Progress:
    """What a display shows after each step. An epoch ends with a validation, every `validation.every_steps`."""

    step: int
    steps: int
    epoch: int
    """Counts from 1."""
    epochs: int
    is_epoch_end: bool
    """This step was validated: a printer of one line per epoch prints now."""
    loss: float
    """Mean of the last steps, at most 50."""
    learning_rate: float
    dice: float | None
    """Mean over the channels of the last validation; None before the first."""
    dice_by_name: dict[str, float]
    best_dice: float | None
    patches_per_second: float
    """Of all processes together, since the training began or was resumed."""
    waited: float
    """Part (0..1) of the time in which the network waited for patches."""
    seconds: float
    """Training time so far, resumed runs included."""
    seconds_left: float


def epoch_of(step: int, config: TrainConfig) -> tuple[int, int]:
    """The epoch that a step (from 1) belongs to, and how many there are."""
    every = config.validation.every_steps
    return (step - 1) // every + 1, ceil(config.steps / every)


class Clock:
    """How long the steps took, how much of it was waiting, and how many patches went through."""

    def __init__(self, patches_per_step: int) -> None:
        self._patches_per_step = patches_per_step
        self._began = time.monotonic()
        self.steps, self.busy, self.waited = 0, 0.0, 0.0

    def count(self, busy: float, waited: float) -> None:
        """One step that took `busy` seconds, of which it waited `waited`."""
        self.steps, self.busy, self.waited = self.steps + 1, self.busy + busy, self.waited + waited

    @property
    def elapsed(self) -> float:
        """Seconds since the clock was made, validations included."""
        return time.monotonic() - self._began

    def rates(self) -> Row:
        """Columns of the log about speed; none before the first step."""
        if not self.steps:
            return {}
        seconds = max(self.busy, 1e-9)
        return {
            "waited": min(1.0, self.waited / seconds),
            "patches_per_second": self.steps * self._patches_per_step / seconds,
        }


class Recorder:
    """The log, the curves and the trackers of a run folder, written by the first process only.

    Args:
        config: the settings.
        names: of the channels that are scored.
        folder: the run folder.
        resumed_at: the last step that was recorded; 0 for a new run.
    """

    def __init__(self, config: TrainConfig, names: Sequence[str], folder: Path, *, resumed_at: int) -> None:
        self._folder = folder
        self._trackers = open_trackers(config, folder, resumed_at=resumed_at)
        self._log = TrainLog(folder, names, resumed_at=resumed_at)

    def add(self, row: Row, *, redraw: bool) -> None:
        """One row, with its `step`; `redraw` the curves when a validation is in it."""
        self._log.add(row)
        for tracker in self._trackers:
            tracker.add(row)
        if redraw:
            draw_curves(self._log.path, self._folder / "curves.png")

    def close(self, *, finished: bool) -> None:
        """Close the trackers."""
        for tracker in self._trackers:
            tracker.close(finished=finished)
