"""DICOM SEG: label maps that a PACS accepts, frame by frame on the planes of their source (PS3.3 A.51, A.90).

highdicom writes, pydicom reads: what was written is read back by other code than wrote it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from volseg.geometry import Grid
from volseg.io.atomic import replacing
from volseg.io.dicom.concepts import category_of, concept_of, lab_colour
from volseg.io.dicom.patient import SOFTWARE, decimal_string, long_string, software_version
from volseg.io.dicom.seg_file import open_seg
from volseg.io.dicom.seg_grid import gather, spanned_grid
from volseg.io.dicom.source import (
    SourcePlane,
    SourceSeries,
    prepare,
    slice_distance_mm,
)
from volseg.io.dicom.verify import check_written, not_the_same, reading_back
from volseg.labels import LabelTable
from volseg.origin import Origin
from volseg.volume import LabelMap, Volume

SERIES_NUMBER = 900
"""Results are listed after the scans of a study."""

_BLANK = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


def write_seg(
    label_map: LabelMap,
    path: Path,
    *,
    source: Volume,
    encoding: Literal["binary", "labelmap"] = "binary",
    model: str = SOFTWARE,
    model_version: str = "",
) -> None:
    """Write a label map as DICOM SEG on the planes of its source, and check the file before it appears.

    Each frame has the position of its source plane and refers to it. Where the source has fewer planes than the
    volume has slices (gaps were filled), the labels of the slice nearest to each plane are written. Patient, study and
    frame of reference are those of the source.

    Args:
        label_map: array [I, J, K] on the grid of the source.
        path: the file; its folder must exist.
        source: the volume the labels belong to, read from DICOM.
        encoding: "binary", one bit per pixel and label, known to every reader, its segments numbered 1, 2, 3 ... in
            the order of the labels; "labelmap" (DICOM 2024c), one frame per plane, keeps the labels' values.
        model: name of the model, for the algorithm that is named in each segment.
        model_version: its version; that of volseg if empty.

    Raises:
        GeometryError: the label map is on another grid, or the source files have changed.
        OutputError: the source is no DICOM, a label cannot be written, the file read back is not the label map, or the
            file system refuses.
    """
    label_map, series = prepare(label_map, source, path)
    numbers = _segment_numbers(label_map.labels, encoding)
    placeholders = _placeholders(series, label_map.grid)
    with config.disable_value_validation():  # identifiers are written as they are in the source
        segmentation = Segmentation(
            source_images=placeholders,
            pixel_array=_stack(label_map, series.planes, numbers),
            segmentation_type=encoding.upper(),
            segment_descriptions=_descriptions(label_map.labels, numbers, model, model_version),
            series_instance_uid=generate_uid(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=SOFTWARE,
            manufacturer_model_name=long_string(model) or SOFTWARE,
            software_versions=software_version(),
            device_serial_number=software_version(),
            content_label="SEGMENTATION",
            content_description=long_string(f"Labels by {model}"),
            series_description=long_string(f"Segmentation by {model}"),
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        segmentation.update(series.patient)
        segmentation.ContentCreatorName = ""  # must be there, if empty (PS3.3 table 10-12)
        _refer(segmentation, placeholders, series.planes)
        with replacing(path) as temporary:
            segmentation.save_as(temporary)
            _check(temporary, path, label_map, numbers, series.planes)


def read_seg(path: Path, *, grid: Grid | None = None) -> LabelMap:
    """Read a DICOM SEG, BINARY or LABELMAP, of any writer.

    Args:
        path: the file.
        grid: of the source volume: each frame is put where its position says. Without it, the regular grid that the
            frames span, which may be smaller than the source, for empty frames are often left out.

    Returns:
        array [I, J, K] of segment numbers, uint8 or uint16, and the table of the segments.

    Raises:
        InputError: there is no such file, or it may not be read.
        FileFormatError: it is no DICOM SEG, or damaged.
        IntensityError: it is FRACTIONAL, or segments overlap, which a label map cannot hold.
        GeometryError: frames do not lie on the grid, or span no regular one.
    """
    file = open_seg(path)
    target = spanned_grid(file) if grid is None else grid
    return LabelMap(gather(file, target), target, file.labels, Origin(path=path, modality="SEG"))


def _segment_numbers(labels: LabelTable, encoding: str) -> dict[int, int]:
    """Segment number by label value. Those of a BINARY segmentation count from 1 (PS3.3 C.8.20.2)."""
    if encoding == "labelmap":
        return {value: value for value in labels.values}
    return {value: number for number, value in enumerate(labels.values, start=1)}


def _stack(label_map: LabelMap, planes: Sequence[SourcePlane], numbers: dict[int, int]) -> npt.NDArray[Any]:
    """Segment numbers [n, rows, columns] at each source plane."""
    stack = label_map.array.transpose(2, 1, 0)
    nearest = [plane.nearest for plane in planes]
    if nearest != list(range(len(stack))):
        stack = stack[nearest]
    if all(value == number for value, number in numbers.items()):
        return stack
    table = np.zeros(max(numbers) + 1, dtype=label_map.array.dtype)
    table[list(numbers)] = list(numbers.values())
    return table[stack]


def _descriptions(
    labels: LabelTable, numbers: dict[int, int], model: str, model_version: str
) -> list[SegmentDescription]:
    algorithm = AlgorithmIdentificationSequence(
        name=long_string(model) or SOFTWARE,
        family=codes.cid7162.ArtificialIntelligence,
        version=long_string(model_version) or software_version(),
        source=SOFTWARE,
    )
    return [
        SegmentDescription(
            segment_number=numbers[label.value],
            segment_label=long_string(label.name),
            segmented_property_category=category_of(label),
            segmented_property_type=concept_of(label),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=lab_colour(label.colour),
        )
        for label in labels
    ]


def _placeholders(series: SourceSeries, grid: Grid) -> list[Dataset]:
    """Headers that stand for the source planes, one each, whatever their files are like.

    highdicom takes geometry from source images, but only from files that are complete, that share one orientation, and
    that are either classic or one whole multi-frame object. These are; `_refer` puts the true references in their place.
    """
    thickness = series.planes[0].frame.slice_thickness or slice_distance_mm(grid)
    images = []
    for plane in series.planes:
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
        image.StudyInstanceUID = series.patient.StudyInstanceUID
        image.SeriesInstanceUID = plane.frame.series.series_uid
        image.FrameOfReferenceUID = series.frame_of_reference
        image.Modality = plane.frame.series.modality
        image.Rows, image.Columns = plane.frame.rows, plane.frame.columns
        image.ImagePositionPatient = [decimal_string(value) for value in plane.frame.position or ()]
        image.ImageOrientationPatient = [decimal_string(value) for value in series.orientation]
        image.PixelSpacing = [decimal_string(value) for value in series.pixel_spacing]
        image.SliceThickness = decimal_string(thickness)
        if series.is_regular:
            image.SpacingBetweenSlices = decimal_string(slice_distance_mm(grid))
        images.append(image)
    for image in images:
        image.SeriesInstanceUID = images[0].SeriesInstanceUID  # joined series; see _refer
    for keyword in _BLANK:  # highdicom logs names that it dislikes; the patient is filled in afterwards
        setattr(images[0], keyword, "")
    return images


def _refer(
    segmentation: Segmentation, placeholders: Sequence[Dataset], planes: Sequence[SourcePlane]
) -> None:
    """Refer to the true source images (PS3.3 C.7.6.16.2.6, C.12.2) instead of to the placeholders."""
    by_uid = {image.SOPInstanceUID: plane for image, plane in zip(placeholders, planes, strict=True)}
    for item in segmentation.PerFrameFunctionalGroupsSequence:
        image = item.DerivationImageSequence[0].SourceImageSequence[0]
        plane = by_uid.get(image.ReferencedSOPInstanceUID)
        if plane is None:  # the segments of one plane share the item
            continue
        image.ReferencedSOPClassUID = plane.frame.sop_class
        image.ReferencedSOPInstanceUID = plane.frame.sop_uid
        if plane.frame.file_frames > 1:
            image.ReferencedFrameNumber = plane.frame.number + 1
    images: dict[str, Dataset] = {}
    series: dict[str, list[Dataset]] = {}
    for plane in planes:
        uid = plane.frame.sop_uid
        if uid not in images:
            images[uid] = Dataset()
            images[uid].ReferencedSOPClassUID = plane.frame.sop_class
            images[uid].ReferencedSOPInstanceUID = uid
            series.setdefault(plane.frame.series.series_uid, []).append(images[uid])
    segmentation.SourceImageSequence = list(images.values())
    segmentation.ReferencedSeriesSequence = []
    for uid, instances in series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = uid, instances
        segmentation.ReferencedSeriesSequence.append(item)


def _check(
    temporary: Path, path: Path, label_map: LabelMap, numbers: dict[int, int], planes: Sequence[SourcePlane]
) -> None:
    """Read the file back and compare it with the label map."""
    with reading_back(path):
        file = open_seg(temporary)
        values = {number: value for value, number in numbers.items()}
        names = {values.get(label.value): label.name for label in file.labels}
        if names != {label.value: long_string(label.name) for label in label_map.labels}:
            raise not_the_same(path, f"its segments are {', '.join(names.values())}")
        pieces = ((values[number], plane, mask) for number, plane, mask in file.pieces())
        check_written(path, pieces, label_map=label_map, planes=planes)
