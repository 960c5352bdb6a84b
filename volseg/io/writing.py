"""Write volumes and label maps, complete or not at all, never over their own source."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from volseg.errors import OutputError
from volseg.io.formats import KNOWN_SUFFIXES, Format, format_of, partner_of, suffix_of
from volseg.origin import Origin
from volseg.volume import AnyArray, LabelMap, Volume

_LABEL_DTYPES = tuple(np.dtype(name) for name in ("u1", "u2", "i2", "i4", "u4", "i8", "u8"))


def write_label_map(label_map: LabelMap, path: str | Path, *, source: Volume | None = None) -> None:
    """Write a label map in the smallest integer type that holds its labels and that the format knows.

    Args:
        label_map: array [I, J, K], no negative values.
        path: the suffix chooses the format, `.dcm` is DICOM SEG; the folder must exist.
        source: the scan the labels belong to. A NIfTI result takes over its sform and qform codes and its units
            (without it, those of the label map's own origin). A DICOM SEG refers to its images, so it must be DICOM.

    Raises:
        OutputError: unknown suffix, the file is the source, negative labels, a grid or labels the format cannot
            hold, or the file system refuses.
    """
    target = Path(path)
    if target.suffix.lower() == ".dcm":
        _write_seg(label_map, target, source)
        return
    image_format = _check_target(target, (label_map.origin, source.origin if source else Origin()))
    lowest, highest = int(label_map.array.min()), int(label_map.array.max())
    if lowest < 0:
        raise OutputError(f"{target}: labels are not negative, found {lowest}; nothing was written.")
    dtype = next((d for d in _LABEL_DTYPES if d in image_format.DTYPES and highest <= np.iinfo(d).max), None)
    if dtype is None:
        raise OutputError(
            f"{target}: {suffix_of(target)} cannot hold label {highest}; write .nii.gz instead."
        )
    origin = (source or label_map).origin
    image_format.write(Volume(label_map.array, label_map.grid, origin), target, dtype)


def _write_seg(label_map: LabelMap, path: Path, source: Volume | None) -> None:
    if source is None or source.origin.dicom is None:
        raise OutputError(
            f"{path}: a DICOM SEG refers to the images of a DICOM series; give source=, the volume read from it, or write "
            ".nii.gz instead."
        )
    from volseg.io.dicom.seg import write_seg  # noqa: PLC0415 - highdicom is loaded when a SEG is written

    write_seg(label_map, path, source=source)


def write_volume(volume: Volume, path: str | Path, *, source: Volume | None = None) -> None:
    """Write intensities or probabilities [C, I, J, K]; several channels go last, as readers of the format expect.

    The voxel type is kept, or widened without loss where the format lacks it (float16 to float32).

    Raises:
        OutputError: unknown suffix, the file is the source, a grid or voxel type the format cannot hold, or the
            file system refuses.
    """
    target = Path(path)
    image_format = _check_target(target, (volume.origin, source.origin if source else Origin()))
    dtype = _lossless_dtype(volume.array, image_format, target)
    image_format.write(Volume(volume.array, volume.grid, (source or volume).origin), target, dtype)


def _check_target(path: Path, origins: Iterable[Origin]) -> Format:
    image_format = format_of(path)
    if image_format is None:
        raise OutputError(
            f"{path}: the suffix '{path.suffix}' is no image format volseg writes; known are {', '.join(KNOWN_SUFFIXES)}."
        )
    if path.is_dir():
        raise OutputError(
            f"{path} is a folder; give the name of a file in it, such as {path / 'seg.nii.gz'}."
        )
    for origin in origins:
        sources = (*((origin.path,) if origin.path else ()), *origin.other_paths)
        if any(is_same_image(path, source) for source in sources):
            raise OutputError(f"{path} is the input itself and would be overwritten; choose another name.")
    partner = partner_of(path)
    if partner is not None and partner.exists() and not path.exists():
        raise OutputError(
            f"{partner} would be overwritten, and belongs to another image; choose another name."
        )
    return image_format


def is_same_image(first: Path, second: Path) -> bool:
    """Whether two paths share a file, the second file of a pair included, through any links."""
    return any(
        one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
        for one in (first, partner_of(first))
        for other in (second, partner_of(second))
        if one is not None and other is not None
    )


def _lossless_dtype(array: AnyArray, image_format: Format, path: Path) -> np.dtype[Any]:
    native = array.dtype.newbyteorder("=")
    for dtype in (native, *image_format.DTYPES):
        if dtype in image_format.DTYPES and np.can_cast(native, dtype, "safe"):
            return dtype
    raise OutputError(
        f"{path}: {suffix_of(path)} cannot hold voxels of type {native} without loss; "
        "convert them to float32, or write .nii.gz instead."
    )
