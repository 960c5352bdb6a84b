"""`volseg train`: a dataset folder, or a configuration, in; a model package out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.device import Device
from volseg.cli.plan import planned, run_folder
from volseg.cli.planning import (
    Budget,
    Dims,
    Layout,
    MaxRam,
    MaxVram,
    Regions,
    Resolution,
    plan_request,
    roots_and_changes,
)
from volseg.cli.training_progress import show_progress

if TYPE_CHECKING:
    from volseg.plan.request import PlanRequest
    from volseg.train.distributed import Ranks
    from volseg.train.settings import TrainConfig


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ROOT] [NAME=VALUE]...",
            help="The dataset as it was downloaded; settings to change, such as steps=500 seed=1.",
        ),
    ] = None,
    *,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A training's YAML file instead of a plan.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run folder.", show_default="runs/NAME")
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option("--fold", help="The fold that validates (0, 1, ...), or all to hold out none."),
    ] = None,
    layout: Layout = None,
    dims: Dims = "auto",
    resolution: Resolution = "auto",
    regions: Regions = False,
    max_vram: MaxVram = None,
    max_ram: MaxRam = None,
    budget: Budget = None,
    device: Annotated[Device, typer.Option("--device", help="Where to compute.")] = Device.auto,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Train a model on labelled cases and pack it.

    With ROOT the training configures itself (see `volseg plan`); the run folder then holds the plan and a folder for each fold. A
    run's folder receives config.yaml, log.csv, curves.png, checkpoints, scores.csv, validation/, previews/ and the package.
    Several processes, started by torchrun or srun, train together.
    """
    from volseg.train.distributed import open_ranks
    from volseg.train.interrupt import PausedError

    roots, changes = roots_and_changes(arguments or [], fold)
    if len(roots) > 1 or (config is None) == (not roots):
        raise typer.BadParameter("give a dataset folder, or a configuration by --config.", param_hint="ROOT")
    if config is not None and output is None:
        raise typer.BadParameter("is needed with --config.", param_hint="--output")
    request = plan_request(
        dims=dims,
        resolution=resolution,
        regions=regions,
        memory=(max_vram, max_ram),
        budget=budget,
        device=device,
    )
    try:
        with open_ranks(device.value) as ranks:
            job = _Job(changes, device.value, resume, ranks)
            if config is None:
                job.run_folder(roots[0], output or run_folder(roots[0]), request, layout)
            else:
                job.run_config(config, output or Path())
    except PausedError as pause:
        print(pause)


@dataclass(frozen=True)
class _Job:
    """What was asked for, in one of the processes of a training."""

    changes: list[str]
    device: str
    resume: bool
    ranks: "Ranks"

    def run_folder(self, root: Path, folder: Path, request: "PlanRequest", layout: str | None) -> None:
        """Plan where there is no plan, and train the fold."""
        from volseg.config import check_overrides, load_config
        from volseg.plan.write import PLAN_FILE
        from volseg.train.run import finished_folds, fold_folder
        from volseg.train.settings import TrainConfig

        check_overrides(self.changes, TrainConfig)
        with self.ranks.first_before_others("plan"):
            if self.ranks.is_first:
                planned(root, folder, request, layout=layout)
        settings = load_config(folder / PLAN_FILE, TrainConfig, self.changes)
        if settings.split.fold == "all" and not settings.cross_validation:
            settings = settings.model_copy(update={"cross_validation": finished_folds(folder)})
        self._train(settings, fold_folder(folder, settings), cache=folder / "cache")

    def run_config(self, path: Path, folder: Path) -> None:
        """Train as a configuration says."""
        from volseg.config import load_config
        from volseg.train.settings import TrainConfig

        self._train(load_config(path, TrainConfig, self.changes), folder, cache=None)

    def _train(self, settings: "TrainConfig", folder: Path, *, cache: Path | None) -> None:
        from volseg.train.outcome.export import ENCODER_NOTE
        from volseg.train.pretrained import read_weights
        from volseg.train.run import run_training

        if settings.encoder_weights is not None and not self.resume and self.ranks.is_first:
            weights = read_weights(settings.encoder_weights)
            print(f"encoder weights {weights.path.name}, SHA-256 {weights.sha256}")
        if self.ranks.is_first:
            patches = settings.batch_size * settings.accumulate * self.ranks.size
            print(
                f"training {settings.card.name}: {settings.steps} steps of {patches} patches, into {folder}"
            )
        with show_progress(settings.steps, silent=not self.ranks.is_first) as report:
            package = run_training(
                settings,
                folder,
                device=self.device,
                resume=self.resume,
                report=report,
                cache=cache,
                ranks=self.ranks,
            )
        if self.ranks.is_first:
            note = folder / ENCODER_NOTE
            if note.is_file():
                print(f"encoder began with {note.read_text(encoding='utf-8').strip()}")
            print(
                f"wrote   {package}\nscores  `volseg info {package}`, every case in {folder / 'scores.csv'}"
            )
