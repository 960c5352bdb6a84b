"""The volumes of one series: what belongs together, what is set aside, and what cannot be told apart and is refused.

Noise parts nothing: exposure, thickness, kernel, acquisition number, InstanceNumber, directions to 1e-4, the echo time
to 5e-3. What means other intensities always parts: see volseg.io.dicom.distinctions for the traits and their tolerances,
volseg.io.dicom.repeats for planes at one position, volseg.io.dicom.interleaving for slices between each other's.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from volseg.errors import few
from volseg.io.dicom.distinctions import ALWAYS, ECHO_NUMBER, Trait, classify
from volseg.io.dicom.duplicates import Content, Faults, unique_instances
from volseg.io.dicom.frame import Dropped, Frame, Reason, Refusal, Stack
from volseg.io.dicom.geometry import place_frames
from volseg.io.dicom.interleaving import part_interleaved
from volseg.io.dicom.matching import Part, match_frames
from volseg.io.dicom.plane import identity, mean_plane, name_frame
from volseg.io.dicom.repeats import position_levels, separate

_LISTED = 5


def split_stacks(
    frames: Sequence[Frame], *, content: Callable[[Frame], bytes], allow_gaps: bool = False
) -> tuple[list[Stack], list[Dropped]]:
    """Every frame of a series in exactly one stack, or dropped with a reason; the order of the frames does not matter.

    Args:
        frames: those of one series, or of several that were joined.
        content: a key of a frame's intensities; asked only where two frames may be copies of each other.
        allow_gaps: place stacks with missing slices and irregular steps all the same (see place_frames).

    Returns:
        The stacks, placed or refused, with what sets each apart; and what was dropped.

    Raises:
        VolsegError: what `content` raises where pixels that have to be compared cannot be read.
    """
    content = _remembered(content)
    kept, dropped, faults = unique_instances(frames, content)
    faults |= _missing_parts(kept)
    matched, set_aside = match_frames(kept)
    dropped += set_aside
    stacks: list[Stack] = []
    for group in matched:
        if group.refusal is not None:
            stacks.append(Stack(group.frames, group.trait, refusal=group.refusal))
            continue
        for part in _by_meaning(group):
            volumes, copies = _volumes(part, content)
            dropped += copies
            stacks += [_placed(volume, allow_gaps=allow_gaps) for volume in volumes]
    return [_with_fault(stack, faults) for stack in stacks], dropped


def _remembered(content: Content) -> Content:
    """Each frame is read once at most."""
    known: dict[tuple[str, int, str], bytes] = {}

    def key_of(frame: Frame) -> bytes:
        key = identity(frame)
        if key not in known:
            known[key] = content(frame)
        return known[key]

    return key_of


def _by_meaning(group: Part) -> list[Part]:
    """By the traits that always part volumes."""
    parts = [group]
    for trait in ALWAYS:
        parts = [finer for part in parts for finer in _by_trait(part, trait)]
    return [
        finer
        for part in parts
        for finer in (_by_trait(part, ECHO_NUMBER) if _has_no_echo_time(part.frames) else [part])
    ]


def _has_no_echo_time(frames: Sequence[Frame]) -> bool:
    """Echo numbers are needed where the header gives no times; elsewhere they vary by chance."""
    return all(frame.traits.echo_time_ms is None for frame in frames)


def _by_trait(part: Part, trait: Trait) -> list[Part]:
    split = classify(part.frames, trait, silence_counts=False)
    if split.count < 2 or part.refusal is not None:
        return [part]
    count, size = split.count, len(part.frames)
    is_lone = count > 2 and (count > size / 2 if trait.lone_is_noise else count == size)
    if is_lone and position_levels(part.frames).max() > 0:
        if trait.lone_is_noise:
            return [part]
        text = (
            f"each of the {split.count} slices has an {trait.name} of its own ({few(split.texts, _LISTED)}), "
            "so their intensities are not those of one volume."
        )
        return [replace(part, refusal=Refusal(Reason.INTERLEAVED, text))]
    return [
        Part(tuple(part.frames[index] for index in indices), _joined(part.trait, text))
        for indices, text in zip(split.indices(), split.texts, strict=True)
    ]


def _volumes(part: Part, content: Content) -> tuple[list[Part], list[Dropped]]:
    """Apart what lies over or between each other."""
    if part.refusal is not None:
        return [part], []
    layers, dropped = separate(part.frames, content)
    volumes = [
        replace(volume, trait=_joined(part.trait, layer.trait, volume.trait))
        for layer in layers
        for volume in ([layer] if layer.refusal is not None else part_interleaved(layer.frames))
    ]
    return volumes, dropped


def _placed(part: Part, *, allow_gaps: bool) -> Stack:
    if part.refusal is None:
        return place_frames(part.frames, part.trait, allow_gaps=allow_gaps)
    plane = mean_plane(part.frames)
    ordered = part.frames
    if not isinstance(plane, Refusal):
        ordered = tuple(sorted(ordered, key=lambda frame: float(np.dot(frame.position or 0, plane.normal))))
    return Stack(ordered, part.trait, refusal=part.refusal)


def _joined(*texts: str) -> str:
    return ", ".join(filter(None, texts))


def _missing_parts(frames: Sequence[Frame]) -> Faults:
    """A fault for every frame of a concatenation that is not complete (PS3.3 C.7.6.16.2.2.4)."""
    members: defaultdict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        if frame.concatenation is not None:
            members[frame.concatenation[0]].append(frame)
    faults: Faults = {}
    for those in members.values():
        known = {frame.concatenation[1:] for frame in those if frame.concatenation is not None}
        present = {number for number, _ in known}
        total = max(*present, *(count or 0 for _, count in known))
        missing = [str(number) for number in range(1, total + 1) if number not in present]
        if missing:
            text = (
                f"{name_frame(those[0])} is part of a concatenation of {total} files, of which {few(missing, _LISTED)} "
                "are not there. Export the series again."
            )
            faults |= {identity(frame): Refusal(Reason.INCOMPLETE, text) for frame in those}
    return faults


def _with_fault(stack: Stack, faults: Faults) -> Stack:
    """A stack with a frame that cannot be trusted is refused, whatever its place."""
    for frame in stack.frames if faults else ():
        fault = faults.get(identity(frame))
        if fault is not None:
            return replace(stack, refusal=fault, grid=None, slices=(), notes=())
    return stack
