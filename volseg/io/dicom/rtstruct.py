"""RTSTRUCT: label maps as contours in patient coordinates, on the planes of their source (PS3.3 A.19, C.8.8.5, C.8.8.6).

Contours run along pixel edges, so that a reader that takes the pixels whose centres are inside has the label map again,
however the planes are tilted or spaced.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.tag import Tag
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)

from volseg.errors import IntensityError
from volseg.geometry import FloatArray, Grid
from volseg.io.atomic import replacing
from volseg.io.dicom.concepts import ANATOMY, category_of, code_item, concept_of
from volseg.io.dicom.outline import trace
from volseg.io.dicom.patient import SOFTWARE, long_string, software_version
from volseg.io.dicom.rtstruct_file import fill_regions, open_rtstruct
from volseg.io.dicom.source import (
    SourcePlane,
    SourceSeries,
    prepare,
)
from volseg.io.dicom.verify import check_written, not_the_same, reading_back
from volseg.origin import Origin
from volseg.volume import LabelMap, Volume

SERIES_NUMBER = 901

_DECIMALS = 5
"""Of coordinates in mm: rounding moves no point by more than 0.00001 mm, in at most 16 characters up to 10 km."""

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, which PS3.3 C.8.8.5 still asks a reference to a study for."""


def write_rtstruct(
    label_map: LabelMap, path: Path, *, source: Volume, model: str = SOFTWARE, model_version: str = ""
) -> None:
    """Write a label map as RTSTRUCT on the planes of its source, and check the file before it appears.

    Each label is a region of interest; each part of it on a plane is one closed contour that refers to the source
    image. Holes are cut with a bridge of no width (keyhole), which readers that unite contours understand too. Where
    the source has fewer planes than the volume has slices (gaps were filled), the slice nearest to each plane is
    written. Patient, study and frame of reference are those of the source.

    Args:
        label_map: array [I, J, K] on the grid of the source.
        path: the file; its folder must exist.
        source: the volume the labels belong to, read from DICOM.
        model: name of the model, for the description of each region.
        model_version: its version.

    Raises:
        GeometryError: the label map is on another grid, or the source files have changed.
        OutputError: the source is no DICOM, a label cannot be written, the file read back is not the label map, or the
            file system refuses.
    """
    label_map, series = prepare(label_map, source, path)
    with config.disable_value_validation():  # identifiers are written as they are in the source
        dataset = _heading(series, model)
        _add_references(dataset, series)
        _add_regions(dataset, label_map, series, f"{model} {model_version}")
        with replacing(path) as temporary:
            _save(dataset, temporary)
            _check(temporary, path, label_map, series.planes)


def read_rtstruct(path: Path, grid: Grid) -> LabelMap:
    """Read an RTSTRUCT as a label map: the voxels of a grid whose centres lie inside the contours.

    Several contours of a region on one plane are combined by the even-odd rule, so that holes stay holes.

    Args:
        path: the file.
        grid: of the volume the contours were drawn on; each contour must lie on one of its slices.

    Returns:
        array [I, J, K] of ROI numbers, uint8 or uint16, and the table of the regions.

    Raises:
        InputError: there is no such file, or it may not be read.
        FileFormatError: it is no RTSTRUCT, or damaged, or has other contours than closed planar ones.
        GeometryError: a contour lies on no slice of the grid, or reaches beyond it.
        IntensityError: regions overlap, which a label map cannot hold.
    """
    file = open_rtstruct(path)
    columns, rows, slices = grid.shape
    planes = [grid.box((0, 0, k), (columns, rows, k + 1)) for k in range(slices)]
    dtype = np.uint8 if max(file.labels.values) <= np.iinfo(np.uint8).max else np.uint16
    array = np.zeros((slices, rows, columns), dtype).transpose(2, 1, 0)
    for number, index, mask in fill_regions(file, planes):
        target = array[:, :, index]
        taken = target[mask & (target != 0)]
        if len(taken):
            names = [label.name for label in file.labels if label.value in (number, int(taken[0]))]
            raise IntensityError(
                f"{path}: the regions {' and '.join(names)} overlap, which a label map cannot hold. "
                "Export them one by one."
            )
        target[mask] = number
    return LabelMap(array, grid, file.labels, Origin(path=path, modality="RTSTRUCT"))


