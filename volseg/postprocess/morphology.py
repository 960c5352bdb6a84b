"""Opening and closing of each label with a ball, its radius in mm.

The ball is made of the voxels whose centres lie within the radius, measured in the world, so it is an ellipsoid in
voxels on anisotropic or sheared grids. A radius below every spacing changes nothing. Neither step wears a label away
or adds to it merely because the map ends there: opening cuts the ball at the border, for closing all beyond it is
background.
Definitions: Serra, "Image Analysis and Mathematical Morphology" (1982).
"""

from collections.abc import Iterator
from itertools import product
from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from volseg.geometry import Grid
from volseg.postprocess import POSTPROCESS, PostprocessStep
from volseg.postprocess.boxes import label_boxes
from volseg.volume import AnyArray, LabelMap

Offset = tuple[int, int, int]


@POSTPROCESS.add
class Opening(PostprocessStep):
    """Erase the parts of each label that no ball of this radius fits into: spurs, bridges, specks. Idempotent."""

    name: Literal["opening"] = "opening"
    radius_mm: PositiveFloat

    def __call__(self, label_map: LabelMap) -> LabelMap:
        """[I, J, K], each label a subset of what it was."""
        offsets, reach = _ball(label_map.grid, self.radius_mm)
        result = label_map.array.copy()
        for value, box in label_boxes(label_map.array, reach).items():
            mask = label_map.array[box] == value
            opened = _dilated(_eroded(mask, offsets), offsets)
            result[box][mask & ~opened] = 0
        return label_map.with_array(result)


@POSTPROCESS.add
class Closing(PostprocessStep):
    """Fill the background gaps of each label that no ball of this radius fits into: clefts, pores. Idempotent.

    Only background is filled, never another label; a gap two labels could fill goes to the lower value.
    """

    name: Literal["closing"] = "closing"
    radius_mm: PositiveFloat

    def __call__(self, label_map: LabelMap) -> LabelMap:
        """[I, J, K], each label a superset of what it was."""
        offsets, reach = _ball(label_map.grid, self.radius_mm)
        result = label_map.array.copy()
        inner = tuple(slice(extent, -extent or None) for extent in reach)
        for value, box in label_boxes(label_map.array).items():
            mask = np.pad(label_map.array[box] == value, [(extent, extent) for extent in reach])
            closed = _eroded(_dilated(mask, offsets), offsets)[inner]
            result[box][closed & (result[box] == 0)] = value
        return label_map.with_array(result)


def _ball(grid: Grid, radius_mm: float) -> tuple[list[Offset], Offset]:
    """Voxel offsets within a radius of the origin, without the origin, and their greatest size along each axis."""
    linear = grid.affine[:3, :3]
    # The ellipsoid |linear @ offset| <= radius reaches radius * |row n of the inverse| along axis n.
    extents = radius_mm * np.linalg.norm(np.linalg.inv(linear), axis=1) + 1e-6
    first, second, third = extents.astype(int).tolist()
    axes = [range(-extent, extent + 1) for extent in (first, second, third)]
    offsets = list(product(axes[0], axes[1], axes[2]))
    lengths = np.linalg.norm(np.array(offsets) @ linear.T, axis=1)
    near = [offset for offset, length in zip(offsets, lengths, strict=True) if length <= radius_mm + 1e-6]
    return [offset for offset in near if any(offset)], (first, second, third)


def _dilated(mask: AnyArray, offsets: list[Offset]) -> AnyArray:
    """The mask [I, J, K] united with itself moved by every offset; the offsets are symmetric."""
    result = mask.copy()
    for here, there in _overlaps(mask, offsets):
        result[here] |= mask[there]
    return result


def _eroded(mask: AnyArray, offsets: list[Offset]) -> AnyArray:
    """The voxels of a mask [I, J, K] whose every neighbour by an offset, where there is one, is in it too."""
    result = mask.copy()
    for here, there in _overlaps(mask, offsets):
        result[here] &= mask[there]
    return result


def _overlaps(mask: AnyArray, offsets: list[Offset]) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """For each offset the voxels that have a neighbour there, and those neighbours."""
    for offset in offsets:
        sides = [
            (slice(max(0, -step), extent - max(0, step)), slice(max(0, step), extent - max(0, -step)))
            for step, extent in zip(offset, mask.shape, strict=True)
        ]
        if all(here.start < here.stop for here, _ in sides):
            yield tuple(here for here, _ in sides), tuple(there for _, there in sides)
