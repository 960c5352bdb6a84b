"""`volseg pretrain`: scans without labels in, weights for the encoder of a training out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.device import Device
from volseg.cli.planning import roots_and_changes

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from volseg.pretrain.data import PretrainData
    from volseg.pretrain.loop import Progress
    from volseg.pretrain.run import Listeners
    from volseg.pretrain.settings import PretrainConfig


def pretrain(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ROOT] [NAME=VALUE]...",
            help="A collection as it was downloaded, or any folder of scans; settings to change, such as "
            "contrastive.weight=0.",
        ),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The run folder.")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="A pre-training's YAML file, or that of the training it is for (a plan.yaml).",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold", help="The fold whose cases are not seen (0, 1, ...), or all to see every case."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="How many steps.")] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Time for all of it, such as 20m, in place of --steps.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option("--layout", help="The kind of collection, or folder to take every scan in ROOT."),
    ] = None,
    device: Annotated[Device, typer.Option("--device", help="Where to compute.")] = Device.auto,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Pre-train the encoder of a network on scans, without their labels.

    The network, the grid and the patch are those of --config; a labelled collection without it is planned as by `volseg plan`,
    into the run folder. Of a collection the cases that the fold holds out are never seen. The run folder receives
    encoder.safetensors, pretrain.yaml, log.csv, curves.png and preview.png.
    """
    import time

    from volseg.plan.duration import parse_duration
    from volseg.pretrain.run import run_pretraining
    from volseg.train.interrupt import PausedError

    began = time.monotonic()
    roots, changes = roots_and_changes(arguments or [], fold)
    if len(roots) > 1:
        raise typer.BadParameter("give one folder; further ones as folders=[...].", param_hint="ROOT")
    if steps is not None and budget is not None:
        raise typer.BadParameter("give --steps or --budget, not both.", param_hint="--budget")
    changes += [] if steps is None else [f"steps={steps}"]
    settings = _settings(roots[0] if roots else None, config, output, changes, layout=layout, resume=resume)
    left = None if budget is None else parse_duration(budget) - (time.monotonic() - began)
    try:
        with _listeners(output) as listeners:
            encoder = run_pretraining(
                settings,
                output,
                device=device.value,
                resume=resume,
                budget_seconds=left,
                listeners=listeners,
            )
    except PausedError as pause:
        print(pause)
        return
    training = config or output / "plan.yaml"
    print(f"wrote   {encoder}\nnext    {_next_command(encoder, training, settings)}")


def _settings(
    root: Path | None,
    config: Path | None,
    folder: Path,
    changes: list[str],
    *,
    layout: str | None,
    resume: bool,
) -> "PretrainConfig":
    """What to do: as the run that goes on did, as the file says, or as a plan made now says."""
    from volseg.config import check_overrides, override_config
    from volseg.errors import ConfigError
    from volseg.plan.write import PLAN_FILE
    from volseg.pretrain.loop import CONFIG
    from volseg.pretrain.scans import FOLDER, is_collection, with_root
    from volseg.pretrain.settings import PretrainConfig, load_pretraining

    check_overrides(changes, PretrainConfig)
    if resume and (folder / CONFIG).exists():
        config = folder / CONFIG
    if config is not None:
        settings = override_config(load_pretraining(config), changes, source="the command line")
        if root is not None:
            settings, why = with_root(settings, root, layout)
            print(f"{root}: {why}")
        return settings
    if root is None:
        raise typer.BadParameter("give a folder of scans, or a configuration by --config.", param_hint="ROOT")
    if layout == FOLDER or (layout is None and not is_collection(root)):
        raise ConfigError(
            f"{root}: is in no known layout of a labelled collection, so nothing says for which network its scans are. Give "
            "the configuration of the later training by --config (`volseg plan` makes one), or of a pre-training."
        )
    return override_config(
        load_pretraining(_planned(root, folder, layout) / PLAN_FILE), changes, source="the command line"
    )


def _planned(root: Path, folder: Path, layout: str | None) -> Path:
    """The folder, with a plan for the collection in it."""
    from volseg.cli.plan import planned
    from volseg.plan.request import PlanRequest

    return planned(root, folder, PlanRequest(), layout=layout).parent


def _next_command(encoder: Path, training: Path, settings: "PretrainConfig") -> str:
    """How the weights are used: in the training that was named or planned, with the cases and the split that were."""
    from volseg.config import load_config
    from volseg.errors import ConfigError
    from volseg.train.settings import TrainConfig

    words = ["TRAINING.yaml"]
    try:
        planned = load_config(training, TrainConfig)
    except ConfigError:  # a pre-training's own file: which training it is for is not known
        pass
    else:
        words = [quote(str(training))]
        if settings.dataset is not None and settings.dataset.root != planned.dataset.root:
            words.append(f"dataset.root={quote(str(settings.dataset.root))}")
        if settings.split.fold != planned.split.fold:
            words.append(f"split.fold={settings.split.fold}")
    return f"volseg train -c {' '.join(words)} -o RUN encoder_weights={quote(str(encoder))}"


@contextmanager
def _listeners(folder: Path) -> "Iterator[Listeners]":
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    from volseg.pretrain.run import Listeners

    columns = (
        TextColumn("{task.fields[what]}"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
        scans = bar.add_task("", what="scan", total=None)

        def prepared(done: int, total: int) -> None:
            bar.update(scans, completed=done, total=total)

        yield Listeners(_step_shown(bar), prepared, lambda *told: _print_beginning(folder, *told))


def _step_shown(bar: "Bar") -> "Callable[[Progress], None]":
    tasks: list[TaskID] = []

    def show(progress: "Progress") -> None:
        if not tasks:
            tasks.append(bar.add_task("", what="step", total=progress.steps))
        bar.update(tasks[0], completed=progress.step, description=_words(progress))
        if progress.is_measured:
            print(f"step {progress.step}/{progress.steps}   {_words(progress)}", flush=True)

    return show


def _print_beginning(folder: Path, config: "PretrainConfig", data: "PretrainData", precision: str) -> None:
    from volseg.errors import counted

    small = [
        case.id
        for case in data.training
        if any(extent < patch for extent, patch in zip(case.shape, config.patch_voxels, strict=True))
    ]
    tasks = [name for name in ("masked", "contrastive") if getattr(config, name).weight]
    print(
        f"pre-training on {counted(len(data.training), 'scan')} ({counted(len(data.held_out), 'other')} set aside to measure): "
        f"{' and '.join(tasks)}, {config.steps} steps of {config.batch_size} patches, {precision}, into {folder}"
    )
    if small:
        print(
            f"note    {counted(len(small), 'scan')} are smaller than a patch of {'x'.join(map(str, config.patch_voxels))}, "
            "which goes on as a mirror image there; a smaller patch_voxels avoids that"
        )


def _words(progress: "Progress") -> str:
    measured = progress.measured
    told = [f"loss {progress.loss:.4f}"]
    if "held_out_error" in measured:
        told.append(
            f"error on held-out scans {measured['held_out_error']:.4f} (mean of the visible {measured['mean_error']:.4f}, "
            f"nearest visible {measured['nearest_error']:.4f})"
        )
    if "pairs_found" in measured:
        told.append(
            f"pairs found {measured['pairs_found']:.0%} (by chance {measured['pairs_by_chance']:.0%})"
        )
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    return "   ".join(
        [*told, f"{progress.patches_per_second:.1f} patches/s", f"{minutes}:{seconds:02d} left"]
    )
