"""`volseg info`: what a model is for, what it finds and how well. Reads the package only; torch is not loaded."""

from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.table import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.package import LabelInfo, ModelInfo
    from volseg.package.fingerprint import Fingerprint


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A bundled model or a .volseg file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the package's model.json.")] = False,
) -> None:
    """Show what a model is for, its scores, limits and licence."""
    from volseg.package import load_package
    from volseg.zoo import find

    path = find(model)
    package = load_package(path)
    if as_json:
        print(package.info.to_json(), end="")
        return
    _print_model(package.info)
    print(f"\nfile          {path} ({path.stat().st_size / 1e6:.1f} MB, checksums right)")


def _print_model(model: "ModelInfo") -> None:
    print(f"{model.name} {model.version}: {model.title}\n{model.description}\n")
    given = {key: value for key, value in model.architecture.items() if key != "name" and value is not None}
    architecture = ", ".join(f"{key} {value}" for key, value in given.items())
    print(f"input         {'; '.join(f'{channel.name} ({channel.modality})' for channel in model.channels)}")
    print(f"network       {model.architecture['name']} ({architecture})")
    if model.head is not None:
        print(f"              pruned to head {model.head}")
    around = model.tile.slices_around
    if around:
        print(
            f"              2.5D: each slice with {around} on each side, {model.in_channels} channels in all"
        )
    training = model.training
    print(f"trained on    {training.dataset}, {training.case_count} cases ({training.split})")
    if training.fingerprint:
        _print_fingerprint(training.fingerprint)
    print(f"made with     volseg {model.volseg_version}, commit {model.git_commit}\n")
    _print_labels(model.labels)
    if model.regions:
        _print_regions(model)
    if model.located_labels:
        print(f"\nin a scan where its regions are located ({(model.locate or {}).get('name')}):")
        _print_labels(model.located_labels)
    _print_scores(model)
    print(
        f"\nintended use  {model.intended_use}\nlimits        {model.limits}\nlicence       {model.data_licence}"
    )


def _print_fingerprint(found: "Fingerprint") -> None:
    spacing = " x ".join(f"{axis.median:.3g}" for axis in found.spacing_mm)
    size = " x ".join(f"{axis.low:.0f}-{axis.high:.0f}" for axis in found.size_mm)
    print(f"              scans of {size} mm (10th to 90th percentile), median spacing {spacing} mm")
    for channel in found.channels:
        print(
            f"              {channel.name} in the labels: {channel.mean:.4g} ± {channel.deviation:.4g}, "
            f"median {channel.median:.4g} (0.5 to 99.5 %: {channel.low:.4g} to {channel.high:.4g})"
        )


def _print_regions(model: "ModelInfo") -> None:
    names = {label.value: label.name for label in model.label_table}
    print(
        "\nfound as regions, each on its own; where several lie over each other the last one's label counts:"
    )
    rows = [
        [region.name, ", ".join(names[value] for value in region.values), names[region.paint]]
        for region in model.label_regions
    ]
    print_table(["region", "labels in it", "paints"], rows)


def _print_labels(labels: "Sequence[LabelInfo]") -> None:
    print_table(
        ["label", "name", "code"],
        [
            [str(label.value), label.name, f"{label.code.scheme} {label.code.value}" if label.code else ""]
            for label in labels
        ],
    )


def _print_scores(model: "ModelInfo") -> None:
    metrics = sorted({metric for score in model.scores for metric in score.means})
    if not metrics:
        print("\n  no scores are given")
        return
    rows = [
        [
            score.label,
            *(f"{score.means[m]:.4f}" if m in score.means else "-" for m in metrics),
            str(score.case_count),
        ]
        for score in model.scores
    ]
    print()
    print_table(["label", *metrics, "cases"], rows)
    for cases in dict.fromkeys(score.cases for score in model.scores):
        print(f"  means over: {cases}")
