"""The words of DICOM reading: a frame (one plane, known from its header), a stack of frames, and why one was left out."""

from dataclasses import dataclass
from enum import StrEnum

from volseg.geometry import Grid
from volseg.origin import FileRef

Vector = tuple[float, float, float]

SECONDARY_CAPTURES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.7{version}" for version in ("", ".1", ".2", ".3", ".4")
)
"""SOP classes of pictures that no scanner took (DICOM PS3.3 A.8)."""


class Reason(StrEnum):
    """Why a file, a frame or a whole stack is not used; the value is what tables and JSON show."""

    # a file or frame that is set aside, while the others may be used
    NOT_DICOM = "not-dicom"
    UNREADABLE = "unreadable"
    NOT_IMAGE = "not-image"
    SCOUT = "scout"
    SCREENSHOT = "screenshot"
    DUPLICATE = "duplicate"
    OTHER_MATRIX = "other-matrix"
    OTHER_ORIENTATION = "other-orientation"
    OTHER_SPACING = "other-spacing"
    # a stack that cannot be a volume
    NO_POSITION = "no-position"
    BAD_ORIENTATION = "bad-orientation"
    NO_SPACING = "no-spacing"
    REPEATED_POSITIONS = "repeated-positions"
    INTERLEAVED = "interleaved"
    MISSING_SLICES = "missing-slices"
    IRREGULAR_SPACING = "irregular-spacing"
    SHIFTED_SLICES = "shifted-slices"
    MOSAIC = "mosaic"
    COLOUR = "colour"
    INCOMPLETE = "incomplete"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class SeriesText:
    """What a header says of its series; one object is shared by the frames of a series. No identity of the patient."""

    patient: str
    """SHA-256 of the patient's ID and its issuer (of name and birth date where there is no ID): tells patients apart
    however their names are spelt, and is never shown."""
    study_uid: str
    series_uid: str
    modality: str
    description: str
    protocol: str
    body_part: str
    series_number: str
    contrast_agent: str
    """ContrastBolusAgent (0018,0010), empty where absent."""
    manufacturer: str


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the pixels of a file are stored; one object is shared by the files that store them alike."""

    transfer_syntax: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    samples: int
    """SamplesPerPixel (0028,0002): 1 is intensities, 3 is colour."""
    photometric: str
    has_modality_lut: bool = False
    is_big_endian: bool = False
    is_float: bool = False
    """Float or double float pixel data (7FE0,0008 and 0009)."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What may tell apart planes at one position, each None where the header is silent (DICOM PS3.3 A.3, A.4, C.8)."""

    stack_id: str | None = None
    echo_time_ms: float | None = None
    echo_number: int | None = None
    inversion_time_ms: float | None = None
    b_value: float | None = None
    gradient: Vector | None = None
    temporal_position: int | None = None
    trigger_time_ms: float | None = None
    cardiac_phase_percent: float | None = None
    contrast_phase: str | None = None
    image_type: tuple[str, ...] = ()
    acquisition_number: int | None = None
    acquisition_time: str | None = None
    """Date and time as far as known, so that it sorts as text; for telling acquisitions apart, never shown."""
    content_time: str | None = None
    repetition_time_ms: float | None = None
    flip_angle: float | None = None
    scanning_sequence: str = ""
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane of one DICOM image, from its header alone. Positions and directions are as stored: LPS+ mm."""

    file: FileRef
    number: int
    """Frame number in the file, from 0."""
    sop_uid: str
    sop_class: str
    series: SeriesText
    frame_of_reference: str
    instance_number: int | None
    rows: int
    columns: int
    position: Vector | None
    """ImagePositionPatient (0020,0032): centre of the first pixel."""
    orientation: tuple[float, float, float, float, float, float] | None
    """ImageOrientationPatient (0020,0037): direction of rising column index, then of rising row index."""
    pixel_spacing: tuple[float, float] | None
    """PixelSpacing (0028,0030) in mm: between rows, between columns."""
    slice_thickness: float | None
    traits: Traits
    encoding: Encoding
    slope: float
    intercept: float
    has_rescale: bool = True
    """Whether the header gives the slope; where it does not, slope and intercept are 1 and 0."""
    file_frames: int = 1
    """NumberOfFrames of the file."""
    pixel_offset: int | None = None
    """First byte of the pixel data value in the file; None where it has to be unpacked first (deflated)."""
    pixel_bytes: int | None = None
    """Length of the pixel data value; None where the pixels are compressed (undefined length)."""
    concatenation: tuple[str, int, int | None] | None = None
    """Of a concatenation (PS3.3 C.7.6.16.2.2.4): its UID, the number of this part, the number of parts if known."""
    notes: tuple[str, ...] = ()
    """What a reader should know, such as a PET unit that was left alone."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file, or one frame of it, that is used for nothing, and why."""

    file: FileRef
    reason: Reason
    text: str
    frame: int | None = None
    series: SeriesText | None = None
    """The series it names, where its header could be read that far and says so."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a stack cannot become a volume: a code for tables, a sentence for people."""

    reason: Reason
    text: str


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames that are (or would be) one volume."""

    frames: tuple[Frame, ...]
    """Sorted along the stack's normal where positions are known."""
    trait: str = ""
    """What sets it apart from the other stacks of its series, such as "echo time 4.6 ms"."""
    grid: Grid | None = None
    """Regular grid of the frames, shape (columns, rows, frames), possibly sheared; None where refused."""
    slices: tuple[float, ...] = ()
    """Slice index of each frame on the grid: 0, 1, 2 ..., or fractions on a grid that fills gaps."""
    refusal: Refusal | None = None
    notes: tuple[str, ...] = ()
