"""What `volseg plan`, `volseg train` and `volseg pretrain` share: the options of a plan, and how their words are read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from volseg.cli.device import Device

if TYPE_CHECKING:
    from volseg.plan.request import PlanRequest

Layout = Annotated[
    str | None, typer.Option("--layout", help="The kind of collection, where ROOT could be several.")
]
Dims = Annotated[
    Literal["auto", "2", "2.5", "3"],
    typer.Option("--dims", help="Slices, slices with neighbours, or volumes."),
]
Resolution = Annotated[Literal["auto", "full", "low"], typer.Option("--resolution", help="Of 3D networks.")]
Regions = Annotated[
    bool, typer.Option("--regions", help="Train the collection's nested regions instead of its labels.")
]
MaxVram = Annotated[
    str | None, typer.Option("--max-vram", help="GPU memory to use, such as 8G; plans for a GPU.")
]
MaxRam = Annotated[str | None, typer.Option("--max-ram", help="Memory the process may use, such as 16G.")]
Budget = Annotated[
    str | None,
    typer.Option("--budget", help="Time for the whole training, such as 2h or 45m; says what it gives up."),
]


def plan_request(
    *,
    dims: Literal["auto", "2", "2.5", "3"],
    resolution: Literal["auto", "full", "low"],
    regions: bool,
    memory: tuple[str | None, str | None],
    budget: str | None,
    device: Device,
) -> "PlanRequest":
    """The request that the options (memory: VRAM, RAM) stand for."""
    from volseg.plan.duration import parse_duration
    from volseg.plan.request import PlanRequest, parse_bytes

    max_vram, max_ram = (parse_bytes(text) if text else None for text in memory)
    return PlanRequest(
        dims=dims,
        resolution=resolution,
        regions=regions,
        max_vram=max_vram,
        max_ram=max_ram,
        budget_seconds=parse_duration(budget) if budget else None,
        device=device.value,
    )


def roots_and_changes(words: Sequence[str], fold: str | None) -> tuple[list[Path], list[str]]:
    """Of the words [ROOT] [NAME=VALUE]... the folders, and the settings to change, that of --fold among them."""
    roots = [Path(word) for word in words if "=" not in word or Path(word).exists()]
    changes = [word for word in words if Path(word) not in roots]
    if fold is not None:
        if fold != "all" and not fold.isdecimal():
            raise typer.BadParameter(f"'{fold}' is no fold; give 0, 1, ... or all.", param_hint="--fold")
        changes.append(f"split.fold={fold}")
    return roots, changes


@contextmanager
def measuring_bar() -> "Iterator[Callable[[int, int], None]]":
    """A bar that goes away; yields the function that moves it to so many cases of so many."""
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("measuring", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
