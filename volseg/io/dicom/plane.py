"""Whether frames can be placed at all, and their common plane: directions, normal and pixel spacing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volseg.errors import few
from volseg.geometry import FloatArray
from volseg.io.dicom.frame import Frame, Reason, Refusal

ORIENTATION_TOLERANCE = 1e-3
"""How far a direction may be from the mean over the stack, and the cosine of a row and a column from 0."""

_GREY = ("MONOCHROME1", "MONOCHROME2")
_LEAST_LENGTH = 1e-3
"""A shorter direction points nowhere."""

_LISTED = 5


@dataclass(frozen=True, eq=False)
class Plane:
    """The mean orientation of frames: unit vectors [3] in LPS, and the pixel spacing in mm."""

    row: FloatArray
    """Direction of rising column index."""
    column: FloatArray
    """Direction of rising row index."""
    normal: FloatArray
    """cross(row, column): slices rise along it, which makes the grid right-handed in LPS."""
    row_spacing: float
    column_spacing: float


def identity(frame: Frame) -> tuple[str, int, str]:
    """What frames are sorted by before anything else, so that the order of files never shows in a result."""
    return frame.sop_uid, frame.number, str(frame.file)


def positions(frames: Sequence[Frame]) -> FloatArray:
    """ImagePositionPatient of frames that all have one: [n, 3], LPS+ mm."""
    return np.array([frame.position for frame in frames], dtype=np.float64).reshape(-1, 3)


def directions(frames: Sequence[Frame]) -> FloatArray:
    """ImageOrientationPatient of frames that all have one [n, 2, 3], each direction of length 1."""
    vectors = np.array([frame.orientation for frame in frames], dtype=np.float64).reshape(-1, 2, 3)
    return vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def check_frames(frames: Sequence[Frame]) -> Refusal | None:
    """Why these frames cannot be placed at all, whatever their arrangement; None where they can."""
    for frame in frames:
        if "MOSAIC" in frame.traits.image_type:
            return Refusal(
                Reason.MOSAIC,
                f"{name_frame(frame)} is a mosaic: many slices in one picture, with positions in private tags. "
                "Export it as an enhanced multi-frame image, or convert it with dcm2niix.",
            )
        if frame.encoding.samples != 1 or frame.encoding.photometric not in _GREY:
            return Refusal(
                Reason.COLOUR,
                f"{name_frame(frame)} is a colour picture ({frame.encoding.photometric}, {frame.encoding.samples} "
                "samples a pixel); expected one grey value a pixel.",
            )
    faults = (
        (Reason.NO_POSITION, "a usable ImagePositionPatient (0020,0032)", _has_position),
        (Reason.BAD_ORIENTATION, "a usable ImageOrientationPatient (0020,0037)", _has_orientation),
        (Reason.NO_SPACING, "a usable PixelSpacing (0028,0030)", _has_spacing),
    )
    for reason, what, is_good in faults:
        bad = [name_frame(frame) for frame in frames if not is_good(frame)]
        if bad:
            of = f"{len(bad)} of {len(frames)} frames are" if len(frames) > 1 else "The only frame is"
            return Refusal(reason, f"{of} without {what}: {few(bad, _LISTED)}. Export the series again.")
    return None


def check_rescale(frames: Sequence[Frame]) -> Refusal | None:
    """Refuse a stack in which some planes are rescaled and others say nothing: Hounsfield units beside raw values."""
    bad = [name_frame(frame) for frame in frames if not frame.has_rescale]
    if len(bad) in (0, len(frames)) or all((frame.slope, frame.intercept) == (1, 0) for frame in frames):
        return None
    return Refusal(
        Reason.INCOMPLETE,
        f"{len(bad)} of {len(frames)} frames are without a rescale slope (0028,1053), which the others have: "
        f"{few(bad, _LISTED)}. Their values cannot be compared. Export the series again.",
    )


def mean_plane(frames: Sequence[Frame]) -> Plane | Refusal:
    """The mean orientation and pixel spacing of frames that passed `check_frames`, or why there is none."""
    vectors = directions(frames)
    mean = vectors.mean(0)
    spread = float(np.abs(vectors - mean).max())
    if spread > ORIENTATION_TOLERANCE:
        return Refusal(
            Reason.BAD_ORIENTATION,
            f"the {len(frames)} planes are not parallel: their directions differ from the mean by up to {spread:.4f}.",
        )
    row, column = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    if abs(row @ column) > ORIENTATION_TOLERANCE:
        return Refusal(
            Reason.BAD_ORIENTATION,
            f"{name_frame(frames[0])}: rows and columns are not perpendicular (ImageOrientationPatient "
            f"{frames[0].orientation}, cosine {row @ column:.4f}).",
        )
    normal = np.cross(row, column)
    spacing = np.array([frame.pixel_spacing for frame in frames], dtype=np.float64).mean(0)
    return Plane(row, column, normal / np.linalg.norm(normal), float(spacing[0]), float(spacing[1]))


def name_frame(frame: Frame) -> str:
    """The file of a frame, and which of its frames where it has several."""
    return f"{frame.file} (frame {frame.number})" if frame.file_frames > 1 else str(frame.file)


def _has_position(frame: Frame) -> bool:
    return frame.position is not None and all(map(math.isfinite, frame.position))


def _has_orientation(frame: Frame) -> bool:
    found = frame.orientation
    if found is None or not all(map(math.isfinite, found)):
        return False
    return min(math.hypot(*found[:3]), math.hypot(*found[3:])) > _LEAST_LENGTH


def _has_spacing(frame: Frame) -> bool:
    spacing = frame.pixel_spacing
    return spacing is not None and all(map(math.isfinite, spacing)) and min(spacing) > 0
