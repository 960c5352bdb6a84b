"""Where each label is, so that a step works in a label's own box instead of the whole map."""

from collections.abc import Sequence

from scipy import ndimage

from volseg.volume import AnyArray

Box = tuple[slice, ...]


def label_boxes(array: AnyArray, margins: Sequence[int] = (0, 0, 0)) -> dict[int, Box]:
    """The smallest box of each label above 0 in a map [I, J, K], by rising value.

    Margins are voxels added on both sides along each axis; a box ends at the border of the map.
    """
    found = ndimage.find_objects(array)
    return {
        value: tuple(
            slice(max(0, side.start - margin), min(extent, side.stop + margin))
            for side, margin, extent in zip(box, margins, array.shape, strict=True)
        )
        for value, box in enumerate(found, start=1)
        if box is not None
    }
