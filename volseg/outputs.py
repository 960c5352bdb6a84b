"""Where results go: default names, and refusing a bad output path before the model runs, not after."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from volseg.errors import OutputError
from volseg.io import is_image, stem
from volseg.io.formats import KNOWN_SUFFIXES
from volseg.io.writing import is_same_image


def default_output(source: Path) -> Path:
    """`scan_seg.nii.gz` beside `scan.nii`, `scan.nii.gz`, `scan.nrrd`, ..."""
    return source.with_name(f"{stem(source)}_seg.nii.gz")


def probabilities_output(output: Path) -> Path:
    """`out_prob.nii.gz` beside the label map `out.nii.gz`."""
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
