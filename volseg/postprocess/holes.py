"""Steps that close cavities."""

from typing import Literal

import numpy as np
from scipy import ndimage

from volseg.postprocess import POSTPROCESS, PostprocessStep
from volseg.postprocess.boxes import Box, label_boxes
from volseg.volume import AnyArray, LabelMap


@POSTPROCESS.add
class FillHoles(PostprocessStep):
    """Give the background voxels that one label encloses to that label. Idempotent.

    Enclosed: no path over voxel faces leads around the label to the border of the map. A cavity open at the border
    is no hole. Voxels of other labels stay (a lesion in the liver is no hole of the liver). The label with the
    smallest box goes first, so a cavity in a lesion in the liver becomes lesion.
    """

    name: Literal["fill_holes"] = "fill_holes"

    def __call__(self, label_map: LabelMap) -> LabelMap:
        """[I, J, K] without enclosed background."""
        result = label_map.array.copy()
        boxes = label_boxes(label_map.array)
        for value in sorted(boxes, key=lambda value: (_voxels(boxes[value]), value)):
            part = result[boxes[value]]
            part[_enclosed(part == value) & (part == 0)] = value
        return label_map.with_array(result)


def _voxels(box: Box) -> int:
    return int(np.prod([side.stop - side.start for side in box]))


def _enclosed(mask: AnyArray) -> AnyArray:
    """The voxels outside a mask [I, J, K] that it cuts off from the faces of the array, as a mask."""
    components = np.empty(mask.shape, dtype=np.int32)
    count = int(np.asarray(ndimage.label(~mask, output=components)))
    enclosed = np.ones(count + 1, dtype=bool)
    enclosed[0] = False
    for axis in range(3):
        for face in (0, -1):
            enclosed[np.unique(components.take(face, axis=axis))] = False
    return enclosed[components]
