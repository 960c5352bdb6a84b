"""Steps that judge the connected components of each label.

Voxels of one label are connected where they share a face, an edge or a corner (26 neighbours).
"""

from typing import Literal

import numpy as np
from pydantic import PositiveFloat, PositiveInt
from scipy import ndimage

from volseg.postprocess import POSTPROCESS, PostprocessStep
from volseg.postprocess.boxes import label_boxes
from volseg.volume import AnyArray, LabelMap

_NEIGHBOURS_26 = ndimage.generate_binary_structure(3, 3)


@POSTPROCESS.add
class KeepLargest(PostprocessStep):
    """Keep the component with the most voxels of each label; the others become background.

    Of equal components the one whose first voxel comes first in the array stays. Idempotent.

    labels: the label values to treat; None is all of them. Values the map does not hold are passed over.
    united: take the treated labels as one, such as an organ and its lesions: the largest component of their union stays.
    """

    name: Literal["keep_largest"] = "keep_largest"
    labels: tuple[PositiveInt, ...] | None = None
    united: bool = False

    def __call__(self, label_map: LabelMap) -> LabelMap:
        """[I, J, K] with at most one component per treated label, or of their union."""
        result = label_map.array.copy()
        if self.united:
            treated = result > 0 if self.labels is None else np.isin(result, self.labels)
            # The union is a map of the one label 1.
            kept = KeepLargest()(label_map.with_array(treated.astype(np.uint8))).array
            result[treated & (kept == 0)] = 0
            return label_map.with_array(result)
        for value, box in label_boxes(label_map.array).items():
            if self.labels is None or value in self.labels:
                components, voxels = _components(label_map.array[box] == value)
                erased = np.arange(len(voxels)) != 1 + voxels[1:].argmax()
                _erase(result[box], components, erased)
        return label_map.with_array(result)


@POSTPROCESS.add
class RemoveSmall(PostprocessStep):
    """Erase the components of each label that are smaller than a volume in mm³. Idempotent.

    labels: the label values to treat; None is all of them. Values the map does not hold are passed over.
    """

    name: Literal["remove_small"] = "remove_small"
    min_volume_mm3: PositiveFloat
    labels: tuple[PositiveInt, ...] | None = None

    def __call__(self, label_map: LabelMap) -> LabelMap:
        """[I, J, K] with only components of at least min_volume_mm3 in the treated labels."""
        # A component of exactly the given volume stays, in spite of rounding in the affine.
        min_voxels = self.min_volume_mm3 / label_map.grid.voxel_volume_mm3 * (1 - 1e-6)
        result = label_map.array.copy()
        for value, box in label_boxes(label_map.array).items():
            if self.labels is None or value in self.labels:
                components, voxels = _components(label_map.array[box] == value)
                _erase(result[box], components, voxels < min_voxels)
        return label_map.with_array(result)


def _components(mask: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Component numbers 1..n [I, J, K] of a mask (0 elsewhere) and the voxels of each number [n + 1]."""
    components = np.empty(mask.shape, dtype=np.int32)
    count = int(np.asarray(ndimage.label(mask, structure=_NEIGHBOURS_26, output=components)))
    return components, np.bincount(components[mask], minlength=count + 1)


def _erase(box: AnyArray, components: AnyArray, erased: AnyArray) -> None:
    """Set the components with erased[number] to background, in this box."""
    if erased[1:].any():
        box[(components > 0) & erased[components]] = 0
