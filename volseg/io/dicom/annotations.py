"""What a DICOM SEG or RTSTRUCT annotates: the series it refers to and the names of its labels, from its header.

No pixels and no contours are read, and nothing of the patient.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage

from volseg.errors import FileFormatError, InputError
from volseg.io.dicom.concepts import read_label_code
from volseg.io.dicom.elements import Elements, Scanner
from volseg.io.dicom.files import find_files, is_dicom, open_start, size_of
from volseg.io.dicom.seg_file import SOP_CLASSES
from volseg.io.formats import is_image
from volseg.io.stream import readable
from volseg.labels import Code
from volseg.origin import FileRef

_SOP_CLASS = {0x00080016: "SOPClassUID"}
_HEADING = ["SOPClassUID", "SpecificCharacterSet", "FrameOfReferenceUID"]
_SEG = [*_HEADING, "SegmentSequence", "ReferencedSeriesSequence", "SourceImageSequence"]
_RTSTRUCT = [
    *_HEADING,
    "StructureSetROISequence",
    "RTROIObservationsSequence",
    "ReferencedFrameOfReferenceSequence",
]
_OTHER_FILES = (".json", ".csv", ".txt", ".xml", ".png", ".jpg", ".pdf", ".md", ".py", ".html")
"""Suffixes that no DICOM file has."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """A SEG or RTSTRUCT by its header."""

    path: Path
    kind: Literal["SEG", "RTSTRUCT"]
    series: tuple[str, ...]
    """UIDs of the series it refers to."""
    instances: frozenset[str]
    """UIDs of the images it refers to."""
    frame_of_reference: str
    names: Mapping[int, str]
    """The name of each segment number or ROI number; one that has none is "segment 3" or "region 3"."""
    codes: Mapping[int, Code]
    """The coded type of those that have one."""


def find_annotations(root: Path) -> Iterator[Path]:
    """The SEG and RTSTRUCT files of a folder, to any depth, or a file itself; those in zip archives are passed over.

    Raises:
        InputError: there is no such folder, or it may not be read.
    """
    for file in find_files(root):
        if not file.member and not _is_other(file.path) and _sop_class(file) in _annotation_classes():
            yield file.path


def read_annotation(path: Path) -> Annotation:
    """The header of a SEG or RTSTRUCT.

    Raises:
        InputError: the file may not be read.
        FileFormatError: it is neither, or incomplete.
    """
    dataset = _read(path, [*_SEG, *_RTSTRUCT])
    sop_class = dataset.get("SOPClassUID")
    try:
        if sop_class in SOP_CLASSES:
            return _segmentation(path, dataset)
        if sop_class == RTStructureSetStorage:
            return _structure_set(path, dataset)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} is no complete SEG or RTSTRUCT: {error}. Export it again.") from None
    raise FileFormatError(f"{path} is neither a DICOM SEG nor an RTSTRUCT.")


def _read(path: Path, keywords: list[str]) -> Dataset:
    try:
        with readable(path), path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values that are not looked at here
            return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(keywords))
    except (InvalidDicomError, EOFError, ValueError) as error:
        raise FileFormatError(f"{path} is no readable DICOM file: {error}") from None


def _segmentation(path: Path, dataset: Dataset) -> Annotation:
    references = dataset.get("ReferencedSeriesSequence") or ()
    images = [image for item in references for image in item.get("ReferencedInstanceSequence") or ()]
    images += dataset.get("SourceImageSequence") or ()
    if not images:
        images = list(_sources_of_frames(_read(path, ["PerFrameFunctionalGroupsSequence"])))
    segments = {int(item.SegmentNumber): item for item in dataset.SegmentSequence}
    segments.pop(0, None)  # the background of a label map
    return Annotation(
        path,
        "SEG",
        _uids(references, "SeriesInstanceUID"),
        frozenset(_uids(images, "ReferencedSOPInstanceUID")),
        str(dataset.get("FrameOfReferenceUID") or ""),
        {number: str(item.get("SegmentLabel") or f"segment {number}") for number, item in segments.items()},
        _codes({number: item.get("SegmentedPropertyTypeCodeSequence") for number, item in segments.items()}),
    )


def _sources_of_frames(dataset: Dataset) -> Iterator[Dataset]:
    """What each frame says it was made from, where the object as a whole does not say it."""
    for frame in dataset.get("PerFrameFunctionalGroupsSequence") or ():
        for derivation in frame.get("DerivationImageSequence") or ():
            yield from derivation.get("SourceImageSequence") or ()


def _structure_set(path: Path, dataset: Dataset) -> Annotation:
    frames = dataset.get("ReferencedFrameOfReferenceSequence") or ()
    studies = [study for frame in frames for study in frame.get("RTReferencedStudySequence") or ()]
    series = [item for study in studies for item in study.get("RTReferencedSeriesSequence") or ()]
    images = [image for item in series for image in item.get("ContourImageSequence") or ()]
    regions = {int(item.ROINumber): item for item in dataset.StructureSetROISequence}
    observations = {
        int(item.ReferencedROINumber): item.get("RTROIIdentificationCodeSequence")
        for item in dataset.get("RTROIObservationsSequence") or ()
    }
    return Annotation(
        path,
        "RTSTRUCT",
        _uids(series, "SeriesInstanceUID"),
        frozenset(_uids(images, "ReferencedSOPInstanceUID")),
        next(iter(_uids(frames, "FrameOfReferenceUID")), ""),
        {number: str(item.get("ROIName") or f"region {number}") for number, item in regions.items()},
        _codes(observations),
    )


def _uids(items: Iterable[Dataset], keyword: str) -> tuple[str, ...]:
    """The UIDs of sequence items, each once."""
    return tuple(dict.fromkeys(str(uid) for item in items if (uid := item.get(keyword))))


def _codes(sequences: Mapping[int, Sequence[Dataset] | None]) -> dict[int, Code]:
    found = {number: read_label_code(sequence) for number, sequence in sequences.items()}
    return {number: code for number, code in found.items() if code is not None}


def _annotation_classes() -> frozenset[str]:
    return frozenset((*SOP_CLASSES, RTStructureSetStorage))


def _is_other(path: Path) -> bool:
    return is_image(path) or path.suffix.lower() in _OTHER_FILES


def _sop_class(file: FileRef) -> str:
    """What a file is, from its first bytes; "" where it is no readable DICOM."""
    if not is_dicom(file.path):
        return ""
    elements = Elements()
    try:
        with open_start(file) as stream:
            scanner = Scanner(stream, size_of(file), _SOP_CLASS)
            layout = scanner.layout()
            if layout is None:
                return ""
            scanner.scan(layout, elements)
    except (InputError, OSError, EOFError, ValueError):
        pass  # what was read before the damage counts
    return elements.text("SOPClassUID")
