"""From the header of a file to its frames, or to the reason why it has none. Pixels are not read.

A Siemens mosaic (MOSAIC in its image type) stays a frame: placing it refuses it with that reason.
"""

from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO, NamedTuple, cast

from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.uid import UID

from volseg.errors import InputError, few
from volseg.io.dicom.elements import DEFLATED, Elements, Layout, PixelElement, Scanner
from volseg.io.dicom.files import inflate, open_start, size_of
from volseg.io.dicom.frame import SECONDARY_CAPTURES, Dropped, Encoding, Frame, Reason, Traits, Vector
from volseg.io.dicom.multiframe import GROUP_SEQUENCES, planes_of
from volseg.io.dicom.series_text import PRIVATE_SCALE_TAGS, TEXT_KEYWORDS, notes_of, series_text
from volseg.io.dicom.traits import PRIVATE_TAGS, TRAIT_KEYWORDS, traits_of
from volseg.origin import FileRef

_KEYWORDS = (
    "SOPClassUID SOPInstanceUID InstanceNumber FrameOfReferenceUID ImagePositionPatient ImageOrientationPatient "
    "PixelSpacing SliceThickness SamplesPerPixel PhotometricInterpretation NumberOfFrames Rows Columns BitsAllocated "
    "BitsStored HighBit PixelRepresentation RescaleSlope RescaleIntercept ModalityLUTSequence ConcatenationUID "
    "InConcatenationNumber InConcatenationTotalNumber"
)
_DICOMDIR = "OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity"
_WANTED = (
    {
        tag_for_keyword(keyword) or 0: keyword
        for keywords in (_KEYWORDS, TEXT_KEYWORDS, TRAIT_KEYWORDS, GROUP_SEQUENCES, _DICOMDIR)
        for keyword in keywords.split()
    }
    | PRIVATE_TAGS
    | PRIVATE_SCALE_TAGS
)

_NOT_SCANS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.481.1": "a radiotherapy image",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose",
}
_SCAN_CLASSES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{kind}"
    for kind in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130")
)
_SCOUT_TYPES = frozenset(("LOCALIZER", "SCOUT"))
_FLOAT_BITS = {0x7FE00008: 32, 0x7FE00009: 64}
_MOST_FRAMES = 1 << 17
_shared = lru_cache(maxsize=4096)(lambda value: value)


class _Header(NamedTuple):
    file: FileRef
    layout: Layout
    elements: Elements
    pixels: PixelElement | None
    size: int
    """Bytes of the file."""
    damage: str
    """What stopped the reading before the pixels; empty where nothing did."""


def read_frames(file: FileRef) -> list[Frame] | Dropped:
    """The frames of a file: one for a classic image, one per frame for a multi-frame object, from its header alone.

    A file that was cut off inside or right before its pixels keeps its frames: reading them is what fails, so that no
    slice is lost quietly. A scan without a position stays a frame too.

    Returns:
        The frames, or why the file is set aside: not DICOM, unreadable, no image, a scout, a screenshot.
    """
    try:
        with open_start(file) as stream:
            header = _read_header(file, stream)
    except (InputError, OSError) as error:
        return Dropped(file, Reason.UNREADABLE, str(error))
    if header is None:
        return Dropped(file, Reason.NOT_DICOM, f"{file} is not a DICOM file.")
    try:
        return _refused(header) or _frames(header)
    except ValueError as error:
        series = _shared(series_text(header.elements))
        text = f"{file} is damaged: {error}. Export it again."
        return Dropped(file, Reason.UNREADABLE, text, series=series)


def _read_header(file: FileRef, stream: BinaryIO) -> _Header | None:
    size = size_of(file)
    scanner = Scanner(stream, size, _WANTED)
    layout = scanner.layout()
    if layout is None:
        return None
    elements, start = Elements(is_little=layout.is_little), layout
    if layout.transfer_syntax == DEFLATED:
        stream.seek(layout.start)
        data, _ = inflate(file, stream.read())
        scanner, start = Scanner(BytesIO(data), len(data), _WANTED), layout._replace(start=0)
    try:
        pixels = scanner.scan(start, elements)
    except EOFError:
        return _Header(file, layout, elements, None, size, "it ends inside its header")
    except ValueError as error:
        return _Header(file, layout, elements, None, size, str(error))
    return _Header(file, layout, elements, pixels, size, "")


def _refused(header: _Header) -> Dropped | None:
    """Why a file holds no frames of a scan."""
    found = _without_image(header) or _other_image(header.elements)
    if found is None:
        return None
    series = _shared(series_text(header.elements))
    return Dropped(header.file, found[0], f"{header.file} {found[1]}.", series=series)


def _without_image(header: _Header) -> tuple[Reason, str] | None:
    elements = header.elements
    sop_class = elements.text("SOPClassUID")
    other = "a DICOMDIR" if _DICOMDIR in elements.values else _NOT_SCANS.get(sop_class)
    if other:
        return Reason.NOT_IMAGE, f"is {other}, not a scan"
    if header.pixels is None and not (_extents(elements) and elements.whole("BitsAllocated")):
        if header.damage:
            return Reason.UNREADABLE, f"is incomplete: {header.damage}"
        if sop_class in _SCAN_CLASSES or not sop_class:
            return Reason.UNREADABLE, "is incomplete: it has no pixels"
        return Reason.NOT_IMAGE, f"holds no image ({_kind(elements)})"
    if _extents(elements) is None:
        return Reason.UNREADABLE, "does not say how many rows and columns it has"
    return None


