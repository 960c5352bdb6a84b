"""The voxels of a labelled case: its image and its label map, on one grid and in the values of its dataset."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from volseg.datasets import Case
from volseg.errors import GeometryError, InputError
from volseg.geometry import Grid
from volseg.io import is_dicom_source, read_label_map, read_volume, stack_channels
from volseg.volume import AnyArray, LabelMap, Volume

ROUNDING_SPACINGS = 0.25
"""Two grids of one shape differ by rounding alone while no corner is further apart than this share of the smallest
spacing (nor than ROUNDING_MM): each voxel is then far nearer to its own partner than to any other. float32 quaternions
near a half turn lose up to 0.2 mm over a body, spacings written with three decimals up to half as much again."""

ROUNDING_MM = 0.25
"""The most that counts as rounding however coarse the voxels are."""


def read_case(case: Case) -> tuple[Volume, LabelMap]:
    """The image [C, I, J, K] and the label map [I, J, K] of a case, on one grid.

    Raises:
        InputError: as read_image and read_reference.
    """
    image = read_image(case)
    return image, read_reference(case, image.grid)


def read_image(case: Case) -> Volume:
    """The image [C, I, J, K] of a case, its channels in the order of its files.

    Raises:
        InputError: a file is missing or cannot be read (FileFormatError, IntensityError, SeriesError).
        GeometryError: the channels do not share a grid.
    """
    return stack_channels([read_channels(case, number) for number in range(len(case.images))])


def read_channels(case: Case, number: int) -> Volume:
    """The channels [C, I, J, K] of one of a case's images; of DICOM, the very series the case names.

    Raises:
        InputError: the file is missing or cannot be read (FileFormatError, IntensityError, SeriesError).
    """
    series = case.series[number] if case.series else ""
    if not series:
        return read_volume(case.images[number])
    from volseg.io.dicom.reading import read_series  # noqa: PLC0415 - pydicom is loaded when DICOM is met

    return read_series(case.images[number], series=series)


def read_reference(case: Case, grid: Grid) -> LabelMap:
    """The label map [I, J, K] of a case on the grid of its image, its values remapped to those of the dataset.

    Image files, DICOM SEG and RTSTRUCT are read. See fit_to_grid for grids that differ. Values that the case's remap
    does not name stay as they are.

    Raises:
        InputError: the case has no label map, or it cannot be read (FileFormatError, IntensityError).
        GeometryError: it does not lie on the grid.
    """
    return remapped(fit_to_grid(read_stored_labels(case, grid), grid, case=case), case.remap)


def read_stored_labels(case: Case, grid: Grid) -> LabelMap:
    """The label map of a case with the values and on the grid that its file has.

    Args:
        case: its label is an image file, a DICOM SEG or an RTSTRUCT.
        grid: that of the case's image, on which the frames of a SEG and the contours of an RTSTRUCT are placed.

    Raises:
        InputError: the case has no label map, or it cannot be read (FileFormatError, IntensityError).
        GeometryError: the frames or contours do not lie on the grid.
    """
    if case.label is None:
        raise InputError(f"case {case.id} has no label map; training and validation need one.")
    if not (case.label.is_file() and is_dicom_source(case.label)):
        return read_label_map(case.label)
    return _read_dicom_labels(case.label, grid)


def _read_dicom_labels(path: Path, grid: Grid) -> LabelMap:
    from volseg.io.dicom.reading import is_segmentation  # noqa: PLC0415 - pydicom is loaded when DICOM is met

    if is_segmentation(path):
        from volseg.io.dicom.seg import read_seg  # noqa: PLC0415 - highdicom too

        return read_seg(path, grid=grid)
    from volseg.io.dicom.rtstruct import read_rtstruct  # noqa: PLC0415 - as above

    return read_rtstruct(path, grid)


def remapped(label_map: LabelMap, remap: Mapping[int, int]) -> LabelMap:
    """The label map with some values replaced by others, all at once (so that two may swap); the rest stay."""
    if not remap:
        return label_map
    array = label_map.array
    dtype = np.promote_types(array.dtype, np.min_scalar_type(max(remap.values())))
    renamed = array.astype(dtype)
    for old, new in remap.items():
        renamed[array == old] = new
    return label_map.with_array(renamed)


def fit_to_grid(label_map: LabelMap, grid: Grid, *, case: Case) -> LabelMap:
    """The label map on exactly this grid, where that needs no interpolation.

    The same voxels stored in another order of the axes are put in the grid's order; a grid that differs by rounding
    alone (see ROUNDING_SPACINGS) is replaced.

    Args:
        label_map: array [I, J, K].
        grid: that of the image.
        case: whose they are, for messages.

    Raises:
        GeometryError: the two cover other places; the message tells the shapes or the mm.
    """
    if label_map.grid.is_same(grid, rounding_mm(grid)):
        return replace(label_map, grid=grid)
    if label_map.grid.reoriented(grid.axis_codes).is_same(grid, rounding_mm(grid)):
        order, flips = label_map.grid.axes_towards(grid.axis_codes)
        return label_map.with_array(_in_order(label_map.array, order, flips), grid)
    raise GeometryError(
        f"case {case.id}: {case.images[0]} and {label_map.origin} are {_difference(grid, label_map.grid)}"
    )


def rounding_mm(grid: Grid) -> float:
    """Up to which distance in mm another grid is this one but for rounding."""
    return min(ROUNDING_MM, ROUNDING_SPACINGS * min(grid.spacing_mm))


def _difference(grid: Grid, found: Grid) -> str:
    """How the grid of a label map differs from that of its image, and what to do."""
    turned = found.reoriented(grid.axis_codes)
    if grid.shape not in (found.shape, turned.shape):
        return (
            f"of shapes {grid.shape} and {found.shape}; they must share a grid. Take the label map that was drawn on "
            "this image, or resample it to the image's grid."
        )
    gap_mm = min(found.distance_mm(grid), turned.distance_mm(grid))
    return (
        f"{gap_mm:.2f} mm apart (at most {rounding_mm(grid):.2f} mm count as rounding): {_cause(grid, found)}. They must "
        "share a grid: correct the header of the wrong one, or resample the label map to the image's grid."
    )


def _cause(grid: Grid, found: Grid) -> str:
    """Which part of the header differs, spacing first, as it explains the most."""
    if not np.allclose(sorted(grid.spacing_mm), sorted(found.spacing_mm), rtol=1e-3):
        return f"their spacings are {_by(grid.spacing_mm, '.4g')} and {_by(found.spacing_mm, '.4g')} mm"
    if grid.axis_codes != found.axis_codes:
        return f"their axes point {grid.axis_codes} and {found.axis_codes}"
    if np.allclose(grid.affine[:3, :3], found.affine[:3, :3], rtol=0, atol=1e-3 * min(grid.spacing_mm)):
        return f"their origins are {_at(grid)} and {_at(found)} mm"
    return "their axes point in other directions"


def _in_order(array: AnyArray, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> AnyArray:
    step = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    return np.asfortranarray(array.transpose(order)[step])


def _by(numbers: tuple[float, ...], form: str = "d") -> str:
    return " x ".join(format(number, form) for number in numbers)


def _at(grid: Grid) -> str:
    return f"({', '.join(f'{place:.2f}' for place in grid.affine[:3, 3])})"
