"""Volumes whose slices lie between each other's: together they look like one volume with finer slices, and are none."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from volseg.io.dicom.distinctions import (
    ACQUISITION,
    ACQUISITION_TIME,
    CARDIAC_PHASE,
    CONTENT_TIME,
    CONTRAST_AGENT,
    FLIP_ANGLE,
    INVERSION_TIME,
    SERIES,
    Split,
    classify,
    classify_pauses,
)
from volseg.io.dicom.frame import Frame, Reason, Refusal
from volseg.io.dicom.geometry import place_frames
from volseg.io.dicom.matching import Part
from volseg.io.dicom.plane import Plane, mean_plane, positions

MOST_INTERLEAVED = 3
"""More phases than this do not happen to fill each other's gaps."""

SAME_STEP = 1e-2
"""Slice spacings of interleaved volumes differ by at most this part."""

ONE_TURN = 0.1
"""The spacing of a turn is that of the volume times the number of turns, to this part."""

THICK_OF_SPACING = 1.5
"""Two-dimensional MR is never planned with slices so much thicker than their distance: neighbours would saturate."""


def part_interleaved(frames: Sequence[Frame]) -> list[Part]:
    """The volumes among frames that all lie at different positions; most often all of them are one.

    What changes from slice to slice by chance, or in contiguous blocks (breath holds), parts nothing. A trait parts
    frames where its 2 or 3 classes lie between each other and each is a regular volume of its own, all of the same
    spacing. As traits count: the series UID (of series that were joined); the acquisition number, unless all frames have
    one acquisition time; acquisition and content time, where they pause; the cardiac phase; and what changes the
    intensities: the contrast agent, the flip angle, the inversion time.

    MR is excited in turns, all even slices before all odd ones, with a time and number for each turn. Classes that
    take every second (third) slice are such turns and stay together; unless their series UIDs or intensities differ, or
    the slices are so thick that those of two turns would overlap.

    Frames, not of MR, whose acquisition number and time agree on volumes that are irregular each are refused.
    """
    plane = mean_plane(frames)
    if len(frames) < 3 or isinstance(plane, Refusal):
        return [Part(tuple(frames))]
    distances = positions(frames) @ plane.normal
    rising = [frames[index] for index in np.argsort(distances, kind="stable")]
    finest = float(np.diff(np.sort(distances)).min())
    is_mr = all(frame.series.modality == "MR" for frame in frames)
    strong = [classify(rising, trait) for trait in (SERIES, CONTRAST_AGENT, FLIP_ANGLE, INVERSION_TIME)]
    found = [split for split in (*strong, *_splits(rising)) if _is_interleaved(split)]
    for split in found:
        parts = [
            Part(tuple(rising[index] for index in indices), text)
            for indices, text in zip(split.indices(), split.texts, strict=True)
        ]
        step = _common_step(parts, plane)
        is_turned = is_mr and split not in strong and abs(step - split.count * finest) <= ONE_TURN * step
        if step > 0 and (not is_turned or _thickness(rising) > THICK_OF_SPACING * finest):
            return parts
    if not is_mr and any(_agree(first, second) for first, second in itertools.pairwise(found)):
        text = (
            "the slices of several acquisitions, with a number and a time of their own, lie between each other: "
            f"{', '.join(found[0].texts)}. Export the acquisitions as series of their own."
        )
        return [Part(tuple(frames), refusal=Refusal(Reason.INTERLEAVED, text))]
    return [Part(tuple(frames))]


def _splits(frames: Sequence[Frame]) -> Iterator[Split]:
    times = {frame.traits.acquisition_time for frame in frames}
    if len(times) > 1 or times == {None}:
        yield classify(frames, ACQUISITION)
    for trait in (ACQUISITION_TIME, CONTENT_TIME):
        pauses = classify_pauses(frames, trait)
        if pauses is not None:
            yield pauses
    yield classify(frames, CARDIAC_PHASE)


def _thickness(frames: Sequence[Frame]) -> float:
    """The least SliceThickness in mm, 0 where one is silent. It places nothing: it only tells two readings apart."""
    return min(frame.slice_thickness or 0.0 for frame in frames)


def _is_interleaved(split: Split) -> bool:
    """Whether classes come back after others, in frames sorted along the normal."""
    runs = 1 + int((np.diff(split.classes) != 0).sum())
    return 1 < split.count <= MOST_INTERLEAVED and runs > split.count


def _agree(first: Split, second: Split) -> bool:
    return first.count == second.count == first.crossed(second).count


def _common_step(parts: Sequence[Part], plane: Plane) -> float:
    """The spacing of parts that are regular each and alike, in mm; 0 where they are not. A lone slice has none."""
    steps: list[float] = []
    for part in parts:
        if place_frames(part.frames).refusal is not None:
            return 0.0
        if len(part.frames) > 1:
            steps.append(float(np.ptp(positions(part.frames) @ plane.normal)) / (len(part.frames) - 1))
    is_alike = bool(steps) and max(steps) - min(steps) <= SAME_STEP * max(steps)
    return max(steps) if is_alike else 0.0
