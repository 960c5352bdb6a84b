"""What is in an RTSTRUCT: regions of interest, their contours, and the pixels that lie inside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage

from volseg.errors import FileFormatError, GeometryError
from volseg.geometry import FloatArray, Grid
from volseg.io.dicom.concepts import read_label_code
from volseg.io.dicom.outline import fill
from volseg.io.dicom.source import slice_distance_mm
from volseg.io.stream import readable
from volseg.labels import Label, LabelTable, default_colour

ON_PLANE_TOLERANCE_MM = 0.1
"""How far the points of a contour may lie off its plane."""

BEYOND_TOLERANCE = 0.99
"""How far points may lie beyond the outer pixel centres, in pixels: half a pixel is the edge; at 1 pixels are lost."""

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True, eq=False)
class Contour:
    """One closed planar contour."""

    region: int
    """ROI number."""
    points: FloatArray
    """[n, 3], LPS mm."""


@dataclass(frozen=True, eq=False)
class RtstructFile:
    """An RTSTRUCT whose contours are read."""

    path: Path
    labels: LabelTable
    """Values are ROI numbers."""
    contours: tuple[Contour, ...]


def open_rtstruct(path: Path) -> RtstructFile:
    """Read the regions and contours of an RTSTRUCT.

    Raises:
        InputError: there is no such file, or it may not be read.
        FileFormatError: no RTSTRUCT, damaged, or with other contours than closed planar ones.
    """
    try:
        with readable(path), path.open("rb") as stream:
            dataset = pydicom.dcmread(stream)
    except (InvalidDicomError, EOFError, ValueError) as error:
        raise FileFormatError(f"{path} is no readable DICOM file: {error}") from None
    if dataset.get("SOPClassUID") != RTStructureSetStorage:
        raise FileFormatError(
            f"{path} is no RTSTRUCT (its modality is {dataset.get('Modality') or 'unknown'}); expected a structure set."
        )
    try:
        contours = tuple(_contours(path, dataset))
        return RtstructFile(path, _labels(path, dataset), contours)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} is no complete RTSTRUCT: {error}.") from None


def fill_regions(
    file: RtstructFile, planes: Sequence[Grid]
) -> Iterator[tuple[int, int, npt.NDArray[np.bool_]]]:
    """The pixels inside each region on each plane: ROI number, number of the plane, mask [I, J]; only where there are any.

    Args:
        file: its contours of one region and plane are combined by the even-odd rule.
        planes: parallel grids one voxel thick.

    Raises:
        GeometryError: a contour lies on none of the planes, or reaches beyond it.
    """
    affines = np.stack([plane.to_lps() for plane in planes])
    inverses = np.linalg.inv(affines)
    normal = np.cross(affines[0, :3, 0], affines[0, :3, 1])
    heights = affines[:, :3, 3] @ (normal / np.linalg.norm(normal))
    thickness = slice_distance_mm(planes[0])
    polygons: dict[tuple[int, int], list[FloatArray]] = {}
    for contour in file.contours:
        middle = contour.points.mean(axis=0) @ (normal / np.linalg.norm(normal))
        index = int(np.abs(heights - middle).argmin())
        pixels = contour.points @ inverses[index, :3, :3].T + inverses[index, :3, 3]
        off = float(np.abs(pixels[:, 2]).max()) * thickness
        if off > ON_PLANE_TOLERANCE_MM:
            raise GeometryError(
                f"{file.path}: a contour of {_name(file, contour.region)} lies {off:.3f} mm off the nearest slice; "
                f"expected at most {ON_PLANE_TOLERANCE_MM} mm. Give the grid of the volume it was drawn on."
            )
        beyond = np.maximum(-pixels[:, :2], pixels[:, :2] - np.array(planes[index].shape[:2]) + 1)
        if beyond.max() > BEYOND_TOLERANCE:
            raise GeometryError(
                f"{file.path}: a contour of {_name(file, contour.region)} reaches {beyond.max():.2f} pixels beyond the "
                "slice it lies on. Give the grid of the volume it was drawn on."
            )
        polygons.setdefault((contour.region, index), []).append(pixels[:, :2])
    for (region, index), parts in polygons.items():
        mask = fill(parts, planes[index].shape[:2])
        if mask.any():
            yield region, index, mask


def _contours(path: Path, dataset: Dataset) -> Iterator[Contour]:
    for region in dataset.ROIContourSequence:
        for item in region.get("ContourSequence") or ():
            if item.ContourGeometricType not in _CLOSED:
                raise FileFormatError(
                    f"{path}: region {region.ReferencedROINumber} has a contour of type {item.ContourGeometricType}, "
                    "which has no inside; expected closed planar contours only."
                )
            yield Contour(int(region.ReferencedROINumber), _points(item))


def _points(item: Dataset) -> FloatArray:
    stored = item.get_item("ContourData")
    if isinstance(stored, RawDataElement):
        values = (stored.value or b"").strip(b" \0").split(b"\\")
    else:
        values = item.ContourData
    points = np.array(values, dtype=np.float64).reshape(-1, 3)
    if len(points) != int(item.NumberOfContourPoints) or not np.isfinite(points).all():
        raise ValueError(f"a contour of {item.NumberOfContourPoints} points has {len(points)}")
    return points


def _labels(path: Path, dataset: Dataset) -> LabelTable:
    colours = {
        int(item.ReferencedROINumber): item.get("ROIDisplayColor") for item in dataset.ROIContourSequence
    }
    codes = {
        int(item.ReferencedROINumber): read_label_code(item.get("RTROIIdentificationCodeSequence"))
        for item in dataset.get("RTROIObservationsSequence") or ()
    }
    labels: list[Label] = []
    names: set[str] = set()
    for index, region in enumerate(dataset.StructureSetROISequence):
        number = int(region.ROINumber)
        if number < 1:
            raise FileFormatError(
                f"{path} has a region with number {number}; a label map needs numbers from 1."
            )
        name = str(region.get("ROIName") or f"region {number}")
        name = f"{name} ({number})" if name in names else name
        names.add(name)
        red, green, blue = map(int, colours.get(number) or default_colour(index))
        labels.append(Label(number, name, (red, green, blue), codes.get(number)))
    if not labels:
        raise FileFormatError(f"{path} has no region of interest.")
    return LabelTable(tuple(labels))


def _name(file: RtstructFile, number: int) -> str:
    return next((label.name for label in file.labels if label.value == number), f"region {number}")
