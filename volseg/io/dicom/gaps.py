"""Planes on a regular grid where some are missing: linear interpolation along the slice axis, made on request only."""

from collections.abc import Sequence

import numpy as np

from volseg.volume import AnyArray

ON_A_PLANE = 1e-6
"""A slice this near to a plane, in slices, is that plane."""


def fill_planes(planes: AnyArray, slices: Sequence[float], count: int) -> AnyArray:
    """The slices 0 .. count - 1 [count, rows, columns] from planes [n, rows, columns] at rising, fractional `slices` [n].

    A slice between two planes is their mean, weighted by nearness. float32 where a slice was made up; where every slice
    is a plane, the planes keep their type. One output array is held, and one plane of scratch memory.

    Raises:
        ValueError: the slices do not rise, do not fit the planes, or leave slice 0 or count - 1 outside.
    """
    at = np.asarray(slices, dtype=np.float64)
    if planes.ndim != 3 or at.shape != planes.shape[:1] or (np.diff(at) <= 0).any():
        raise ValueError(
            f"{at.size} slices that rise are needed for planes {planes.shape}, found {at.tolist()}."
        )
    if count < 1 or at[0] > ON_A_PLANE or at[-1] < count - 1 - ON_A_PLANE:
        raise ValueError(f"slices 0 to {count - 1} are not all between planes at {at[0]} and {at[-1]}.")
    wanted = np.arange(count)
    nearest = np.abs(at[:, None] - wanted).argmin(0)
    is_plane = np.abs(at[nearest] - wanted) <= ON_A_PLANE
    dtype = planes.dtype if is_plane.all() else np.dtype(np.float32)
    filled = np.empty((count, *planes.shape[1:]), dtype)
    for index in wanted:
        if is_plane[index]:
            filled[index] = planes[nearest[index]]
            continue
        above = int(np.searchsorted(at, index))
        weight = np.float32((index - at[above - 1]) / (at[above] - at[above - 1]))
        np.multiply(planes[above - 1], 1 - weight, out=filled[index], dtype=np.float32, casting="unsafe")
        filled[index] += weight * planes[above].astype(np.float32)
    return filled
