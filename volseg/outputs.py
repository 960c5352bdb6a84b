"""Where results go: default names, and refusing a bad output path before the model runs, not after."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from volseg.errors import OutputError
from volseg.io import is_dicom_source, is_image, stem
from volseg.io.formats import KNOWN_SUFFIXES
from volseg.io.writing import is_same_image

OutputFormat = Literal["nifti", "dicomseg", "rtstruct"]
FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom", ".zip")
"""What a default name leaves out of the name of a DICOM file or an archive."""


@dataclass(frozen=True)
class Outputs:
    """What a prediction is asked to write."""

    path: Path | None = None
    """The label map; None is `<first source>_seg.nii.gz` (or `.dcm`) beside the first source."""
    formats: tuple[OutputFormat, ...] = ()
    """Formats of the label map; none is what the suffix of the path says, or "nifti"."""
    save_probabilities: bool = False
    """Also write `<label map>_prob.nii.gz`, one channel for each label, background first."""
    preview: Path | None = None
    """Also draw the labels over the scan into this PNG."""
    record: bool = False
    """Also write `<label map>.json`: volumes, sides, regions, warnings."""


@dataclass(frozen=True)
class PlannedOutputs:
    """Where each result goes; every path was checked."""

    label_maps: dict[OutputFormat, Path]
    probabilities: Path | None
    preview: Path | None
    record: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file, label maps first."""
        others = (path for path in (self.probabilities, self.preview, self.record) if path is not None)
        return (*self.label_maps.values(), *others)


def plan_outputs(outputs: Outputs, sources: Sequence[Path]) -> PlannedOutputs:
    """Where the results for the sources go.

    Several formats lie beside each other: `out.nii.gz`, `out.dcm` (DICOM SEG), `out_rtstruct.dcm`. A path's own suffix
    is kept for the format it fits.

    Raises:
        OutputError: a path cannot be written, or a DICOM format was asked for and the input is no DICOM.
    """
    path = outputs.path
    formats: tuple[OutputFormat, ...] = outputs.formats or (
        ("dicomseg",) if path is not None and _is_dicom_name(path) else ("nifti",)
    )
    if path is not None and not (is_image(path) or _is_dicom_name(path)):
        check_image_output(path, sources)
    label_maps: dict[OutputFormat, Path] = {
        each: _label_map_path(each, formats, path, sources[0]) for each in dict.fromkeys(formats)
    }
    for each, target in label_maps.items():
        if each == "nifti":
            check_image_output(target, sources)
        else:
            _check_dicom_output(target, sources)
    main = next(iter(label_maps.values()))
    probabilities = probabilities_output(main) if outputs.save_probabilities else None
    if probabilities is not None:
        check_image_output(probabilities, sources)
    if outputs.preview is not None:
        check_preview_name(outputs.preview)
        check_output(outputs.preview, sources)
    record = main.with_name(f"{stem(main)}.json") if outputs.record else None
    if record is not None:
        check_output(record, sources)
    return PlannedOutputs(label_maps, probabilities, outputs.preview, record)


def default_output(source: Path, output_format: OutputFormat = "nifti") -> Path:
    """`scan_seg.nii.gz` beside `scan.nii.gz`, `scan.nrrd`, ..., `X_seg.nii.gz` beside the folder `X` or `X.zip`."""
    if not source.name or source.name == "..":
        source = source.resolve()
    if is_image(source):
        name = stem(source)
    elif source.suffix.lower() in _DICOM_SUFFIXES and not source.is_dir():
        name = source.stem
    else:
        name = source.name  # what follows a dot in the name of a folder or of a DICOM file is seldom a suffix
    return source.with_name(name + _ENDINGS[output_format])


_ENDINGS: dict[OutputFormat, str] = {
    "nifti": "_seg.nii.gz",
    "dicomseg": "_seg.dcm",
    "rtstruct": "_rtstruct.dcm",
}


def _label_map_path(
    output_format: OutputFormat, formats: Sequence[OutputFormat], path: Path | None, source: Path
) -> Path:
    if path is None:
        return default_output(source, output_format)
    if output_format == "nifti":
        return path if is_image(path) else path.with_name(f"{path.stem}.nii.gz")
    if _is_dicom_name(path) and (output_format == "dicomseg" or "dicomseg" not in formats):
        return path
    name = stem(path) if is_image(path) else path.stem
    return path.with_name(f"{name}.dcm" if output_format == "dicomseg" else f"{name}_rtstruct.dcm")


def _is_dicom_name(path: Path) -> bool:
    return path.suffix.lower() == ".dcm"


def _check_dicom_output(path: Path, sources: Sequence[Path]) -> None:
    if not all(is_dicom_source(source) for source in sources):
        raise OutputError(
            f"{path}: DICOM SEG and RTSTRUCT refer to the images of a DICOM series, and the input is none. "
            f"Write .nii.gz instead, or give the DICOM series as input."
        )
    check_output(path, sources)
    if path.exists() and any(path.resolve().is_relative_to(s.resolve()) for s in sources if s.is_dir()):
        raise OutputError(
            f"{path} is a file of the input's folder and would be overwritten; give the output another name."
        )


def probabilities_output(output: Path) -> Path:
    """`out_prob.nii.gz` beside the label map `out.nii.gz` or `out.dcm`."""
    return output.with_name(f"{stem(output)}_prob.nii.gz")


def check_image_output(path: Path, sources: Sequence[Path]) -> None:
    """Refuse an output image that cannot be written, or that would overwrite an input.

    Raises:
        OutputError: unknown suffix, a folder, no such folder, no permission, or the output is an input.
    """
    if not is_image(path):
        raise OutputError(
            f"{path}: the suffix '{path.suffix}' is no image format volseg writes; known are {', '.join(KNOWN_SUFFIXES)}."
        )
    check_output(path, sources)


def check_preview_name(path: Path) -> None:
    """Refuse a preview that is no PNG.

    Raises:
        OutputError: another suffix.
    """
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path}: a preview is a PNG picture; use a name ending in .png.")


def check_output(path: Path, sources: Sequence[Path]) -> None:
    """Refuse an output file that cannot be written, or that would overwrite an input.

    Raises:
        OutputError: a folder, no such folder, no permission, or the output is an input.
    """
    for source in sources:
        if is_same_image(path, source):
            raise OutputError(f"{path}: the output is the input {source}; give the output another name.")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give a file name, such as {path / 'scan_seg.nii.gz'}.")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it first.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"{path}: cannot write into the folder {path.parent} ({error.strerror or error}); "
            "choose another folder with -o, or change its permissions."
        ) from error
