"""The source planes that a DICOM result refers to, read again from the files of the volume they were read to."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from volseg.errors import GeometryError, OutputError, few
from volseg.geometry import Grid
from volseg.io.dicom.concepts import full_table
from volseg.io.dicom.frame import Dropped, Frame
from volseg.io.dicom.header import read_frames
from volseg.io.dicom.patient import copy_patient
from volseg.origin import DicomSource, FileRef
from volseg.volume import LabelMap, Volume

PLANE_TOLERANCE_MM = 0.25
"""How far a plane may lie from the grid that was fitted to all of them; reading allows 0.1 mm along and across."""

LARGEST_LABEL = 65535
"""Segment numbers are 16 bits wide."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SourcePlane:
    """One source plane and the slice of the volume that it is, or is nearest to."""

    frame: Frame
    grid: Grid
    """Where the plane itself is, shape (columns, rows, 1)."""
    slice_index: float
    """Where it is on the volume's grid; a fraction where gaps were filled."""
    deviation_mm: float
    """How far its corners lie from where the volume's grid has them."""

    @property
    def nearest(self) -> int:
        """The volume's slice that is taken for this plane."""
        return round(self.slice_index)


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """What a DICOM result takes over from the images it was made from."""

    planes: tuple[SourcePlane, ...]
    """Those that lie on a slice of the volume, by rising slice."""
    patient: Dataset
    """The patient and study attributes, clean."""
    frame_of_reference: str
    orientation: tuple[float, ...]
    """Cosines (0020,0037) of all planes [6], LPS."""
    pixel_spacing: tuple[float, float]
    """Between rows, between columns, in mm (0028,0030)."""

    @property
    def is_regular(self) -> bool:
        """Whether each slice of the volume is one plane."""
        return all(plane.slice_index == n for n, plane in enumerate(self.planes))


def prepare(label_map: LabelMap, source: Volume, path: Path) -> tuple[LabelMap, SourceSeries]:
    """What SEG and RTSTRUCT are written from: labels compact in memory and all named, and the source's planes.

    Raises:
        GeometryError: as load_source.
        OutputError: as load_source; a label cannot be written, has no name, or lies only between the planes.
    """
    compact, values = compact_labels(label_map, path)
    series = load_source(source, compact, path)
    named = replace(compact, labels=full_table(compact, values, path))
    check_nothing_lost(named, values, series.planes, path)
    return named, series


def load_source(source: Volume, label_map: LabelMap, path: Path) -> SourceSeries:
    """Read the headers of a volume's source planes again.

    Args:
        source: the volume the labels belong to, read from DICOM.
        label_map: on the same grid.
        path: the result to write, for messages.

    Raises:
        GeometryError: the label map is on another grid, or the files are not those the volume was read from.
        OutputError: the volume was not read from DICOM, or its images lack the UIDs that a result refers to.
    """
    dicom = source.origin.dicom
    if dicom is None or not dicom.files:
        raise OutputError(
            f"{path}: {source.origin} was not read from DICOM, and a DICOM result must refer to its source images. "
            "Write .nii.gz instead."
        )
    distance = label_map.grid.distance_mm(source.grid)
    if not label_map.grid.is_same(source.grid):
        raise GeometryError(
            f"{path}: the labels are on another grid than their source (shapes {label_map.grid.shape} and "
            f"{source.grid.shape}, up to {distance:.3f} mm apart). Bring them to the grid of the source first."
        )
    frames = _frames(dicom, path)
    _check_uids(frames, path)
    reference = _Reference(frames, source.grid)
    planes = [
        _place(frame, index, reference, source.grid, path)
        for frame, index in zip(frames, dicom.slices.tolist(), strict=True)
        if 0 <= round(index) < source.grid.shape[2]
    ]
    return SourceSeries(
        planes=tuple(planes),
        patient=copy_patient(planes[0].frame.file),
        frame_of_reference=_frame_of_reference(frames, path),
        orientation=reference.orientation,
        pixel_spacing=reference.pixel_spacing,
    )


def compact_labels(label_map: LabelMap, path: Path) -> tuple[LabelMap, list[int]]:
    """The label map as uint8 or uint16 with its first axis fastest, slice by slice in memory, and its values.

    Raises:
        OutputError: a value is negative or too large for DICOM.
    """
    lowest, highest = int(label_map.array.min()), int(label_map.array.max())
    if lowest < 0 or highest > LARGEST_LABEL:
        raise OutputError(
            f"{path}: labels must be in 0..{LARGEST_LABEL}, found {lowest} to {highest}; nothing was written."
        )
    dtype = np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16
    array = np.asfortranarray(label_map.array, dtype=dtype)
    return label_map.with_array(array), values_of(array, range(array.shape[2]))


def values_of(array: npt.NDArray[Any], slices: Sequence[int]) -> list[int]:
    """The label values but 0 that some slices of an array [I, J, K] of unsigned integers hold, rising."""
    seen = np.zeros(LARGEST_LABEL + 1, dtype=bool)
    for index in slices:
        counts = np.bincount(array[:, :, index].ravel(order="F"))
        seen[: len(counts)] |= counts > 0
    return [value for value in np.flatnonzero(seen).tolist() if value]


