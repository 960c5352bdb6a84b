"""What may tell apart planes at one position: the Traits of a plane, from standard and from vendors' private elements.

A plane's elements are given flat: for an enhanced object its functional groups are laid over each other first
(volseg.io.dicom.multiframe), so that one reading serves classic and enhanced objects.
"""

from volseg.io.dicom.elements import Elements
from volseg.io.dicom.frame import Traits, Vector

TRAIT_KEYWORDS = (
    "StackID EffectiveEchoTime EchoTime EchoNumbers InversionTimes InversionTime DiffusionBValue "
    "DiffusionGradientOrientation TemporalPositionIndex TemporalPositionIdentifier SeriesType ImageIndex "
    "NumberOfSlices NominalCardiacTriggerDelayTime TriggerTime NominalPercentageOfCardiacPhase "
    "ContrastBolusAgentPhase FrameType ImageType FrameAcquisitionNumber AcquisitionNumber FrameAcquisitionDateTime "
    "AcquisitionDateTime AcquisitionDate AcquisitionTime ContentDate ContentTime RepetitionTime FlipAngle "
    "ScanningSequence ConvolutionKernel"
)
"""The standard elements that traits are made of (keywords)."""

PRIVATE_TAGS = {
    0x00190010: "SiemensCreator",  # the name of a private block, PS3.5 section 7.8
    0x0019100C: "SiemensBValue",
    0x0019100E: "SiemensGradient",
    0x00430010: "GEParametersCreator",
    0x00431039: "GEBValue",
    0x001910BB: "GEGradientX",
    0x001910BC: "GEGradientY",
    0x001910BD: "GEGradientZ",
    0x20010010: "PhilipsCreator",
    0x20011003: "PhilipsBValue",
    0x20050010: "PhilipsMRCreator",
    0x200510B0: "PhilipsGradientX",
    0x200510B1: "PhilipsGradientY",
    0x200510B2: "PhilipsGradientZ",
    0x00650010: "UnitedImagingCreator",
    0x00651009: "UnitedImagingBValue",
}
"""Diffusion weighting as the vendors' conformance statements give it, and who owns each private block."""

PRIVATE_VRS = {
    "SiemensBValue": "IS",
    "SiemensGradient": "FD",
    "GEBValue": "IS",
    "PhilipsBValue": "FL",
    "PhilipsGradientX": "FL",
    "PhilipsGradientY": "FL",
    "PhilipsGradientZ": "FL",
    "UnitedImagingBValue": "FD",
}
"""How the private elements are written, for files that do not say (implicit value representation)."""

_GE_MODULUS = 100_000
"""GE adds a large constant to the b-value of scans with several b-values."""


def traits_of(plane: Elements) -> Traits:
    """The traits of one plane from its flat elements."""
    plane = _with_private_vrs(plane)
    return Traits(
        stack_id=plane.text("StackID") or None,
        echo_time_ms=_first(plane, "EffectiveEchoTime", "EchoTime"),
        echo_number=plane.whole("EchoNumbers"),
        inversion_time_ms=_first(plane, "InversionTimes", "InversionTime"),
        b_value=_b_value(plane),
        gradient=_gradient(plane),
        temporal_position=_temporal_position(plane),
        trigger_time_ms=_first(plane, "NominalCardiacTriggerDelayTime", "TriggerTime"),
        cardiac_phase_percent=plane.number("NominalPercentageOfCardiacPhase"),
        contrast_phase=plane.text("ContrastBolusAgentPhase") or None,
        image_type=plane.texts("FrameType") or plane.texts("ImageType"),
        acquisition_number=_either(plane.whole("FrameAcquisitionNumber"), plane.whole("AcquisitionNumber")),
        acquisition_time=plane.text("FrameAcquisitionDateTime")
        or plane.text("AcquisitionDateTime")
        or _moment(plane, "Acquisition"),
        content_time=_moment(plane, "Content"),
        repetition_time_ms=plane.number("RepetitionTime"),
        flip_angle=plane.number("FlipAngle"),
        scanning_sequence="\\".join(plane.texts("ScanningSequence")),
        kernel=plane.text("ConvolutionKernel"),
    )


def _with_private_vrs(plane: Elements) -> Elements:
    vague = {
        keyword: (vr, plane.values[keyword][1])
        for keyword, vr in PRIVATE_VRS.items()
        if plane.values.get(keyword, ("",))[0] == "UN"
    }
    return Elements(plane.values | vague, plane.sequences, plane.is_little) if vague else plane


def _first(plane: Elements, *keywords: str) -> float | None:
    return next((number for number in map(plane.number, keywords) if number is not None), None)


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def _moment(plane: Elements, kind: str) -> str | None:
    return plane.text(f"{kind}Date") + plane.text(f"{kind}Time") or None


def _b_value(plane: Elements) -> float | None:
    standard = plane.number("DiffusionBValue")
    if standard is not None:
        return standard
    for keyword, creator, name in (
        ("SiemensBValue", "SiemensCreator", "SIEMENS MR HEADER"),
        ("PhilipsBValue", "PhilipsCreator", "PHILIPS IMAGING DD 001"),
        ("UnitedImagingBValue", "UnitedImagingCreator", "IMAGE PRIVATE HEADER"),
        ("GEBValue", "GEParametersCreator", "GEMS_PARM_01"),
    ):
        found = plane.number(keyword) if plane.text(creator).upper() == name else None
        if found is not None:
            return found % _GE_MODULUS if keyword == "GEBValue" else found
    return None


def _gradient(plane: Elements) -> Vector | None:
    found = plane.vector("DiffusionGradientOrientation", 3)
    creator = plane.text("SiemensCreator").upper()
    if found is None and creator == "SIEMENS MR HEADER":
        found = plane.vector("SiemensGradient", 3)
    if found is None and plane.text("PhilipsMRCreator").upper() == "PHILIPS MR IMAGING DD 001":
        found = _joined(plane, "PhilipsGradient")
    if found is None and creator == "GEMS_ACQU_01":
        found = _joined(plane, "GEGradient")
    return None if found is None else (found[0], found[1], found[2])


def _joined(plane: Elements, keyword: str) -> tuple[float, ...] | None:
    parts = [plane.number(keyword + axis) for axis in "XYZ"]
    known = tuple(part for part in parts if part is not None)
    return known if len(known) == 3 else None


def _temporal_position(plane: Elements) -> int | None:
    found = _either(plane.whole("TemporalPositionIndex"), plane.whole("TemporalPositionIdentifier"))
    series_type = plane.texts("SeriesType")
    slices, index = plane.whole("NumberOfSlices"), plane.whole("ImageIndex")
    if found is None and series_type[:1] in (("DYNAMIC",), ("GATED",)) and slices and index:
        # PS3.3 C.8.9.4.1.9: the image index runs through the slices of a time slot, then through the time slots.
        return (index - 1) // slices + 1
    return found
