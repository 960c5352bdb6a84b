"""Trust nothing that was written until it is read back: label by label, where it is in the patient."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, OutputError, few
from volseg.geometry import FloatArray, Grid
from volseg.io.dicom.source import SourcePlane, pixel_area_mm2, slice_distance_mm
from volseg.volume import LabelMap

PLANE_TOLERANCE_MM = 0.01
"""A plane that was read back is a source plane when its corners lie this near: decimal strings are far better."""

CENTROID_TOLERANCE_MM = 0.01
"""How far a centroid may move, beside how far the source planes themselves lie from the volume's fitted grid."""

VOLUME_TOLERANCE = 1e-3
"""Relative: pixels must agree one by one, and spacings and directions to what a mean over noisy headers leaves."""

_LISTED = 3


@dataclass(frozen=True, eq=False)
class Measure:
    """One label's size and place."""

    voxels: int
    volume_ml: float
    centroid_mm: FloatArray
    """RAS mm [3]; NaN where there are no voxels."""


class Tally:
    """Adds up the pixels of labels over planes, in the world."""

    def __init__(self, slice_distance_mm: float) -> None:
        """Each plane stands for a slice so thick."""
        self._thickness = slice_distance_mm
        self._sums: dict[int, FloatArray] = {}

    def add(self, value: int, grid: Grid, mask: npt.NDArray[np.bool_], *, index: float = 0.0) -> None:
        """The pixels of a label in a mask [I, J] that lies at a slice index of a grid."""
        found = np.flatnonzero(mask.T)
        rows, columns = np.divmod(found, mask.shape[0])
        count = len(found)
        if not count:
            return
        centre = grid.index_to_world([columns.mean(), rows.mean(), index])
        added = np.array([count, count * pixel_area_mm2(grid), *(centre * count)])
        self._sums[value] = self._sums.get(value, np.zeros(5)) + added

    def measures(self, values: Iterable[int]) -> dict[int, Measure]:
        """Of each label, present or not, and of every other that was added."""
        nothing = Measure(0, 0.0, np.full(3, np.nan))
        found = {
            value: Measure(int(sums[0]), sums[1] * self._thickness / 1000, sums[2:] / sums[0])
            for value, sums in self._sums.items()
        }
        return dict.fromkeys(values, nothing) | found


@contextmanager
def reading_back(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file that was just written is a failure to write it.

    Raises:
        OutputError: in place of an InputError.
    """
    try:
        yield
    except InputError as error:
        raise not_the_same(path, str(error)) from error


def not_the_same(path: Path, what: str) -> OutputError:
    """The error for a file that does not hold what was to be written."""
    return OutputError(
        f"{path}: reading it back gives something else than the label map: {what}. The file was not kept; please "
        "report this, and write .nii.gz instead."
    )


def check_written(
    path: Path,
    found: Iterable[tuple[int, Grid, npt.NDArray[np.bool_]]],
    *,
    label_map: LabelMap,
    planes: Sequence[SourcePlane],
) -> None:
    """Compare what a file holds with the label map it was written from.

    Args:
        path: for messages.
        found: label value, plane (a grid one voxel thick) and mask [I, J] of each piece that was read back.
        label_map: what should be there, on the source planes.
        planes: of the source.

    Raises:
        OutputError: a piece lies on no source plane, its pixels differ, or a label's voxels, volume in ml or centroid
            in mm do. All of it is measured in the world, with the positions and spacings that the file has.
    """
    origins = np.stack([plane.grid.affine[:3, 3] for plane in planes])
    tally = Tally(slice_distance_mm(label_map.grid))
    for value, grid, mask in found:
        plane = planes[int(np.linalg.norm(origins - grid.affine[:3, 3], axis=1).argmin())]
        distance = plane.grid.distance_mm(grid)
        if distance > PLANE_TOLERANCE_MM:
            raise not_the_same(
                path, f"a plane of {_name(label_map, value)} lies {distance:.3f} mm off the source's"
            )
        if not np.array_equal(mask, label_map.array[:, :, plane.nearest] == value):
            raise not_the_same(
                path, f"the outline of {_name(label_map, value)} in slice {plane.nearest} is another"
            )
        tally.add(value, grid, mask)
    values = label_map.labels.values
    expected = plane_measures(label_map, planes)
    tolerance_mm = CENTROID_TOLERANCE_MM + max(plane.deviation_mm for plane in planes)
    measured = tally.measures(values)
    wrong = [
        _difference(_name(label_map, value), measured[value], expected.get(value), tolerance_mm)
        for value in measured
    ]
    if any(wrong):
        raise not_the_same(path, few([text for text in wrong if text], _LISTED))


def plane_measures(label_map: LabelMap, planes: Sequence[SourcePlane]) -> dict[int, Measure]:
    """What a label map holds of each of its labels at the source planes, by value."""
    tally = Tally(slice_distance_mm(label_map.grid))
    for plane in planes:
        labels = label_map.array[:, :, plane.nearest]
        for value in label_map.labels.values:
            tally.add(value, label_map.grid, labels == value, index=plane.slice_index)
    return tally.measures(label_map.labels.values)


def _difference(name: str, found: Measure, expected: Measure | None, tolerance_mm: float) -> str:
    """What is wrong with one label; empty where nothing is."""
    if expected is None:
        return f"{name} should not be there"
    if found.voxels != expected.voxels:
        return f"{name} has {found.voxels} voxels instead of {expected.voxels}"
    if not found.voxels:
        return ""
    if abs(found.volume_ml - expected.volume_ml) > VOLUME_TOLERANCE * expected.volume_ml:
        return f"{name} has {found.volume_ml:.4f} ml instead of {expected.volume_ml:.4f} ml"
    moved = float(np.linalg.norm(found.centroid_mm - expected.centroid_mm))
    return f"{name} has its centroid {moved:.3f} mm off" if moved > tolerance_mm else ""


def _name(label_map: LabelMap, value: int) -> str:
    return next((label.name for label in label_map.labels if label.value == value), f"label {value}")
