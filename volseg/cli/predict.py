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
        str, typer.Option("--model", "-m", help="A bundled model or a .volseg file.")
    ] = "hippocampus",
    device: Annotated[Device, typer.Option("--device", help="Where to compute.")] = Device.auto,
    series: Series = None,
    allow_gaps: AllowGaps = False,
    join: Join = False,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Also write OUT_prob.nii.gz, one channel per label.")
    ] = False,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Also draw the labels over the scan into this PNG.")
    ] = None,
) -> None:
    """Segment a scan and print the volume of each label."""
    from volseg.api import SeriesOptions, predict_files
    from volseg.outputs import Outputs

    saved = predict_files(
        inputs,
        Outputs(output, _parse_formats(formats), save_probabilities, preview),
        model=model,
        device=device.value,
        options=SeriesOptions(series, allow_gaps, join),
    )
    _print_result(saved)


def _parse_formats(text: str) -> "tuple[OutputFormat, ...]":
    from volseg.outputs import FORMATS

    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in FORMATS]
    if unknown:
        raise typer.BadParameter(f"'{unknown[0]}' is none of {', '.join(FORMATS)}.", param_hint="'--format'")
    return tuple(known for word in words for known in FORMATS if known == word)


def _print_result(saved: "SavedPrediction") -> None:
    for line in saved.choices:
        print(f"series  {line}")
    print(f"model   {saved.model.name} {saved.model.version} on {saved.device}")
    label_map = saved.label_map
    volumes_ml = label_map.volumes_ml()
    rows = []
    for label in label_map.labels:
        voxels = int((label_map.array == label.value).sum())
        rows.append([str(label.value), label.name, str(voxels), f"{volumes_ml[label.name]:.3f}"])
    print_table(["label", "name", "voxels", "volume (ml)"], rows)
    if not label_map.array.any():
        print("  nothing was found: is this the kind of scan the model is for? See `volseg info`.")
    for path in saved.files:
        print(f"wrote   {path}")
    print(f"time    {saved.seconds:.1f} s")
