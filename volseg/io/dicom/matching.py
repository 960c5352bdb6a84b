"""Frames that can lie in one grid at all: one kind of picture, one matrix, one pixel spacing, one orientation."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom import config
from pydicom.uid import UID

from volseg.io.dicom.distinctions import clusters
from volseg.io.dicom.frame import SECONDARY_CAPTURES, Dropped, Frame, Reason, Refusal
from volseg.io.dicom.plane import check_frames, directions, identity, name_frame

DIRECTION_TOLERANCE = 5e-4
"""Components of one orientation differ by at most this: noise of 1e-4 in each leaves up to 3.5e-4 between two frames."""

PIXEL_SPACING_TOLERANCE = 5e-4
"""Pixel spacings of one matrix differ by at most this part: 0.18 mm over 512 pixels of 0.7 mm."""

FEW = 2
"""At most this many frames that match no others are set aside, not shown as a volume of their own ..."""

FEW_OF_MOST = 3
"""... where at least this many times as many frames match each other."""

_GREY = ("MONOCHROME1", "MONOCHROME2")
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Part:
    """Frames that are one volume as far as is known so far, what sets them apart, or why they are no volume."""

    frames: tuple[Frame, ...]
    trait: str = ""
    refusal: Refusal | None = None


def match_frames(frames: Sequence[Frame]) -> tuple[list[Part], list[Dropped]]:
    """Frames in groups that match, the largest first; one or two that match no others are set aside.

    A frame without position, orientation or pixel spacing belongs to the group of its matrix: which then is refused,
    since the slice it lacks may be anywhere.
    """
    ordered = sorted(frames, key=identity)
    pictures, dropped = _without_scouts(ordered)
    pictures = _without_captures(pictures, dropped)
    matched: list[Part] = []
    for group in _by_kind(pictures, dropped):
        refusal = check_frames(group.frames)
        if refusal is not None:
            matched.append(replace(group, refusal=refusal))
            continue
        for part in _cut(group, _spacing_key(group.frames), Reason.OTHER_SPACING, dropped):
            matched += _by_orientation(part, dropped)
    return matched, dropped


def _without_scouts(frames: Sequence[Frame]) -> tuple[list[Frame], list[Dropped]]:
    """Localizers are set aside where they are not all there is (ImageType value 3, PS3.3 C.8.2.1.1.1)."""
    scouts = [frame for frame in frames if "LOCALIZER" in frame.traits.image_type]
    if len(scouts) == len(frames):
        return list(frames), []
    others = [frame for frame in frames if "LOCALIZER" not in frame.traits.image_type]
    return others, [
        _set_aside(frame, Reason.SCOUT, "a localizer (scout) among other images") for frame in scouts
    ]


def _without_captures(frames: Sequence[Frame], dropped: list[Dropped]) -> list[Frame]:
    """Secondary captures (PS3.3 A.8) are set aside where scanned slices are the most, even if they have a place."""
    captures = [frame for frame in frames if frame.sop_class in SECONDARY_CAPTURES]
    if 2 * len(captures) >= len(frames):
        return list(frames)
    text = "a secondary capture among scanned slices"
    dropped += [_set_aside(frame, Reason.SCREENSHOT, text) for frame in captures]
    return [frame for frame in frames if frame.sop_class not in SECONDARY_CAPTURES]


def _by_kind(frames: Sequence[Frame], dropped: list[Dropped]) -> list[Part]:
    """By what is no matter of geometry, then by matrix."""
    groups: list[Part] = []
    everything = Part(tuple(frames))
    greys = [_is_grey(frame) for frame in frames]
    screenshot = Reason.SCREENSHOT if sum(greys) > len(frames) / 2 else None
    for colour in _cut(everything, _Key(greys, _colour_text), screenshot, dropped):
        kinds = _Key([_kind(frame) for frame in colour.frames], _kind_text)
        for kind in _cut(colour, kinds, None, dropped):
            matrices = _Key([(frame.columns, frame.rows) for frame in kind.frames], _matrix_text)
            groups += _cut(kind, matrices, Reason.OTHER_MATRIX, dropped)
    return groups


def _by_orientation(group: Part, dropped: list[Dropped]) -> list[Part]:
    vectors = directions(group.frames).reshape(-1, 6)
    labels = clusters(vectors, DIRECTION_TOLERANCE).tolist()
    sizes = Counter(labels)
    if len(sizes) > 1 and max(sizes.values()) <= FEW:
        text = (
            f"the {len(group.frames)} frames have {len(sizes)} orientations, none with more than "
            f"{max(sizes.values())}: localizers or a radial set, not a volume."
        )
        return [replace(group, refusal=Refusal(Reason.BAD_ORIENTATION, text))]
    normals = np.abs(np.cross(vectors[:, :3], vectors[:, 3:]))
    names = [_PLANES[int(normals[labels.index(label)].argmax())] for label in range(len(sizes))]
    texts = [
        f"{name} {names[:label].count(name) + 1}" if names.count(name) > 1 else name
        for label, name in enumerate(names)
    ]
    return _cut(group, _Key(labels, lambda label: texts[label]), Reason.OTHER_ORIENTATION, dropped)


@dataclass(frozen=True)
class _Key:
    """A value for each frame of a group, and words for a value."""

    values: Sequence[Hashable]
    text: Callable[..., str]


def _cut(group: Part, key: _Key, reason: Reason | None, dropped: list[Dropped]) -> list[Part]:
    """The group in parts of one value each, largest first; parts of few frames are dropped where there is a reason."""
    parts: defaultdict[Hashable, list[Frame]] = defaultdict(list)
    for frame, value in zip(group.frames, key.values, strict=True):
        parts[value].append(frame)
    if len(parts) < 2:
        return [group]
    ranked = sorted(parts.items(), key=lambda part: (-len(part[1]), str(part[0])))
    most = len(ranked[0][1])
    kept: list[Part] = []
    for value, frames in ranked:
        if reason is not None and len(frames) <= FEW and most >= FEW_OF_MOST * len(frames):
            text = f"{key.text(value)}, while {most} other frames of the series have {key.text(ranked[0][0])}"
            dropped += [_set_aside(frame, reason, text) for frame in frames]
        else:
            trait = ", ".join(filter(None, (group.trait, key.text(value))))
            kept.append(Part(tuple(frames), trait))
    return kept if len(kept) > 1 else [replace(kept[0], trait=group.trait)]


def _set_aside(frame: Frame, reason: Reason, text: str) -> Dropped:
    number = frame.number if frame.file_frames > 1 else None
    return Dropped(frame.file, reason, f"{name_frame(frame)}: {text}", number)


def _spacing_key(frames: Sequence[Frame]) -> _Key:
    spacing = np.array([frame.pixel_spacing for frame in frames], dtype=np.float64)
    labels = clusters(np.log(spacing), PIXEL_SPACING_TOLERANCE).tolist()
    shown = [
        f"pixels of {spacing[labels.index(label)][0]:g} x {spacing[labels.index(label)][1]:g} mm"
        for label in range(max(labels) + 1)
    ]
    return _Key(labels, lambda label: shown[label])


def _is_grey(frame: Frame) -> bool:
    return frame.encoding.samples == 1 and frame.encoding.photometric in _GREY


def _colour_text(is_grey: bool) -> str:
    return "grey values" if is_grey else "colours"


def _kind(frame: Frame) -> tuple[str, str, bool]:
    return frame.series.modality, frame.sop_class, "MOSAIC" in frame.traits.image_type


def _kind_text(kind: tuple[str, str, bool]) -> str:
    return f"{kind[0]} {'mosaic' if kind[2] else UID(kind[1], config.IGNORE).name}".strip()


def _matrix_text(matrix: tuple[int, int]) -> str:
    return f"{matrix[0]} x {matrix[1]} pixels"
