"""Enhanced multi-frame objects (PS3.3 C.7.6.16): the functional groups of each frame, laid over each other."""

from volseg.io.dicom.elements import Elements

GROUP_SEQUENCES = (
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PlanePositionSequence PlaneOrientationSequence "
    "PixelMeasuresSequence PixelValueTransformationSequence FrameContentSequence MREchoSequence "
    "MRTimingAndRelatedParametersSequence MRModifierSequence MRDiffusionSequence DiffusionGradientDirectionSequence "
    "MRImageFrameTypeSequence CTImageFrameTypeSequence PETFrameTypeSequence CardiacSynchronizationSequence "
    "ContrastBolusUsageSequence CTReconstructionSequence PETReconstructionSequence"
)
"""The sequences whose elements describe a frame (keywords)."""

_NEVER_SHARED = ("ImagePositionPatient", "SliceLocation")


def planes_of(elements: Elements, count: int) -> list[Elements]:
    """The flat elements of each frame of a file: the frame's own groups over the shared ones over the file's.

    A position that stands outside the groups is the first frame's alone: it is left out where there are more frames.

    Args:
        elements: of the whole file.
        count: frames in the file.

    Raises:
        ValueError: the groups describe another number of frames.
    """
    if count == 1 and "PerFrameFunctionalGroupsSequence" not in elements.sequences:
        shared = _flat(elements.item("SharedFunctionalGroupsSequence"))
        return [_over(elements, shared, {}) if shared else elements]
    base = elements
    if count > 1:
        kept = {keyword: value for keyword, value in elements.values.items() if keyword not in _NEVER_SHARED}
        base = Elements(kept, elements.sequences, elements.is_little)
    shared = _flat(elements.item("SharedFunctionalGroupsSequence"))
    groups = elements.sequences.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        return [_over(base, shared, {})] * count
    if len(groups) != count:
        raise ValueError(f"it announces {count} frames and describes {len(groups)}")
    return [_over(base, shared, _flat(group)) for group in groups]


def _flat(item: Elements | None) -> dict[str, tuple[str, bytes]]:
    """The elements of an item and of the first item of each sequence in it, at any depth."""
    if item is None:
        return {}
    values = dict(item.values)
    for items in item.sequences.values():
        values |= _flat(items[0] if items else None)
    return values


def _over(
    base: Elements, shared: dict[str, tuple[str, bytes]], own: dict[str, tuple[str, bytes]]
) -> Elements:
    return Elements(base.values | shared | own, base.sequences, base.is_little)
