"""What is in a DICOM SEG (PS3.3 A.51, A.90): segments, planes and masks, in whatever order its writer chose."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import iter_pixels

from volseg.errors import FileFormatError, GeometryError, InputError, IntensityError
from volseg.geometry import Grid
from volseg.io.dicom.concepts import read_label_code, rgb_colour
from volseg.io.dicom.source import plane_grid
from volseg.io.stream import readable
from volseg.labels import Label, LabelTable, default_colour

SOP_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
"""Segmentation Storage and Label Map Segmentation Storage."""

Piece = tuple[int, Grid, npt.NDArray[np.bool_]]
"""A label value, the grid of a plane (one voxel thick), the mask [I, J] of the label on it."""


@dataclass(frozen=True, eq=False)
class SegFile:
    """A DICOM SEG whose headers are understood."""

    path: Path
    labels: LabelTable
    """Values are segment numbers."""
    planes: tuple[Grid, ...]
    """Of each frame, shape (columns, rows, 1)."""
    segments: tuple[int, ...]
    """Segment number of each frame; 0 where the pixels hold it."""
    spacing_between_slices: float | None
    dataset: Dataset

    def pieces(self) -> Iterator[Piece]:
        """The mask of each label on each plane where it is, one frame in memory at a time.

        Raises:
            FileFormatError: the pixel data are damaged, or hold a value that no segment describes.
        """
        values = self.labels.values
        for number, pixels in enumerate(self._frames()):
            plane, segment = self.planes[number], self.segments[number]
            if segment:
                yield segment, plane, pixels.T != 0
                continue
            present = np.flatnonzero(np.bincount(pixels.ravel())).tolist()
            unknown = [value for value in present if value and value not in values]
            if unknown:
                raise FileFormatError(f"{self.path}: pixels hold {unknown}, which no segment describes.")
            yield from ((value, plane, np.equal(pixels.T, value)) for value in present if value)

    def _frames(self) -> Iterator[npt.NDArray[Any]]:
        """The pixels [rows, columns] of each frame."""
        is_packed = not self.dataset.file_meta.TransferSyntaxUID.is_encapsulated
        try:
            if is_packed and self.dataset.BitsAllocated == 1:
                yield from self._unpacked_bits()
                return
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about padding at the end
                yield from iter_pixels(self.dataset, raw=True)
        except (ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
            raise FileFormatError(f"{self.path}: its pixel data cannot be read: {error}") from None

    def _unpacked_bits(self) -> Iterator[npt.NDArray[Any]]:
        """Frames of one bit per pixel, which start inside a byte where the one before ended (PS3.5 section 8.1.1).

        pydicom 3.0 unpacks such frames one by one only where they have a multiple of 8 pixels.
        """
        data = np.frombuffer(self.dataset.PixelData, dtype=np.uint8)
        shape = (int(self.dataset.Rows), int(self.dataset.Columns))
        count = shape[0] * shape[1]
        if len(data) * 8 < count * len(self.planes):
            raise ValueError(f"it has {len(data)} bytes, too few for {len(self.planes)} frames")
        for start in range(0, count * len(self.planes), count):
            first, last = start // 8, -(-(start + count) // 8)
            bits = np.unpackbits(data[first:last], bitorder="little")
            yield bits[start % 8 : start % 8 + count].reshape(shape)


def open_seg(path: Path) -> SegFile:
    """Read the headers of a DICOM SEG.

    Raises:
        InputError: there is no such file, or it may not be read.
        FileFormatError: no DICOM SEG, or one that lacks what it must have.
        IntensityError: a FRACTIONAL one.
        GeometryError: a frame without position, orientation or spacing.
    """
    try:
        with readable(path), path.open("rb") as stream:
            dataset = pydicom.dcmread(stream)
    except (InvalidDicomError, EOFError, ValueError) as error:
        raise FileFormatError(f"{path} is no readable DICOM file: {error}") from None
    if dataset.get("SOPClassUID") not in SOP_CLASSES:
        raise FileFormatError(
            f"{path} is no DICOM SEG (its modality is {dataset.get('Modality') or 'unknown'}); expected a segmentation."
        )
    if dataset.get("SegmentationType") == "FRACTIONAL":
        raise IntensityError(
            f"{path} is a FRACTIONAL segmentation: its pixels are probabilities or occupancies, not labels, and volseg "
            "does not choose a threshold. Export it as BINARY or LABELMAP."
        )
    try:
        return _understand(path, dataset)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise FileFormatError(f"{path} is no complete DICOM SEG: {error}.") from None


def _understand(path: Path, dataset: Dataset) -> SegFile:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    per_frame = dataset.PerFrameFunctionalGroupsSequence
    count = int(dataset.get("NumberOfFrames") or 1)
    if len(per_frame) != count:
        raise FileFormatError(f"{path} has {count} frames, but describes {len(per_frame)}.")
    shape = (int(dataset.Columns), int(dataset.Rows))
    is_labelmap = dataset.SegmentationType == "LABELMAP"
    planes = tuple(_plane(path, item, shared, shape) for item in per_frame)
    segments = tuple(0 if is_labelmap else _segment_number(item, shared) for item in per_frame)
    labels = _labels(dataset)
    unknown = sorted(set(segments) - {0, *labels.values})
    if unknown:
        raise FileFormatError(f"{path} has frames of the segments {unknown}, which it does not describe.")
    measures = _group("PixelMeasuresSequence", per_frame[0], shared)
    spacing = measures.get("SpacingBetweenSlices") if measures is not None else None
    return SegFile(path, labels, planes, segments, float(spacing) if spacing else None, dataset)


def _group(name: str, item: Dataset, shared: Dataset) -> Dataset | None:
    """A functional group's item: that of the frame, else that of all frames."""
    sequence = item.get(name) or shared.get(name)
    return sequence[0] if sequence else None


def _segment_number(item: Dataset, shared: Dataset) -> int:
    group = _group("SegmentIdentificationSequence", item, shared)
    if group is None:
        raise KeyError("a frame without SegmentIdentificationSequence")
    return int(group.ReferencedSegmentNumber)


def _plane(path: Path, item: Dataset, shared: Dataset, shape: tuple[int, int]) -> Grid:
    values: list[list[float]] = []
    for name, keyword, count in (
        ("PlanePositionSequence", "ImagePositionPatient", 3),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        ("PixelMeasuresSequence", "PixelSpacing", 2),
    ):
        group = _group(name, item, shared)
        numbers = [float(value) for value in (group.get(keyword) if group is not None else None) or []]
        if len(numbers) != count:
            raise GeometryError(f"{path} has a frame without a usable {keyword}; export it again.")
        values.append(numbers)
    try:
        return plane_grid(values[0], values[1], values[2], shape)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None


def _labels(dataset: Dataset) -> LabelTable:
    labels: list[Label] = []
    names: set[str] = set()
    for index, segment in enumerate(dataset.SegmentSequence):
        number = int(segment.SegmentNumber)
        if number == 0:  # the background of a label map
            continue
        name = str(segment.get("SegmentLabel") or f"segment {number}")
        name = f"{name} ({number})" if name in names else name
        names.add(name)
        stored = segment.get("RecommendedDisplayCIELabValue")
        colour = rgb_colour(list(stored)) if stored else default_colour(index)
        code = read_label_code(segment.get("SegmentedPropertyTypeCodeSequence"))
        labels.append(Label(number, name, colour, code))
    if not labels:
        raise InputError("no segment")
    return LabelTable(tuple(labels))
