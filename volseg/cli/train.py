"""`volseg train`: a configuration and labelled cases in, a model package out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.device import Device

if TYPE_CHECKING:
    from volseg.train.loop import Progress


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...", help="Settings to change, such as steps=500 dataset.root=DIR."
        ),
    ] = None,
    *,
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The training's YAML file (see configs/train).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The run folder; new or empty.")],
    device: Annotated[Device, typer.Option("--device", help="Where to compute.")] = Device.auto,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Train a model on labelled cases and pack it.

    The run folder receives config.yaml, log.csv, curves.png, last.pt, best.pt, scores.csv and the package.
    """
    from volseg.config import load_config
    from volseg.train.run import run_training
    from volseg.train.settings import TrainConfig

    settings = load_config(config, TrainConfig, overrides or ())
    print(
        f"training {settings.card.name}: {settings.steps} steps of {settings.batch_size} patches, into {output}"
    )
    with _progress_bar(settings.steps) as report:
        package = run_training(settings, output, device=device.value, resume=resume, report=report)
    print(f"wrote   {package}\nscores  `volseg info {package}`, every case in {output / 'scores.csv'}")


@contextmanager
def _progress_bar(steps: int) -> "Iterator[Callable[[Progress], None]]":
    """A bar with loss, validation Dice and time left; yields the function that moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}")
    with Bar(*columns) as bar:
        task = bar.add_task("starting", total=steps)

        def report(progress: "Progress") -> None:
            dice = "-" if progress.dice is None else f"{progress.dice:.4f}"
            minutes, seconds = divmod(round(progress.seconds_left), 60)
            text = f"loss {progress.loss:.4f}   validation Dice {dice}   {minutes:d}:{seconds:02d} left"
            bar.update(task, completed=progress.step, description=text)

        yield report
