"""Whose result it is: the patient and study attributes of a source image, cleaned so that they can be written again.

What identifies (names, numbers, UIDs) is kept as it is, right or wrong, for archives match results by it. What is no
valid value of its kind is left empty or out. Nothing of this is ever logged.
"""

import re
import warnings
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version

import pydicom
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from volseg.errors import FileFormatError
from volseg.io.dicom.files import open_file
from volseg.origin import FileRef

SOFTWARE = "volseg"
UTF_8 = "ISO_IR 192"

_AGE = re.compile(r"(\d{1,3})([DWMY])")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_LONGEST_TEXT = 64


def copy_patient(file: FileRef) -> Dataset:
    """The patient, general study and patient study attributes (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2) of an image.

    Attributes that every object must have are there, if need be empty. Text is UTF-8.

    Raises:
        FileFormatError: the file is not readable any more.
    """
    keywords = [*_REQUIRED, *_OPTIONAL, *_LOSSY]
    copied = Dataset()
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")  # invalid values are what this is for
        try:
            with open_file(file) as stream:
                source = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=keywords)
        except (InvalidDicomError, EOFError, OSError) as error:
            raise FileFormatError(f"{file} cannot be read any more: {error}") from None
        copied.SpecificCharacterSet = UTF_8
        for keyword, clean in _REQUIRED.items():
            setattr(copied, keyword, clean(_text(source, keyword)))
        for keyword, clean in (_OPTIONAL | _LOSSY).items():
            value = clean(_text(source, keyword))
            if value:
                setattr(copied, keyword, value)
    if "DeidentificationMethod" not in copied and "PatientIdentityRemoved" in copied:
        del copied.PatientIdentityRemoved  # which must not be without its method
    if copied.get("LossyImageCompression") != "01":
        for keyword in _LOSSY:
            copied.pop(keyword, None)
    return copied


def software_version() -> str:
    """The version of volseg that writes."""
    return version(SOFTWARE)


def long_string(text: str, most: int = _LONGEST_TEXT) -> str:
    """A text as LO (64 characters) or SH (16): one line, no backslash."""
    return " ".join(text.replace("\\", "/").split())[:most].strip()


def decimal_string(number: float) -> str:
    """A number as DS: the digits that make it exactly, or as many as 16 characters hold (PS3.5 section 6.2)."""
    for digits in range(17, 0, -1):
        text = repr(float(number)) if digits == 17 else f"{number:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{number} does not fit the 16 characters of a decimal string.")


def _text(source: Dataset, keyword: str) -> str:
    """The first value as text; where pydicom cannot make a value of the bytes, the bytes as Latin-1."""
    if keyword not in source:
        return ""
    raw = source.get_item(keyword)
    try:
        value = source[keyword].value
    except (ValueError, TypeError, LookupError, OverflowError, NotImplementedError):
        value = raw.value.decode("latin-1") if isinstance(raw, RawDataElement) and raw.value else ""
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if len(value) else ""
    return str(value if value is not None else "").strip(" \0")


def _as_it_is(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())


def _date(text: str) -> str:
    digits = re.sub(r"(?<=\d)[.\-/](?=\d)", "", text)
    try:
        return f"{datetime.strptime(digits, '%Y%m%d'):%Y%m%d}" if len(digits) == 8 else ""  # noqa: DTZ007 - a bare date
    except ValueError:
        return ""


def _time(text: str) -> str:
    digits = text.replace(":", "")
    return digits if _TIME.fullmatch(digits) else ""


def _age(text: str) -> str:
    found = _AGE.fullmatch(text.upper())
    return f"{int(found[1]):03d}{found[2]}" if found else ""


def _positive(text: str) -> str:
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return ""
    return decimal_string(number) if 0 < number < float("inf") else ""


def _one_of(*words: str) -> Callable[[str], str]:
    return lambda text: text.upper() if text.upper() in words else ""


_REQUIRED: dict[str, Callable[[str], str]] = {
    "PatientName": _as_it_is,
    "PatientID": _as_it_is,
    "PatientBirthDate": _date,
    "PatientSex": _one_of("M", "F", "O"),
    "StudyInstanceUID": _as_it_is,
    "StudyDate": _date,
    "StudyTime": _time,
    "StudyID": _as_it_is,
    "AccessionNumber": _as_it_is,
    "ReferringPhysicianName": _as_it_is,
}
"""Attributes of type 1 and 2, and what makes a valid value of each."""

_OPTIONAL: dict[str, Callable[[str], str]] = {
    "IssuerOfPatientID": _as_it_is,
    "StudyDescription": long_string,
    "PatientAge": _age,
    "PatientSize": _positive,
    "PatientWeight": _positive,
    "PatientIdentityRemoved": _one_of("YES", "NO"),
    "DeidentificationMethod": long_string,
    "PositionReferenceIndicator": long_string,
}

_LOSSY: dict[str, Callable[[str], str]] = {
    "LossyImageCompression": _one_of("00", "01"),
    "LossyImageCompressionRatio": _positive,
    "LossyImageCompressionMethod": long_string,
}
"""A result of an image that has lost detail says so (PS3.3 C.7.6.1.1.5)."""
