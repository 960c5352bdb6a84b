"""Read images as volumes and label maps, whatever their format."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from volseg.errors import FileFormatError, GeometryError, InputError, IntensityError
from volseg.geometry import Grid
from volseg.io.formats import KNOWN_SUFFIXES, format_of, is_dicom_source, suffix_of
from volseg.io.stream import readable
from volseg.labels import NO_LABELS, LabelTable
from volseg.volume import AnyArray, LabelMap, Volume

CHANNEL_GRID_TOLERANCE_MM = 0.01
"""Files are channels of one case while none of their voxels lies further than this from its place in the first."""

LABEL_ROUNDING_TOLERANCE = 1e-4
"""A float counts as a whole label up to this, as scaled integers are rarely exact."""


def read_volume(source: str | Path | Sequence[str | Path]) -> Volume:
    """Read one image, or several files as the channels of one case.

    A folder, a zip archive, a DICOMDIR and a DICOM file give the one DICOM volume in them; where there are several, see
    volseg.read_series.

    Args:
        source: one path, or one per channel (in the model's order). A file may itself hold several channels.

    Returns:
        array [C, I, J, K] as stored (integers stay integers unless the header scales them), grid in RAS+ mm, origin
        with the paths. The array may be a view with the first axis fastest.

    Raises:
        InputError: a file is missing or not allowed to be read.
        FileFormatError: a file is no image volseg knows, damaged, empty, or its size and header disagree.
        GeometryError: the position is unusable, or the files do not share a grid.
        IntensityError: voxels are NaN, infinite, complex or colours.
        SeriesError: no DICOM series can be read, or several could be meant.
    """
    if isinstance(source, (str, Path)):
        return _read_one(Path(source))
    return stack_channels([_read_one(Path(path)) for path in source])


def stack_channels(volumes: Sequence[Volume]) -> Volume:
    """Volumes of one grid as the channels of one, in this order.

    Raises:
        InputError: there is none.
        GeometryError: they do not share a grid.
    """
    if not volumes:
        raise InputError("no image was given; expected at least one path.")
    for volume in volumes[1:]:
        _check_shares_grid(volumes[0], volume)
    if len(volumes) == 1:
        return volumes[0]
    others = tuple(path for volume in volumes[1:] if (path := volume.origin.path) is not None)
    origin = replace(volumes[0].origin, other_paths=others)
    return Volume(_stack(volumes), volumes[0].grid, origin)


def read_label_map(path: str | Path, labels: LabelTable = NO_LABELS) -> LabelMap:
    """Read a label map [I, J, K]. Floats that are whole numbers become the smallest unsigned integers that hold them.

    A DICOM SEG gives its segments on the grid of the series they were drawn on, and names them itself where no labels
    are given.

    Raises:
        InputError, FileFormatError, GeometryError: as read_volume.
        IntensityError: fractional or negative voxels, or more than one channel.
    """
    if Path(path).is_file() and is_dicom_source(path):
        segments = _segments(Path(path))
        return replace(segments, labels=labels) if len(labels) else segments
    with readable(Path(path)):
        if Path(path).is_dir():
            raise IsADirectoryError
    volume = _read_one(Path(path))
    if volume.channels != 1:
        raise IntensityError(
            f"{path} has {volume.channels} channels; a label map has one. Is it a scan, or a map of probabilities?"
        )
    array = volume.array[0]
    if array.min() < -LABEL_ROUNDING_TOLERANCE:
        raise IntensityError(
            f"{path}: a label map holds no negative values, found {array.min()}. Is it a scan?"
        )
    return LabelMap(_whole_numbers(volume), volume.grid, labels, volume.origin)


def _read_one(path: Path) -> Volume:
    with readable(path):
        found = path.stat()
    if found.st_size and is_dicom_source(path):
        volume = _read_dicom(path)
        _check_finite(volume)
        return volume
    image_format = format_of(path)
    if image_format is None:
        raise FileFormatError(
            f"{path}: the suffix '{path.suffix}' is no image format volseg reads; known are {', '.join(KNOWN_SUFFIXES)}, "
            "and DICOM files of any name."
        )
    if found.st_size == 0:
        raise FileFormatError(
            f"{path} is empty (0 bytes), expected a {suffix_of(path)} image; copy or export it again."
        )
    volume = image_format.read(path)
    _check_finite(volume)
    return volume


def _read_dicom(path: Path) -> Volume:
    from volseg.io.dicom.reading import read_series  # noqa: PLC0415 - pydicom is loaded when DICOM is met

    return read_series(path)


def _segments(path: Path) -> LabelMap:
    from volseg.io.dicom.seg import read_seg  # noqa: PLC0415 - pydicom is loaded when DICOM is met

    return read_seg(path)


def _check_finite(volume: Volume) -> None:
    if volume.array.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        # A finite sum has only finite terms; the slower search is for the rare rest.
        if np.isfinite(volume.array.sum()):
            return
    bad = ~np.isfinite(volume.array)
    count = np.count_nonzero(bad)
    if count:
        channel, *index = np.unravel_index(int(bad.argmax()), bad.shape)
        where = f"voxel {tuple(int(axis) for axis in index)}"
        raise IntensityError(
            f"{volume.origin}: {count:,} of {bad.size:,} voxels are NaN or infinite, the first is {where}"
            f"{f' of channel {int(channel)}' if volume.channels > 1 else ''}. "
            "Replace them by a real intensity (such as that of air) first; volseg does not guess."
        )


def _whole_numbers(volume: Volume) -> AnyArray:
    array = volume.array[0]
    if array.dtype.kind != "f":
        return array
    rounded = np.rint(array)
    is_off = np.abs(array - rounded) > LABEL_ROUNDING_TOLERANCE
    if is_off.any():
        index = tuple(int(axis) for axis in np.unravel_index(int(is_off.argmax()), is_off.shape))
        raise IntensityError(
            f"{volume.origin}: a label map holds whole numbers, found {array[index]:g} at voxel {index}. "
            "Is it a scan, a probability map, or a label map resampled with interpolation?"
        )
    highest = float(rounded.max())
    if highest > np.iinfo(np.uint32).max:
        raise IntensityError(
            f"{volume.origin}: {highest:g} is no label; expected at most {np.iinfo(np.uint32).max}."
        )
    return rounded.astype(np.min_scalar_type(int(highest)))


def _check_shares_grid(first: Volume, other: Volume) -> None:
    pair = f"{first.origin} and {other.origin} cannot be channels of one case"
    if first.grid.shape != other.grid.shape:
        raise GeometryError(
            f"{pair}: their shapes are {first.grid.shape} and {other.grid.shape}. Resample one to the other's grid."
        )
    distance_mm = first.grid.distance_mm(other.grid)
    if distance_mm > CHANNEL_GRID_TOLERANCE_MM:
        raise GeometryError(
            f"{pair}: the same voxel lies up to {distance_mm:.3f} mm apart (at most {CHANNEL_GRID_TOLERANCE_MM} mm is "
            "allowed). Register them, then resample one to the other's grid."
        )


def _stack(volumes: Sequence[Volume]) -> AnyArray:
    """All channels as one array [C, I, J, K], each kept first axis fastest as it was read."""
    grid: Grid = volumes[0].grid
    dtype = np.result_type(*(volume.array.dtype for volume in volumes))
    count = sum(volume.channels for volume in volumes)
    stacked = np.empty((count, *reversed(grid.shape)), dtype).transpose(0, 3, 2, 1)
    start = 0
    for volume in volumes:
        stacked[start : start + volume.channels] = volume.array
        start += volume.channels
    return stacked
