"""What a neurologist asks of a label map: how large each part is, and how the sides differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volseg.labels import Label
from volseg.volume import LabelMap

_SIDES = ("Right ", "Left ")


@dataclass(frozen=True)
class LabelVolume:
    """One label of a map."""

    label: Label
    voxels: int
    volume_ml: float


@dataclass(frozen=True)
class Asymmetry:
    """A structure that the label table has on both sides, told by names that begin with "Right" and "Left"."""

    name: str
    """Without the side; "total" is all of a side's labels together."""
    right_ml: float
    left_ml: float

    @property
    def percent(self) -> float | None:
        """100 (right - left) / mean of both; positive where the right one is larger; None where both are empty."""
        mean_ml = (self.right_ml + self.left_ml) / 2
        return 100 * (self.right_ml - self.left_ml) / mean_ml if mean_ml else None


def label_volumes(label_map: LabelMap) -> list[LabelVolume]:
    """Every label of the table with its voxels and its volume in ml, by rising value."""
    voxel_ml = label_map.grid.voxel_volume_mm3 / 1000
    counts = [int(np.count_nonzero(label_map.array == label.value)) for label in label_map.labels]
    return [
        LabelVolume(label, count, count * voxel_ml)
        for label, count in zip(label_map.labels, counts, strict=True)
    ]


def asymmetries(volumes: Sequence[LabelVolume]) -> list[Asymmetry]:
    """The structures found on both sides, then their total where there are several; empty for a map without sides."""
    sides = [
        {
            row.label.name.removeprefix(side): row.volume_ml
            for row in volumes
            if row.label.name.startswith(side)
        }
        for side in _SIDES
    ]
    right, left = sides
    pairs = [Asymmetry(name, right[name], left[name]) for name in right if name in left]
    if len(pairs) > 1:
        pairs.append(
            Asymmetry("total", sum(pair.right_ml for pair in pairs), sum(pair.left_ml for pair in pairs))
        )
    return pairs


def sides_of(labels: Sequence[Label]) -> list[list[Label]]:
    """The labels of the right and of the left side; empty lists where the table has no sides."""
    return [[label for label in labels if label.name.startswith(side)] for side in _SIDES]
