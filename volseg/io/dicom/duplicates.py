"""The same picture more than once: one instance in two files, or a copy under a new UID."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from volseg.io.dicom.distinctions import IntArray
from volseg.io.dicom.frame import Dropped, Frame, Reason, Refusal
from volseg.io.dicom.plane import identity, name_frame, positions
from volseg.io.dicom.slice_fit import SAME_POSITION_MM

Content = Callable[[Frame], bytes]
"""A key of a plane's intensities: the same intensities have the same key."""

Faults = dict[tuple[str, int, str], Refusal]
"""Why no stack with this frame can be a volume, by the frame's identity."""


def unique_instances(frames: Sequence[Frame], content: Content) -> tuple[list[Frame], list[Dropped], Faults]:
    """One frame for each SOP instance and frame number (DICOM PS3.5 section 9: a UID names one object).

    Copies that agree in place and content are dropped; where they do not, all of them stay, each with a fault.
    """
    same: defaultdict[tuple[str, int], list[Frame]] = defaultdict(list)
    kept = [frame for frame in frames if not frame.sop_uid]
    for frame in frames:
        if frame.sop_uid:
            same[frame.sop_uid, frame.number].append(frame)
    dropped: list[Dropped] = []
    faults: Faults = {}
    for copies in same.values():
        first, *others = sorted(copies, key=identity)
        if all(_place(other) == _place(first) and content(other) == content(first) for other in others):
            kept.append(first)
            dropped += [_copy_of(first, other) for other in others]
        else:
            kept += copies
            text = (
                f"{name_frame(first)} and {name_frame(others[0])} are different pictures under one SOP Instance UID; "
                "one of them is not what it says. Export the series again."
            )
            faults |= {identity(frame): Refusal(Reason.CORRUPT, text) for frame in copies}
    return kept, dropped, faults


def drop_copies(
    frames: Sequence[Frame], levels: IntArray, content: Content
) -> tuple[list[int], list[Dropped]] | None:
    """Which frames [n] to keep, where all frames at one position (of one level [n]) are copies of each other.

    The search starts in the middle, where two phases differ, and ends at the first difference: None.
    """
    at_level: defaultdict[int, list[int]] = defaultdict(list)
    for index, level in enumerate(levels.tolist()):
        at_level[level].append(index)
    kept: list[int] = []
    dropped: list[Dropped] = []
    middle = float(levels.max()) / 2
    for level in sorted(at_level, key=lambda level: (abs(level - middle), level)):
        first, *others = sorted(at_level[level], key=lambda index: identity(frames[index]))
        for other in others:
            if not _is_copy(frames[first], frames[other], content):
                return None
            dropped.append(_copy_of(frames[first], frames[other]))
        kept.append(first)
    return sorted(kept), dropped


def _is_copy(first: Frame, other: Frame, content: Content) -> bool:
    start, end = positions([first, other])
    return bool(np.linalg.norm(end - start) <= SAME_POSITION_MM[1]) and content(first) == content(other)


def _place(frame: Frame) -> tuple[object, ...]:
    return frame.rows, frame.columns, frame.position, frame.orientation, frame.pixel_spacing


def _copy_of(first: Frame, other: Frame) -> Dropped:
    number = other.number if other.file_frames > 1 else None
    text = f"the same picture at the same place as {name_frame(first)}"
    return Dropped(other.file, Reason.DUPLICATE, text, number)