def _other_image(elements: Elements) -> tuple[Reason, str] | None:
    image_type = elements.texts("ImageType")
    is_colour = (elements.whole("SamplesPerPixel") or 1) != 1 or "PALETTE" in elements.text(
        "PhotometricInterpretation"
    ).upper()
    if any("SCREEN SAVE" in value for value in image_type):
        return Reason.SCREENSHOT, f"is a screen shot by its image type, {few(image_type, 9)}"
    if is_colour:
        return Reason.SCREENSHOT, f"is a colour image, not a scan ({_kind(elements)})"
    if _SCOUT_TYPES & set(image_type):
        return Reason.SCOUT, f"is a scout by its image type, {few(image_type, 9)}"
    return None


def _frames(header: _Header) -> list[Frame] | Dropped:
    file, elements = header.file, header.elements
    count = elements.whole("NumberOfFrames") or 1
    if not 1 <= count <= _MOST_FRAMES:
        raise ValueError(f"it announces {count:,} frames")
    rows, columns = _extents(elements) or (0, 0)
    planes = planes_of(elements, count)
    offset, length = _place(header)
    base = Frame(
        file=file,
        number=0,
        sop_uid=elements.text("SOPInstanceUID"),
        sop_class=_shared(elements.text("SOPClassUID")),
        series=_shared(series_text(elements)),
        frame_of_reference=_shared(elements.text("FrameOfReferenceUID")),
        instance_number=elements.whole("InstanceNumber"),
        rows=rows,
        columns=columns,
        position=None,
        orientation=None,
        pixel_spacing=None,
        slice_thickness=None,
        traits=Traits(),
        encoding=_encoding(header),
        slope=1.0,
        intercept=0.0,
        file_frames=count,
        pixel_offset=offset,
        pixel_bytes=length,
        concatenation=_concatenation(elements),
        notes=_shared(notes_of(elements, planes[0])),
    )
    frames = [_placed(base, number, plane) for number, plane in enumerate(planes)]
    if base.sop_class in SECONDARY_CAPTURES and not all(map(_is_placed, frames)):
        text = f"{file} is a secondary capture without a place in the patient."
        return Dropped(file, Reason.SCREENSHOT, text, series=base.series)
    return frames


def _placed(base: Frame, number: int, plane: Elements) -> Frame:
    """One plane of a file: what its flat elements say, over what all planes of the file share."""
    position = plane.vector("ImagePositionPatient", 3)
    orientation = plane.vector("ImageOrientationPatient", 6)
    spacing = plane.vector("PixelSpacing", 2)
    thickness = plane.number("SliceThickness")
    return replace(
        base,
        number=number,
        position=cast(Vector | None, position),
        orientation=_shared(orientation),
        pixel_spacing=_shared(spacing) if spacing and min(spacing) > 0 else None,
        slice_thickness=thickness if thickness and thickness > 0 else None,
        traits=_shared(traits_of(plane)),
        slope=_factor(plane, "RescaleSlope", 1.0),
        intercept=_factor(plane, "RescaleIntercept", 0.0),
        has_rescale=bool(plane.numbers("RescaleSlope")),
    )


def _factor(plane: Elements, keyword: str, default: float) -> float:
    """A rescale factor as stored, NaN where it is no number: reading the pixels refuses what is impossible."""
    return (plane.numbers(keyword) or (default,))[0]


def _is_placed(frame: Frame) -> bool:
    return None not in (frame.position, frame.orientation, frame.pixel_spacing)


def _place(header: _Header) -> tuple[int | None, int | None]:
    """First byte and length of the pixel data; a file without any has 0 bytes of it at its end."""
    if header.layout.transfer_syntax == DEFLATED:
        return None, header.pixels.length if header.pixels else 0
    if header.pixels is None:
        return header.size, 0
    return header.pixels.offset, header.pixels.length


def _extents(elements: Elements) -> tuple[int, int] | None:
    rows, columns = elements.whole("Rows"), elements.whole("Columns")
    return (rows, columns) if rows and columns and min(rows, columns) > 0 else None


def _encoding(header: _Header) -> Encoding:
    """How the pixels are stored."""
    elements, pixels = header.elements, header.pixels
    float_bits = _FLOAT_BITS.get(pixels.tag, 0) if pixels else 0
    allocated = float_bits or elements.whole("BitsAllocated")
    representation = 0 if float_bits else elements.whole("PixelRepresentation")
    if not allocated or (representation is None and pixels is not None):
        raise ValueError("it does not say how its pixels are stored")
    if representation not in (0, 1, None):
        raise ValueError(f"its PixelRepresentation is {representation}, neither 0 (unsigned) nor 1 (signed)")
    stored = elements.whole("BitsStored") or allocated
    high_bit, samples = elements.whole("HighBit"), elements.whole("SamplesPerPixel") or 1
    encoding = Encoding(
        transfer_syntax=header.layout.transfer_syntax,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high_bit is None else high_bit,
        is_signed=representation == 1,
        samples=samples,
        # One sample a pixel is a grey value wherever nothing else is said: old files often do not say it.
        photometric=elements.text("PhotometricInterpretation").upper()
        or ("MONOCHROME2" if samples == 1 else ""),
        has_modality_lut="ModalityLUTSequence" in elements.sequences,
        is_big_endian=not header.layout.is_little,
        is_float=bool(float_bits),
    )
    return _shared(encoding)


def _concatenation(elements: Elements) -> tuple[str, int, int | None] | None:
    uid, number = elements.text("ConcatenationUID"), elements.whole("InConcatenationNumber")
    return (uid, number, elements.whole("InConcatenationTotalNumber")) if uid and number is not None else None


def _kind(elements: Elements) -> str:
    """What a file is, for messages."""
    uid, modality = UID(elements.text("SOPClassUID"), config.IGNORE), elements.text("Modality")
    return ", ".join(word for word in (modality, uid.name) if word) or "of no stated kind"