def _heading(series: SourceSeries, model: str) -> Dataset:
    """Patient, study, series, equipment, structure set and SOP common modules."""
    now = datetime.now()  # noqa: DTZ005 - DICOM dates are local
    dataset = Dataset()
    dataset.update(series.patient)
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        dataset.pop(keyword, None)
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    dataset.SeriesNumber, dataset.InstanceNumber = SERIES_NUMBER, 1
    dataset.SeriesDescription = long_string(f"Contours by {model}")
    dataset.OperatorsName = ""
    dataset.Manufacturer, dataset.ManufacturerModelName = SOFTWARE, long_string(model) or SOFTWARE
    dataset.SoftwareVersions = software_version()
    dataset.FrameOfReferenceUID = series.frame_of_reference
    dataset.PositionReferenceIndicator = dataset.get("PositionReferenceIndicator", "")
    dataset.StructureSetLabel = "SEGMENTATION"
    dataset.StructureSetDate = dataset.InstanceCreationDate = f"{now:%Y%m%d}"
    dataset.StructureSetTime = dataset.InstanceCreationTime = f"{now:%H%M%S}"
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _add_references(dataset: Dataset, series: SourceSeries) -> None:
    """The images that the contours lie on (PS3.3 C.8.8.5.1), by series."""
    by_series: dict[str, dict[str, list[SourcePlane]]] = {}
    for plane in series.planes:
        by_series.setdefault(plane.frame.series.series_uid, {}).setdefault(plane.frame.sop_uid, []).append(
            plane
        )
    listed = []
    for uid, images in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ContourImageSequence = [_image_item(planes) for planes in images.values()]
        listed.append(item)
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = (
        _STUDY_CLASS,
        series.patient.StudyInstanceUID,
    )
    study.RTReferencedSeriesSequence = listed
    frame_of_reference = Dataset()
    frame_of_reference.FrameOfReferenceUID = series.frame_of_reference
    frame_of_reference.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame_of_reference]


def _image_item(planes: Sequence[SourcePlane]) -> Dataset:
    """A reference to an image, to some of its frames where it has several."""
    item = Dataset()
    frame = planes[0].frame
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.sop_class, frame.sop_uid
    if frame.file_frames > 1:
        item.ReferencedFrameNumber = [plane.frame.number + 1 for plane in planes]
    return item


def _add_regions(dataset: Dataset, label_map: LabelMap, series: SourceSeries, description: str) -> None:
    """Structure set, ROI contour and RT ROI observations: one item of each for each label, numbered by its value."""
    regions, contours, observations = [], [], []
    for label in label_map.labels:
        region, contour, observation = Dataset(), Dataset(), Dataset()
        region.ROINumber = contour.ReferencedROINumber = label.value
        region.ReferencedFrameOfReferenceUID = series.frame_of_reference
        region.ROIName = long_string(label.name)
        region.ROIGenerationAlgorithm = "AUTOMATIC"
        region.ROIGenerationDescription = long_string(description)
        contour.ROIDisplayColor = list(label.colour)
        items = list(_contours(label_map, label.value, series.planes))
        if items:
            contour.ContourSequence = items
        observation.ObservationNumber = observation.ReferencedROINumber = label.value
        observation.RTROIIdentificationCodeSequence = [code_item(concept_of(label))]
        observation.RTROIInterpretedType = "ORGAN" if category_of(label) == ANATOMY else ""
        observation.ROIInterpreter = ""
        regions.append(region)
        contours.append(contour)
        observations.append(observation)
    dataset.StructureSetROISequence = regions
    dataset.ROIContourSequence = contours
    dataset.RTROIObservationsSequence = observations


def _contours(label_map: LabelMap, value: int, planes: Sequence[SourcePlane]) -> Iterator[Dataset]:
    for plane in planes:
        reference = [_image_item([plane])]
        for polygon in trace(label_map.array[:, :, plane.nearest] == value):
            contour = Dataset()
            contour.ContourImageSequence = reference
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(polygon)
            _set_points(contour, _to_patient(polygon, plane.grid))
            yield contour


def _to_patient(polygon: FloatArray, plane: Grid) -> FloatArray:
    """Pixel coordinates [n, 2] on a plane as patient coordinates [n, 3], LPS mm."""
    affine = plane.to_lps()
    return polygon @ affine[:3, :2].T + affine[:3, 3]


def _set_points(contour: Dataset, points: FloatArray) -> None:
    """ContourData as one text: making a DICOM number of each of a million coordinates takes many seconds.

    In implicit VR only the characters are stored, not of which kind they are.
    """
    numbers = (points.round(_DECIMALS) + 0.0).ravel().tolist()
    text = "\\".join([f"{number:.{_DECIMALS}f}" for number in numbers])
    contour.add(DataElement(Tag("ContourData"), "UT", text))


def _save(dataset: Dataset, path: Path) -> None:
    """In implicit VR: a contour of over 64 kB does not fit the length of an explicit DS (PS3.5 section 7.1.2)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        dataset.SOPClassUID,
        dataset.SOPInstanceUID,
    )
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    file = FileDataset(str(path), dataset, preamble=bytes(128), file_meta=meta)
    dcmwrite(path, file, enforce_file_format=True)


def _check(temporary: Path, path: Path, label_map: LabelMap, planes: Sequence[SourcePlane]) -> None:
    """Read the file back, fill its contours and compare them with the label map."""
    with reading_back(path):
        file = open_rtstruct(temporary)
        names = {label.value: label.name for label in file.labels}
        if names != {label.value: long_string(label.name) for label in label_map.labels}:
            raise not_the_same(path, f"its regions are {', '.join(names.values())}")
        grids = [plane.grid for plane in planes]
        pieces = ((number, grids[index], mask) for number, index, mask in fill_regions(file, grids))
        check_written(path, pieces, label_map=label_map, planes=planes)
