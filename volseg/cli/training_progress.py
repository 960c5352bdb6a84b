"""How a training shows how far it is: a bar on a terminal, one line per epoch elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volseg.train.records.record import Progress


@contextmanager
def show_progress(steps: int, *, silent: bool) -> "Iterator[Callable[[Progress], None]]":
    """Yields the function that is told of each step.

    Args:
        steps: of the training.
        silent: show nothing; for all processes of a training but the first.
    """
    if silent:
        yield lambda _: None
    elif sys.stdout.isatty():
        with _bar(steps) as report:
            yield report
    else:
        yield _print_epoch


@contextmanager
def _bar(steps: int) -> "Iterator[Callable[[Progress], None]]":
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}")
    with Bar(*columns) as bar:
        task = bar.add_task("starting", total=steps)
        yield lambda progress: bar.update(task, completed=progress.step, description=_words(progress))


def _print_epoch(progress: "Progress") -> None:
    if progress.is_epoch_end:
        print(
            f"epoch {progress.epoch}/{progress.epochs}   step {progress.step}/{progress.steps}   {_words(progress)}",
            flush=True,
        )


def _words(progress: "Progress") -> str:
    dice = "-" if progress.dice is None else f"{progress.dice:.4f}"
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours:d}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:d}:{seconds:02d}"
    return (
        f"loss {progress.loss:.4f}   validation Dice {dice}   {progress.patches_per_second:.1f} patches/s   "
        f"waiting for data {progress.waited:.0%}   {left} left"
    )
