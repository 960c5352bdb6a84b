"""A scan made small for registration: block means in the body's own axis order, and even coarser in world axes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.errors import IntensityError
from volseg.geometry import FloatArray, Grid
from volseg.preprocess.spatial import Orient
from volseg.volume import Volume

Image = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Small:
    """A small image [I, J, K] float32 on its grid."""

    array: Image
    grid: Grid


def shrink(volume: Volume, spacing_mm: float) -> Small:
    """The first channel as means over blocks of about a spacing, its axes turned towards RAS.

    Turning first makes every axis order of one scan give the same image, bit for bit.

    Raises:
        IntensityError: NaN or infinity among the voxels.
    """
    upright = Orient(codes="RAS")(volume.with_array(volume.array[:1]))
    factors = [max(1, round(spacing_mm / step)) for step in upright.grid.spacing_mm]
    array = upright.array[0]
    for axis, factor in enumerate(factors):
        starts = np.arange(0, array.shape[axis], factor)
        if factor > 1:
            counts = np.diff(np.append(starts, array.shape[axis])).astype(np.float32)
            sums = np.add.reduceat(array, starts, axis=axis, dtype=np.float32)
            array = sums / counts.reshape([-1 if a == axis else 1 for a in range(3)])
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise IntensityError(
            f"{volume.origin}: holds NaN or infinity, which have no meaning as intensities. Replace them (for example "
            "by the value of air) and try again."
        )
    affine = upright.grid.affine @ np.diag([*factors, 1.0])
    affine[:3, 3] = upright.grid.index_to_world((np.array(factors) - 1) / 2)
    return Small(array, Grid((array.shape[0], array.shape[1], array.shape[2]), affine))


def blur(small: Small, sigma_mm: float) -> Small:
    """Smoothed with a Gaussian of a width in mm; the border continues outwards."""
    sigmas = [sigma_mm / step for step in small.grid.spacing_mm]
    soft = np.asarray(ndimage.gaussian_filter(small.array, sigmas, mode="nearest"), dtype=np.float32)
    return Small(soft, small.grid)


def world_box(small: Small, spacing_mm: float) -> tuple[Small, Image]:
    """The image on an upright grid in world axes that holds all of it, and which voxels it covers (1 or 0)."""
    corners = small.grid.corners()
    low, high = corners.min(axis=0), corners.max(axis=0)
    i, j, k = (np.ceil((high - low) / spacing_mm).astype(int) + 1).tolist()
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = low
    grid = Grid((i, j, k), affine)
    values, inside = sample(small, grid.index_to_world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    return Small(values * inside, grid), inside.astype(np.float32)


def sample(small: Small, points_mm: FloatArray) -> tuple[Image, npt.NDArray[np.bool_]]:
    """Trilinear values [...] at points [..., 3] in mm, and which of them lie inside."""
    indices = np.moveaxis(small.grid.world_to_index(points_mm), -1, 0)
    last = np.array(small.grid.shape).reshape(-1, *[1] * (indices.ndim - 1)) - 1
    inside = np.all((indices > -0.5) & (indices < last + 0.5), axis=0)
    values = ndimage.map_coordinates(small.array, indices, order=1, mode="nearest")
    return np.asarray(values, dtype=np.float32), inside
