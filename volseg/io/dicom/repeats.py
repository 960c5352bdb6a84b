"""Several planes at one position: copies are dropped, volumes that lie over each other are told apart, or refused."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from volseg.errors import few
from volseg.io.dicom.distinctions import (
    ACQUISITION_TIME,
    AT_ONE_POSITION,
    CONTENT_TIME,
    IN_ORDER,
    IntArray,
    Split,
    classify,
    classify_pauses,
)
from volseg.io.dicom.duplicates import Content, drop_copies
from volseg.io.dicom.frame import Dropped, Frame, Reason, Refusal
from volseg.io.dicom.geometry import place_frames
from volseg.io.dicom.matching import Part
from volseg.io.dicom.plane import mean_plane, positions
from volseg.io.dicom.slice_fit import same_position_mm

_LISTED = 5


def separate(frames: Sequence[Frame], content: Content) -> tuple[list[Part], list[Dropped]]:
    """Parts in which no position has two planes, from frames that pass `check_frames` and are parallel.

    In this order, the first that fits:

    1. all planes at each position are copies: the others are dropped;
    2. a trait of AT_ONE_POSITION, or two of them together, or a pause in time, that has as many classes as a position
       has planes at most, none with two planes at one position, and each can be placed;
    3. every position has the same number of planes, a trait of IN_ORDER sorts them, and all of one rank come before all
       of the next;
    4. a trait as in 2 with more classes, each of which leaves out no position that it passes (overlapping stations), or,
       but for MR, with less than twice as many classes (one phase of several lies between the others' slices);
    5. as 2 and 4 after copies inside each class are dropped;
    6. as 3 and 2, though a class has gaps of its own, for which it will be refused.
    """
    levels = position_levels(frames)
    if len(np.unique(levels)) == len(frames):
        return [Part(tuple(frames))], []
    unique = drop_copies(frames, levels, content)
    if unique is not None:
        return [Part(tuple(frames[index] for index in unique[0]))], unique[1]
    found = list(_splits(frames))
    depth = int(np.bincount(levels).max())
    may_be_offset = all(frame.series.modality != "MR" for frame in frames)
    coarse = [split for split in found if split.count < depth]
    crossed = [first.crossed(second) for first, second in itertools.combinations(coarse, 2)]
    ranked = list(_ranked(frames, levels))
    complete = itertools.chain(
        (split for split in (*found, *crossed) if _is_even(split, levels) and _is_thick(split, levels)),
        ranked,
        (
            split
            for split in found
            if _is_whole(split, levels) or (may_be_offset and _is_offset(split, levels))
        ),
    )
    for split in complete:
        if _is_placed(frames, split):
            return _parts(frames, split), []
    for split in (*found, *crossed):
        cleaned = _without_copies(frames, levels, split, content)
        if cleaned is not None:
            return cleaned
    for split in (*ranked, *(split for split in found if _is_even(split, levels))):
        return _parts(frames, split), []
    return [Part(tuple(frames), refusal=_refusal(frames, levels))], []


def position_levels(frames: Sequence[Frame]) -> IntArray:
    """Which position along the normal each frame has [n], counted from the lowest; planes askew are at one each."""
    plane = mean_plane(frames)
    if isinstance(plane, Refusal):
        return np.arange(len(frames))
    distances = positions(frames) @ plane.normal
    order = np.argsort(distances, kind="stable")
    rising = distances[order]
    levels = np.empty(len(frames), np.int64)
    levels[order] = np.concatenate(([0], np.cumsum(np.diff(rising) > same_position_mm(rising, plane))))
    return levels


def _splits(frames: Sequence[Frame]) -> Iterator[Split]:
    """By each trait that tells some of the frames apart."""
    for trait in AT_ONE_POSITION:
        split = classify(frames, trait)
        if split.count > 1:
            yield split
        if trait in (ACQUISITION_TIME, CONTENT_TIME):
            pauses = classify_pauses(frames, trait)
            if pauses is not None and pauses.count > 1:
                yield pauses


def _is_clean(split: Split, levels: IntArray) -> bool:
    """Whether no class has two planes at one position."""
    return len(np.unique(split.classes * (levels.max() + 1) + levels)) == len(levels)


def _is_even(split: Split, levels: IntArray) -> bool:
    """Whether there are as many classes as planes at a position at most, and no class has two there."""
    return split.count == np.bincount(levels).max() and _is_clean(split, levels)


def _is_thick(split: Split, levels: IntArray) -> bool:
    """Whether no class is a single plane of several positions."""
    return levels.max() == 0 or int(np.bincount(split.classes).min()) > 1


def _is_whole(split: Split, levels: IntArray) -> bool:
    """Whether no class leaves out a position that it passes: every second slice of a volume is no volume."""
    is_unbroken = (np.ptp(levels[indices]) + 1 == len(indices) for indices in split.indices())
    return _is_clean(split, levels) and _is_thick(split, levels) and all(is_unbroken)


def _is_offset(split: Split, levels: IntArray) -> bool:
    """Whether classes may be phases of which one lies between the others; turns of phases are twice as many at least."""
    is_few = split.count < 2 * np.bincount(levels).max()
    return is_few and _is_clean(split, levels) and _is_thick(split, levels)


def _is_placed(frames: Sequence[Frame], split: Split) -> bool:
    return all(place_frames(part.frames).refusal is None for part in _parts(frames, split))


def _parts(frames: Sequence[Frame], split: Split) -> list[Part]:
    return [
        Part(tuple(frames[index] for index in indices), text)
        for indices, text in zip(split.indices(), split.texts, strict=True)
    ]


def _without_copies(
    frames: Sequence[Frame], levels: IntArray, split: Split, content: Content
) -> tuple[list[Part], list[Dropped]] | None:
    """Complete volumes after copies inside each class are dropped; None where there are none."""
    kept: list[int] = []
    dropped: list[Dropped] = []
    for indices in split.indices():
        unique = drop_copies([frames[index] for index in indices], levels[indices], content)
        if unique is None:
            return None
        kept += indices[unique[0]].tolist()
        dropped += unique[1]
    some = [frames[index] for index in kept]
    rest = Split(split.classes[kept], split.texts)
    is_complete = _is_even(rest, levels[kept]) or _is_whole(rest, levels[kept])
    if is_complete and _is_thick(rest, levels[kept]) and _is_placed(some, rest):
        return _parts(some, rest), dropped
    return None


def _ranked(frames: Sequence[Frame], levels: IntArray) -> Iterator[Split]:
    """By the rank of a trait at each position, where all of one rank come before all of the next."""
    depth = int(np.bincount(levels).max())
    if (np.bincount(levels) != depth).any():
        return
    for trait in IN_ORDER:
        values = [trait.value(frame) for frame in frames]
        if any(value is None for value in values):
            continue
        _, order = np.unique(np.array(values), return_inverse=True)
        ranks = np.empty(len(frames), np.int64)
        ranks[np.lexsort((order, levels))] = np.tile(np.arange(depth), len(frames) // depth)
        ends = [(order[ranks == rank].min(), order[ranks == rank].max()) for rank in range(depth)]
        if all(before[1] < after[0] for before, after in itertools.pairwise(ends)):
            yield Split(ranks, tuple(f"{trait.name} {rank + 1} of {depth}" for rank in range(depth)))


def _refusal(frames: Sequence[Frame], levels: IntArray) -> Refusal:
    counts = np.bincount(levels)
    at = [
        f"{counts[level]} at {np.round(positions(frames)[levels == level][0], 2).tolist()}"
        for level in np.flatnonzero(counts > 1)
    ]
    return Refusal(
        Reason.REPEATED_POSITIONS,
        f"{len(at)} of {len(counts)} positions have several different planes, and nothing in the headers sorts all of "
        f"them into volumes: {few(at, _LISTED)} (LPS mm). Export the acquisitions as series of their own.",
    )
