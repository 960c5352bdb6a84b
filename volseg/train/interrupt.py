"""A training that is asked to stop (Slurm's preemption, Ctrl-C) finishes its step, saves, and can go on later."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from volseg.errors import VolsegError


class PausedError(VolsegError):
    """A training stopped because it was asked to; everything is saved. The command line leaves with exit code 0."""

    def __init__(self, step: int) -> None:
        super().__init__(f"saved at step {step}; go on with --resume")
        self.step = step
        """Of the checkpoint."""


class StopRequest:
    """While open, SIGTERM and SIGINT only set `asked`; a second SIGINT has its usual effect at once.

    In a thread other than the main one signals cannot be caught, so nothing is changed there.
    """

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Catch the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the signals have their earlier effect."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
