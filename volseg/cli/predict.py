"""`volseg predict`: a scan in, a label map out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.device import Device
from volseg.cli.series import AllowGaps, Join, Series
from volseg.cli.table import print_table

if TYPE_CHECKING:
    from volseg.api import SavedPrediction
    from volseg.outputs import OutputFormat


def predict(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="The scan: an image, or a folder, zip or DICOMDIR of DICOM files; several are the channels of one case.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The label map; .dcm is DICOM SEG.", show_default="INPUT_seg.nii.gz"
        ),
    ] = None,
    *,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="nifti, dicomseg, rtstruct, or several with commas.",
            show_default="by the suffix",
        ),
    ] = "",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A bundled model, a .volseg file, or a run folder with folds; several answer as one (mean logits).",
            show_default="hippocampus",
        ),
    ] = None,
    device: Annotated[Device, typer.Option("--device", help="Where to compute.")] = Device.auto,
    series: Series = None,
    allow_gaps: AllowGaps = False,
    join: Join = False,
    save_probabilities: Annotated[
        bool,
        typer.Option(
            "--save-probabilities", help="Also write OUT_prob.nii.gz, one channel per label or region."
        ),
    ] = False,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Also draw the labels over the scan into this PNG.")
    ] = None,
    record: Annotated[
        bool, typer.Option("--json", help="Also write OUT.json: volumes, sides, regions, warnings.")
    ] = False,
    head: Annotated[
        int | None,
        typer.Option(
            "--head",
            help="U-Net++: stop at head L (fewer nodes, faster, usually less exact).",
            show_default="the model's last",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Label also a scan that the model refuses; look at every result.")
    ] = False,
) -> None:
    """Segment a scan and print the volume of each label."""
    from volseg.api import DEFAULT_MODEL, SeriesOptions, predict_files
    from volseg.outputs import Outputs

    saved = predict_files(
        inputs,
        Outputs(output, _parse_formats(formats), save_probabilities, preview, record),
        model=model or DEFAULT_MODEL,
        device=device.value,
        options=SeriesOptions(series, allow_gaps, join),
        head=head,
        force=force,
    )
    _print_result(saved)


def _parse_formats(text: str) -> "tuple[OutputFormat, ...]":
    from volseg.outputs import FORMATS

    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in FORMATS]
    if unknown:
        raise typer.BadParameter(f"'{unknown[0]}' is none of {', '.join(FORMATS)}.", param_hint="'--format'")
    return tuple(known for word in words for known in FORMATS if known == word)


def _print_model(saved: "SavedPrediction") -> None:
    model = f"{saved.model.name} {saved.model.version} on {saved.device}"
    if len(saved.packages) == 1:
        print(f"model   {model}")
        return
    print(f"model   {model}, the mean of {len(saved.packages)}:")
    for package in saved.packages:
        print(f"        {package}")


def _print_result(saved: "SavedPrediction") -> None:
    from volseg.report.volumes import asymmetries, label_volumes

    for line in saved.choices:
        print(f"series  {line}")
    _print_model(saved)
    volumes = label_volumes(saved.label_map)
    rows = [
        [str(row.label.value), row.label.name, str(row.voxels), f"{row.volume_ml:.3f}"] for row in volumes
    ]
    print_table(["label", "name", "voxels", "volume (ml)"], rows)
    pairs = asymmetries(volumes)
    if pairs:
        print()
        rows = [
            [
                pair.name,
                f"{pair.right_ml:.3f}",
                f"{pair.left_ml:.3f}",
                "-" if pair.percent is None else f"{pair.percent:+.1f} %",
            ]
            for pair in pairs
        ]
        print_table(["part", "right (ml)", "left (ml)", "asymmetry"], rows)
        print("  asymmetry: right minus left, as a part of their mean")
    if not saved.label_map.array.any():
        print("  nothing was found: is this the kind of scan the model is for? See `volseg info`.")
    for warning in saved.prediction.warnings:
        print(f"warning {warning}")
    for path in saved.files:
        print(f"wrote   {path}")
    if saved.prediction.channel_names:
        print(f"        probabilities of: {', '.join(saved.prediction.channel_names)}")
    print(f"time    {saved.seconds:.1f} s")
