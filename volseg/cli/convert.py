"""`volseg convert`: a DICOM series, a DICOM SEG or an image in, an image out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from volseg.cli.series import AllowGaps, Join, Series

if TYPE_CHECKING:
    from volseg.volume import LabelMap, Volume


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SERIES",
            help="A folder, zip or DICOMDIR of DICOM files, a DICOM file (also a SEG), or an image.",
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="The image to write: .nii.gz, .nrrd, .mha, ...")
    ],
    series: Series = None,
    allow_gaps: AllowGaps = False,
    join: Join = False,
    orthogonal: Annotated[
        bool, typer.Option("--orthogonal", help="Resample a tilted volume to perpendicular axes.")
    ] = False,
) -> None:
    """Write a scan, or the segments of a DICOM SEG, as an image in its exact place."""
    from volseg.io import is_dicom_source, read_volume, write_label_map, write_volume
    from volseg.outputs import check_image_output

    check_image_output(output, [source])
    result: Volume | LabelMap
    if not is_dicom_source(source):
        result = read_volume(source)
    elif (segments := _read_segments(source)) is not None:
        result = segments
    else:
        from volseg.io.dicom.reading import read_series

        result = read_series(source, series=series, allow_gaps=allow_gaps, join=join)
    _print_read(result)
    if orthogonal and result.grid.is_sheared:
        result = _straightened(result)
        print(f"note    resampled to perpendicular axes: {_shape(result)}")
    if result.array.ndim == 3:
        write_label_map(cast("LabelMap", result), output)
    else:
        write_volume(cast("Volume", result), output)
    print(f"wrote   {output}")


def _read_segments(source: Path) -> "LabelMap | None":
    """The label map of a DICOM SEG; None for other sources."""
    from volseg.io import read_label_map
    from volseg.io.dicom.reading import is_segmentation

    return read_label_map(source) if is_segmentation(source) else None


def _straightened(tilted: "Volume | LabelMap") -> "Volume | LabelMap":
    from volseg.resample import resample_label_map, resample_volume
    from volseg.volume import LabelMap

    grid = tilted.grid.orthogonal()
    if isinstance(tilted, LabelMap):
        return resample_label_map(tilted, grid)
    return resample_volume(tilted, grid)


def _print_read(result: "Volume | LabelMap") -> None:
    grid = result.grid
    tilt = f", tilted by {grid.shear_degrees:.2f} degrees" if grid.is_sheared else ""
    kind = f"{result.origin.modality} " if result.origin.modality else ""
    print(f"read    {kind}{_shape(result)}{tilt}, {result.array.dtype}")
    for note in result.origin.dicom.notes if result.origin.dicom else ():
        print(f"note    {note}")


def _shape(result: "Volume | LabelMap") -> str:
    grid = result.grid
    return f"{' x '.join(map(str, grid.shape))} at {' x '.join(f'{step:.4g}' for step in grid.spacing_mm)} mm"