def check_nothing_lost(
    label_map: LabelMap, values: Sequence[int], planes: Sequence[SourcePlane], path: Path
) -> None:
    """Refuse to lose a label that lies only on slices between the source planes.

    Raises:
        OutputError: naming the labels.
    """
    lost = set(values) - set(values_of(label_map.array, [plane.nearest for plane in planes]))
    if lost:
        names = [label.name for label in label_map.labels if label.value in lost] or sorted(map(str, lost))
        raise OutputError(
            f"{path}: {few(names, 5)} lies only between the planes of the source, on slices that were made up where "
            "planes are missing, and a DICOM result has only the planes of its source. Write .nii.gz instead."
        )


class _Reference:
    """The orientation and spacing of all planes: as stored where they agree, else the mean that the grid has."""

    def __init__(self, frames: Sequence[Frame], grid: Grid) -> None:
        affine = grid.to_lps()
        stored = frames[0].orientation or ()
        lengths = np.linalg.norm(np.reshape(stored, (-1, 3)), axis=1)
        is_one = (
            len({frame.orientation for frame in frames}) == 1 and np.abs(lengths - 1).max(initial=0) < 1e-4
        )
        directions = affine[:3, :2] / grid.spacing_mm[:2]
        self.orientation = stored if stored and is_one else tuple(directions.T.ravel().tolist())
        spacing = frames[0].pixel_spacing
        is_one = len({frame.pixel_spacing for frame in frames}) == 1
        self.pixel_spacing = spacing if spacing and is_one else (grid.spacing_mm[1], grid.spacing_mm[0])


def plane_grid(
    position: Sequence[float],
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    shape: tuple[int, int],
) -> Grid:
    """The grid of one plane, shape (columns, rows, 1).

    Args:
        position: ImagePositionPatient [3], LPS mm.
        orientation: ImageOrientationPatient [6].
        pixel_spacing: between rows, between columns, in mm.
        shape: columns, rows.

    Raises:
        GeometryError: they make no plane.
    """
    directions = np.reshape(np.asarray(orientation, dtype=np.float64), (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = directions[0] * pixel_spacing[1]
    affine[:3, 1] = directions[1] * pixel_spacing[0]
    affine[:3, 2] = np.cross(directions[0], directions[1])
    affine[:3, 3] = position
    return Grid.from_lps((*shape, 1), affine)


def pixel_area_mm2(grid: Grid) -> float:
    """Area of one pixel of a grid's slices."""
    return float(np.linalg.norm(np.cross(grid.affine[:3, 0], grid.affine[:3, 1])))


def slice_distance_mm(grid: Grid) -> float:
    """From slice to slice along their normal."""
    return grid.voxel_volume_mm3 / pixel_area_mm2(grid)


def _frames(dicom: DicomSource, path: Path) -> list[Frame]:
    read: dict[FileRef, list[Frame]] = {}
    for file in dict.fromkeys(dicom.files):
        found = read_frames(file)
        if isinstance(found, Dropped):
            raise OutputError(f"{path}: the source image {file} can no longer be read: {found.text}")
        read[file] = found
    wanted = list(zip(dicom.files, dicom.frames, strict=True))
    gone = [str(file) for file, number in wanted if number >= len(read[file])]
    if gone:
        raise OutputError(f"{path}: the source image {gone[0]} has fewer frames than when it was read.")
    return [read[file][number] for file, number in wanted]


def _check_uids(frames: Sequence[Frame], path: Path) -> None:
    for frame in frames:
        for name, uid in (
            ("SOPInstanceUID", frame.sop_uid),
            ("SOPClassUID", frame.sop_class),
            ("SeriesInstanceUID", frame.series.series_uid),
            ("StudyInstanceUID", frame.series.study_uid),
        ):
            if not uid:
                raise OutputError(
                    f"{path}: the source image {frame.file} has no {name}, so a DICOM result cannot refer to it. "
                    "Write .nii.gz instead."
                )
    if len({frame.series.study_uid for frame in frames}) > 1:
        raise OutputError(
            f"{path}: the source images belong to several studies; a DICOM result belongs to one."
        )


def _place(frame: Frame, index: float, reference: _Reference, grid: Grid, path: Path) -> SourcePlane:
    if frame.position is None:
        raise GeometryError(f"{path}: the source image {frame.file} has no position any more.")
    own = plane_grid(
        frame.position, reference.orientation, reference.pixel_spacing, (frame.columns, frame.rows)
    )
    corners = [(i, j) for i in (0, frame.columns - 1) for j in (0, frame.rows - 1)]
    found = own.index_to_world([(*corner, 0) for corner in corners])
    expected = grid.index_to_world([(*corner, index) for corner in corners])
    deviation = float(np.linalg.norm(found - expected, axis=1).max())
    if (frame.columns, frame.rows) != grid.shape[:2] or deviation > PLANE_TOLERANCE_MM:
        raise GeometryError(
            f"{path}: the source image {frame.file} has {frame.columns} x {frame.rows} pixels and lies "
            f"{deviation:.3f} mm from slice {index:g} of the volume; expected {grid.shape[0]} x {grid.shape[1]} and at "
            f"most {PLANE_TOLERANCE_MM} mm. Read the volume again from the files as they are now."
        )
    return SourcePlane(frame, own, index, deviation)


def _frame_of_reference(frames: Sequence[Frame], path: Path) -> str:
    found = Counter(frame.frame_of_reference for frame in frames if frame.frame_of_reference)
    if found:
        return found.most_common(1)[0][0]
    logger.warning("%s: the source has no FrameOfReferenceUID; one is made from its series' UID.", path)
    return generate_uid(entropy_srcs=[frames[0].series.series_uid, "frame of reference"])
