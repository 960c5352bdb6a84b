"""What a header says of its series in words, without the patient's identity."""

import hashlib

from volseg.io.dicom.elements import Elements
from volseg.io.dicom.frame import SeriesText

TEXT_KEYWORDS = (
    "SpecificCharacterSet Modality Manufacturer SeriesDescription PatientName PatientID IssuerOfPatientID "
    "PatientBirthDate BodyPartExamined ProtocolName ContrastBolusAgent ContrastBolusAgentSequence CodeMeaning "
    "StudyInstanceUID SeriesInstanceUID SeriesNumber LossyImageCompression Units"
)
"""The elements that this is made of (keywords)."""

_PRIVATE_SCALE = "PhilipsScaleSlope"
PRIVATE_SCALE_TAGS = {0x2005100E: _PRIVATE_SCALE}
"""Philips' private factor to values that can be compared between series."""

_PATIENT, _NAMELESS = ("PatientID", "IssuerOfPatientID"), ("PatientName", "PatientBirthDate")


def series_text(elements: Elements) -> SeriesText:
    """The words of a file's series; the patient only as a hash."""
    has_id = bool(elements.raw("PatientID").strip(b"\0 "))
    patient = (elements.raw(keyword).strip(b"\0 ") for keyword in (_PATIENT if has_id else _NAMELESS))
    characters = elements.text("SpecificCharacterSet")
    agent = elements.item("ContrastBolusAgentSequence")
    return SeriesText(
        patient=hashlib.sha256(b"\\".join(patient)).hexdigest(),
        study_uid=elements.text("StudyInstanceUID"),
        series_uid=elements.text("SeriesInstanceUID"),
        modality=elements.text("Modality").upper(),
        description=elements.text("SeriesDescription", characters),
        protocol=elements.text("ProtocolName", characters),
        body_part=elements.text("BodyPartExamined", characters),
        series_number=elements.text("SeriesNumber"),
        contrast_agent=elements.text("ContrastBolusAgent", characters)
        or (agent.text("CodeMeaning", characters) if agent else ""),
        manufacturer=elements.text("Manufacturer", characters),
    )


def notes_of(elements: Elements, plane: Elements) -> tuple[str, ...]:
    """What a reader of a file's values should know.

    Args:
        elements: of the whole file.
        plane: of its first frame, flat.
    """
    modality, notes = elements.text("Modality").upper(), []
    if modality == "PT":
        unit = elements.text("Units") or "not given"
        notes.append(f"PET: the values' unit is {unit}; no SUV factor was applied")
    if modality == "CT" and not plane.numbers("RescaleSlope"):
        notes.append("CT without a rescale slope: the values are as stored, perhaps not HU")
    if _PRIVATE_SCALE in elements.values:
        notes.append("Philips: the private scale to comparable MR intensities was not applied")
    if elements.text("LossyImageCompression") == "01":
        notes.append("the pixels were once compressed with loss")
    return tuple(notes)
