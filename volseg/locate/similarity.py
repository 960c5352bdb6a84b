"""Mutual information between template points and a scan, with its derivative (Mattes et al. 2003).

D. Mattes, D. Haynor, H. Vesselle, T. Lewellen, W. Eubank: PET-CT image registration in the chest using free-form
deformations, IEEE Trans. Med. Imaging 22 (2003), 120-128: the template's intensities fall into bins, the scan's are spread
over four bins by a cubic B-spline, which makes the measure smooth in the transform.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from volseg.geometry import FloatArray
from volseg.locate.pyramid import Small

BINS = 32
_SPREAD = 1
"""Bins left free at both ends of the scan's range, for the B-spline."""


@dataclass(frozen=True, eq=False)
class Points:
    """Places in template space [N, 3] in mm, and the template's bin there [N] (0..BINS-1)."""

    points_mm: FloatArray
    bins: npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Similarity:
    """Mutual information in nats, its derivative by each mapped point, and the fraction of points inside the scan."""

    information: float
    gradient: FloatArray
    """[N, 3] per mm; zero for points outside."""
    inside: float


def mutual_information(
    fixed: Points, mapped_mm: FloatArray, scan: Small, window: tuple[float, float]
) -> Similarity:
    """Similarity of template points and the scan at their mapped places [N, 3].

    Args:
        fixed: the template's points.
        mapped_mm: where each point lies in the scan's world.
        scan: the image.
        window: intensities of the scan clipped to this range.
    """
    values, slopes, inside = _values_and_slopes(scan, mapped_mm)
    count = int(inside.sum())
    gradient = np.zeros_like(mapped_mm)
    if count < 2 * BINS:
        return Similarity(0.0, gradient, count / len(mapped_mm))
    low, high = window
    per_value = (BINS - 1 - 2 * _SPREAD) / (high - low)
    places = (np.clip(values[inside], low, high) - low) * per_value + _SPREAD
    first = places.astype(np.intp) - 1
    rows = fixed.bins[inside]
    joint = np.zeros((BINS, BINS + 2))
    taps = [(first + n, places - (first + n)) for n in range(4)]
    for column, distance in taps:
        flat = np.bincount(rows * (BINS + 2) + column, weights=_spline(distance), minlength=joint.size)
        joint += flat.reshape(joint.shape)
    joint /= count
    column_sums, row_sums = joint.sum(axis=0), joint.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(joint > 0, np.log(joint / (row_sums[:, None] * column_sums[None, :])), 0.0)
        steer = np.where(joint > 0, np.log(joint / column_sums[None, :]), 0.0)
    pull = sum(steer[rows, column] * _spline_slope(distance) for column, distance in taps)
    clipped = (values[inside] <= low) | (values[inside] >= high)
    pull = np.where(clipped, 0.0, pull) * per_value / count
    gradient[inside] = pull[:, None] * slopes[inside]
    return Similarity(float((joint * ratio).sum()), gradient, count / len(mapped_mm))


def _values_and_slopes(
    scan: Small, points_mm: FloatArray
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Trilinear values [N], their derivatives [N, 3] per mm, and which points lie inside."""
    indices = scan.grid.world_to_index(points_mm)
    last = np.array(scan.grid.shape) - 1
    inside = np.all((indices >= 0) & (indices <= last), axis=1)
    base = np.clip(np.floor(indices), 0, np.maximum(last - 1, 0)).astype(np.intp)
    fraction = np.clip(indices - base, 0.0, 1.0)
    strides = np.array([scan.grid.shape[1] * scan.grid.shape[2], scan.grid.shape[2], 1])
    flat, start = scan.array.reshape(-1), base @ strides
    values, slopes = np.zeros(len(points_mm)), np.zeros_like(points_mm)
    for corner in product((0, 1), repeat=3):
        step = np.minimum(corner, last)
        voxel = flat[start + int(step @ strides)]
        weights = [fraction[:, a] if corner[a] else 1 - fraction[:, a] for a in range(3)]
        values += voxel * weights[0] * weights[1] * weights[2]
        for axis in range(3):
            others = [weights[a] for a in range(3) if a != axis]
            slopes[:, axis] += (voxel if corner[axis] else -voxel) * others[0] * others[1]
    return values, slopes @ np.linalg.inv(scan.grid.affine[:3, :3]), inside


def _spline(distance: FloatArray) -> FloatArray:
    """The cubic B-spline at distances below 2."""
    size = np.abs(distance)
    return np.where(size < 1, (4 - 6 * size**2 + 3 * size**3) / 6, np.maximum(2 - size, 0) ** 3 / 6)


def _spline_slope(distance: FloatArray) -> FloatArray:
    """Its derivative."""
    size = np.abs(distance)
    slope = np.where(size < 1, (-12 * size + 9 * size**2) / 6, -(np.maximum(2 - size, 0) ** 2) / 2)
    return slope * np.sign(distance)
