"""DICOM instances on their way: which files can be sent, whole or cut short, and under which name one is kept."""

import hashlib
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from volseg.errors import FileFormatError, InputError
from volseg.io.dicom.files import find_files, open_file
from volseg.origin import FileRef

BROKEN = (
    InvalidDicomError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on bytes that are no DICOM data set, or half of one."""

_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL")


@dataclass(frozen=True, slots=True)
class Instance:
    """A file that can be sent to a PACS."""

    file: FileRef
    sop_uid: str
    sop_class: str
    transfer_syntax: str


def gather(sources: Sequence[Path]) -> tuple[list[Instance], list[FileRef]]:
    """The instances among files, folders and archives, and the files that are none.

    An instance is a complete DICOM file: preamble, meta information, SOP class and instance UID.

    Raises:
        InputError: a source does not exist, or is itself no such file.
    """
    instances: list[Instance] = []
    others: list[FileRef] = []
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: there is no such file or folder. Give DICOM files to store.")
        for file in find_files(source):
            instance = _describe(file)
            if instance is not None:
                instances.append(instance)
            elif file == FileRef(source):
                raise FileFormatError(
                    f"{source} is no complete DICOM file (preamble, meta information, SOP class and instance UID), "
                    "and a PACS takes nothing else. Give DICOM files, or folders of them."
                )
            else:
                others.append(file)
    return instances, others


def _describe(file: FileRef) -> Instance | None:
    wanted = ["SOPClassUID", "SOPInstanceUID"]
    try:
        with open_file(file) as opened:
            header = dcmread(opened, stop_before_pixels=True, specific_tags=wanted)
        return Instance(
            file,
            sop_uid=str(header.SOPInstanceUID),
            sop_class=str(header.SOPClassUID),
            transfer_syntax=str(header.file_meta.TransferSyntaxUID),
        )
    except BROKEN:
        return None


def read_instance(file: FileRef) -> FileDataset:
    """A whole instance, its values untouched.

    Raises:
        FileFormatError: the file cannot be read, or ends too early.
    """
    try:
        with open_file(file) as opened:
            dataset = dcmread(opened)
    except (*BROKEN, OSError) as error:
        raise FileFormatError(f"{file} cannot be read as DICOM.") from error
    if not is_whole(dataset):
        raise FileFormatError(f"{file} ends before its data do.")
    return dataset


def is_whole(dataset: Dataset) -> bool:
    """Whether nothing is missing at the end: no value shorter than its length says, an image with its pixels."""
    is_short = any(
        isinstance(element, RawDataElement)
        and element.length != _UNDEFINED_LENGTH
        and len(element.value or b"") < element.length
        for element in dataset.values()
    )
    is_image = "Rows" in dataset or "Image Storage" in UID(dataset.get("SOPClassUID", "")).name
    has_pixels = any(keyword in dataset for keyword in _PIXELS)
    return not is_short and "SOPInstanceUID" in dataset and (has_pixels or not is_image)


def encode(dataset: Dataset) -> bytes:
    """The bytes of a DICOM file as it was read."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset)
    return buffer.getvalue()


def file_name(sop_uid: str) -> str:
    """A name for the file of an instance: its UID if that is one, else what is harmless of it and a checksum."""
    if is_uid(sop_uid):
        return f"{sop_uid}.dcm"
    harmless = re.sub(r"[^0-9A-Za-z.]", "_", sop_uid).strip(".")[:40]
    return f"{harmless}-{hashlib.sha256(sop_uid.encode()).hexdigest()[:8]}.dcm"


def is_uid(text: str) -> bool:
    """Whether this is a UID: numbers with dots between, at most 64 characters (PS3.5, 9.1)."""
    return len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)*", text) is not None
