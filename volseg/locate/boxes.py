"""Boxes named in template space, and the grids they become in a scan."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from volseg.geometry import FloatArray, Grid
from volseg.locate import Region
from volseg.locate.transform import rigid_part

Millimetres = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Box(BaseModel):
    """A named box in template space (RAS+ mm)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    centre_mm: tuple[float, float, float]
    size_mm: Millimetres
    """Right-left, front-back, up-down, in mm of the scan: a small head is not enlarged."""
    mirrored: bool = False
    """The model sees the box mirrored left to right."""
    values: tuple[PositiveInt, ...] = Field(min_length=1)
    """The located label for each label of the model, by rising value of the model."""
    plausible_ml: tuple[NonNegativeFloat, PositiveFloat] | None = None
    """Volume of all labels of the box together that is usual; another one is worth a warning."""


def region_of(
    box: Box, affine: FloatArray, spacing_mm: Sequence[float], *, fences: float | None = None
) -> Region:
    """The box in the scan: turned with the head, centred where the affine map puts its centre, its size as it is.

    Args:
        box: the box.
        affine: template space to the scan's world [4, 4].
        spacing_mm: voxel spacing of the region.
        fences: passed on to the region.
    """
    shape = np.maximum(1, np.rint(np.divide(box.size_mm, spacing_mm))).astype(int)
    linear = rigid_part(affine[:3, :3]) @ np.diag(spacing_mm)
    if box.mirrored:
        linear[:, 0] *= -1
    placed = np.eye(4)
    placed[:3, :3] = linear
    placed[:3, 3] = affine[:3, :3] @ np.array(box.centre_mm) + affine[:3, 3] - linear @ ((shape - 1) / 2)
    i, j, k = shape.tolist()
    return Region(box.name, Grid((i, j, k), placed), box.values, box.plausible_ml, fences)


def covered_fraction(region: Region, scan: Grid) -> float:
    """The fraction of a region's voxels whose centres lie in the scan."""
    points = region.grid.index_to_world(np.moveaxis(np.indices(region.grid.shape), 0, -1).reshape(-1, 3))
    indices = scan.world_to_index(points)
    return float(((indices > -0.5) & (indices < np.array(scan.shape) - 0.5)).all(axis=1).mean())
