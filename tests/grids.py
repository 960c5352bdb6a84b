"""Awkward grids for tests: never a cube at 1 mm."""

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from volseg.geometry import FloatArray, Grid

SHAPE = (5, 6, 7)
SPACING_MM = (0.7, 0.9, 2.5)


def affine_of(
    *,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    degrees: tuple[float, float, float] = (20.0, -15.0, 40.0),
    origin_mm: tuple[float, float, float] = (-31.25, 42.5, 17.0),
    shear: float = 0.0,
    flip: tuple[bool, bool, bool] = (False, False, False),
) -> FloatArray:
    """An affine [4, 4]: rotation @ shear @ spacing, some axes reversed. shear, a sine, tilts the third axis to the second."""
    tilt = np.eye(3)
    tilt[1:, 2] = shear, np.sqrt(1 - shear**2)
    affine = np.eye(4)
    signs = np.where(flip, -1.0, 1.0)
    affine[:3, :3] = (
        Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ tilt @ np.diag(spacing_mm * signs)
    )
    affine[:3, 3] = origin_mm
    return affine


def oblique_grid(shear: float = 0.0) -> Grid:
    """Shape (5, 6, 7), spacing (0.7, 0.9, 2.5) mm, rotated about all axes, left-handed, away from the origin."""
    return Grid(SHAPE, affine_of(shear=shear, flip=(False, True, False)))


@st.composite
def grids(draw: st.DrawFn, *, is_sheared: bool = True, most_degrees: float = 180.0) -> Grid:
    """Oblique, anisotropic, left- and right-handed grids of small, unequal shapes; sheared too unless told not."""
    extents = draw(st.tuples(*[st.integers(1, 9)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 5.0)] * 3))
    degrees = draw(st.tuples(*[st.floats(-most_degrees, most_degrees)] * 3))
    origin = draw(st.tuples(*[st.floats(-300.0, 300.0)] * 3))
    flip = draw(st.tuples(*[st.booleans()] * 3))
    shear = draw(st.floats(-0.4, 0.4)) if is_sheared else 0.0
    affine = affine_of(spacing_mm=spacing, degrees=degrees, origin_mm=origin, flip=flip, shear=shear)
    return Grid(extents, affine)


@st.composite
def grids_with_voxel(draw: st.DrawFn, *, is_sheared: bool = True) -> tuple[Grid, tuple[int, int, int]]:
    """A grid and one of its voxels."""
    grid = draw(grids(is_sheared=is_sheared))
    first, second, third = (draw(st.integers(0, extent - 1)) for extent in grid.shape)
    return grid, (first, second, third)
