"""A predicted label map as a table of its components: enough to know the Dice after any step that erases components."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.metrics import Mask
from volseg.postprocess.boxes import label_boxes
from volseg.volume import AnyArray, LabelMap

Numbers = npt.NDArray[np.int64]

_NEIGHBOURS_26 = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True, eq=False)
class CaseComponents:
    """The C components (26 neighbours) of the labels of a prediction, by label and first voxel, and how they meet the truth.

    Labels are positions 0..L-1 in the list of values they were counted for.
    """

    label: Numbers
    """[C] Of which label each component is."""
    voxels: Numbers
    """[C] Their sizes."""
    whole: Numbers
    """[C] In which component of all labels as one each lies, by first voxel."""
    common: Numbers
    """[C, L] Voxels shared with each label of the reference."""
    true_voxels: Numbers
    """[L] Voxels of each label of the reference."""
    touches: Numbers
    """[T, 2] A component, and a component of the same label of the reference, with common voxels."""
    voxel_mm3: float

    def dice(self, kept: Mask, labels: Sequence[int]) -> float:
        """Dice of the union of labels (positions) where only the `kept` components [C] are left; 1 where both are empty."""
        own, columns = kept & np.isin(self.label, labels), list(labels)
        total = self.voxels[own].sum() + self.true_voxels[columns].sum()
        return float(2 * self.common[own][:, columns].sum() / total) if total else 1.0

    def touched(self, kept: Mask, labels: Sequence[int]) -> Numbers:
        """The components of the reference, of some labels, that share voxels with a kept component [C] of their label."""
        own = kept & np.isin(self.label, labels)
        return np.unique(self.touches[own[self.touches[:, 0]], 1])


def count_components(found: LabelMap, reference: LabelMap, values: Sequence[int]) -> CaseComponents:
    """Count the components of a prediction against a reference on the same grid, for some label values.

    The prediction holds no other values; those of the reference are passed over.
    """
    box = next(iter(label_boxes(((found.array > 0) | (reference.array > 0)).astype(np.uint8)).values()), ())
    predicted, true = found.array[box], reference.array[box]
    numbers, label = _numbered_by_label(predicted, values)
    true_numbers, true_label = _numbered_by_label(true, values)
    inside = numbers > 0
    own, other = numbers[inside].astype(np.int64) - 1, true_numbers[inside].astype(np.int64) - 1
    whole = np.zeros(len(label), np.int64)
    whole[own] = _numbered(predicted > 0)[inside]  # the same for all voxels of a component
    # Every voxel of the reference by the position of its label; what has none comes last and is cut off.
    columns = np.append(true_label, len(values))[other]
    width = len(values) + 1
    common = np.bincount(own * width + columns, minlength=len(label) * width).reshape(len(label), width)
    pairs = (own * (len(true_label) + 1) + other)[label[own] == columns]
    # Neighbours along an axis are mostly of the same pair: one of each run is enough to sort.
    pairs = np.unique(pairs[np.append(True, np.diff(pairs) != 0)[: len(pairs)]])
    return CaseComponents(
        label=label,
        voxels=np.bincount(own, minlength=len(label)),
        whole=whole,
        common=common[:, :-1],
        true_voxels=np.bincount(
            true_label[true_numbers[true_numbers > 0].astype(np.int64) - 1], minlength=len(values)
        ),
        touches=np.stack(np.divmod(pairs, len(true_label) + 1), axis=1),
        voxel_mm3=found.grid.voxel_volume_mm3,
    )


def _numbered_by_label(array: AnyArray, values: Sequence[int]) -> tuple[AnyArray, Numbers]:
    """The components 1..C of each label in turn [I, J, K], and the position of the label of each [C]."""
    numbers, labels, boxes = np.zeros(array.shape, np.int32), [], label_boxes(array)
    for position, value in enumerate(values):
        if value in boxes:
            part = _numbered(array[boxes[value]] == value)
            numbers[boxes[value]][part > 0] = part[part > 0] + len(labels)
            labels += [position] * int(part.max())
    return numbers, np.array(labels, np.int64)


def _numbered(mask: Mask) -> AnyArray:
    """The components 1..n of a mask by first voxel [I, J, K], 0 elsewhere."""
    numbers = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, structure=_NEIGHBOURS_26, output=numbers)
    return numbers
