"""`volseg plan`: a labelled collection in, a configuration that a person can read and edit out."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.device import Device
from volseg.cli.planning import (
    Budget,
    Dims,
    Layout,
    MaxRam,
    MaxVram,
    Regions,
    Resolution,
    measuring_bar,
    plan_request,
)
from volseg.cli.table import print_table

if TYPE_CHECKING:
    from volseg.datasets.recognise import Recognition
    from volseg.package.fingerprint import Fingerprint, Spread
    from volseg.plan.planner import Plan
    from volseg.plan.request import PlanRequest


def plan(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="A collection as it was downloaded.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write.", show_default="runs/NAME"),
    ] = None,
    layout: Layout = None,
    dims: Dims = "auto",
    resolution: Resolution = "auto",
    regions: Regions = False,
    max_vram: MaxVram = None,
    max_ram: MaxRam = None,
    budget: Budget = None,
    device: Annotated[Device, typer.Option("--device", help="Where the training will run.")] = Device.auto,
) -> None:
    """Measure a labelled collection and write a training configuration for it.

    The folder receives plan.yaml (and plan_NAME.yaml for other networks), fingerprint.json and splits.json.
    """
    request = plan_request(
        dims=dims,
        resolution=resolution,
        regions=regions,
        memory=(max_vram, max_ram),
        budget=budget,
        device=device,
    )
    path = planned(root, output or run_folder(root), request, layout=layout)
    words = quote(str(root)), "-o", quote(str(path.parent))
    print(f"\nwrote   {path} and what it refers to\nnext    volseg train {' '.join(words)}")


def run_folder(root: Path) -> Path:
    """Where the plan and the runs of a collection go unless told otherwise."""
    return Path("runs") / (root.resolve().stem or "dataset")


def planned(root: Path, folder: Path, request: "PlanRequest", *, layout: str | None) -> Path:
    """The configuration of a folder, planned now or earlier; says what was found and decided."""
    from volseg.plan.prepare import prepare

    with measuring_bar() as report:
        prepared = prepare(
            root,
            folder,
            request,
            layout=layout,
            report=report,
            found=lambda recognition: _print_recognised(root, recognition),
            measured=print_fingerprint,
        )
    if prepared.plan is None:
        print(f"plan    {prepared.path} (made earlier; remove it to plan again)")
    else:
        print_notes(prepared.plan)
    return prepared.path


def _print_recognised(root: Path, recognition: "Recognition") -> None:
    print(f"{root}: {recognition.why}")
    for note in recognition.dataset.notes():
        print(f"note    {note}")


def print_fingerprint(fingerprint: "Fingerprint") -> None:
    """Tables of what was measured."""
    print(
        f"\n{fingerprint.cases} cases of {fingerprint.patients} patients, {fingerprint.modality or 'unknown modality'}"
    )
    names = ("right-left", "front-back", "up-down")
    if fingerprint.slices_last:
        names = ("in the slice", "in the slice", "from slice to slice")
    axes = [(name, n) for n, name in enumerate(names)]
    print_table(
        ["along", "voxels", "mm per voxel", "mm"],
        [
            [
                name,
                _range(fingerprint.shape[n]),
                _range(fingerprint.spacing_mm[n]),
                _range(fingerprint.size_mm[n]),
            ]
            for name, n in axes
        ],
    )
    print()
    print_table(
        ["channel", "modality", "mean", "deviation", "0.5 %", "99.5 %", "whole numbers"],
        [
            [
                c.name,
                c.modality or "?",
                *(f"{x:.5g}" for x in (c.mean, c.deviation, c.low, c.high)),
                "yes" if c.integer else "no",
            ]
            for c in fingerprint.channels
        ],
    )
    print()
    print_table(
        ["label", "name", "cases", "ml", "pieces", "ml per piece"],
        [
            [
                str(label.value),
                label.name,
                str(label.present),
                *(_range(numbers) for numbers in (label.volume_ml, label.components, label.component_ml)),
            ]
            for label in fingerprint.labels
        ],
    )
    print("  numbers are medians (least to greatest)\n")


def print_notes(plan: "Plan") -> None:
    """What was decided and why, one paragraph each."""
    import textwrap

    for note in plan.notes:
        print(textwrap.fill(note, 110, initial_indent="  - ", subsequent_indent="    "))


def _range(spread: "Spread | None") -> str:
    if spread is None:
        return "-"
    if spread.least == spread.most:
        return f"{spread.median:.4g}"
    return f"{spread.median:.4g} ({spread.least:.4g} to {spread.most:.4g})"
