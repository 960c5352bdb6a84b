"""What all measures share: checked masks, millimetres, the box that matters, nearest points."""

from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from volseg.errors import GeometryError, InputError

Mask = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


def check_masks(prediction: Mask, reference: Mask) -> None:
    """Refuse what is no pair of masks [I, J, K].

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes.
    """
    for mask in (prediction, reference):
        if mask.dtype != np.bool_ or mask.ndim != 3:
            raise InputError(
                f"a mask is a boolean array [I, J, K]; found {mask.dtype} of shape {mask.shape}."
            )
    if prediction.shape != reference.shape:
        raise InputError(f"masks of shapes {prediction.shape} and {reference.shape} cannot be compared.")


def linear_part(spacing_mm: npt.ArrayLike) -> FloatArray:
    """The linear part [3, 3] of an affine in mm, from itself or from three spacings.

    Raises:
        GeometryError: it is neither, or no regular matrix.
    """
    given = np.asarray(spacing_mm, dtype=np.float64)
    linear = np.diag(given) if given.shape == (3,) else given
    if linear.shape != (3, 3) or not np.isfinite(linear).all() or np.linalg.det(linear) == 0:
        raise GeometryError(
            f"expected three spacings in mm or a regular matrix [3, 3], found {given.tolist()}."
        )
    return linear


def voxel_ml(linear: FloatArray) -> float:
    """Volume of a voxel in ml."""
    return abs(float(np.linalg.det(linear))) / 1000


def diagonal_mm(shape: tuple[int, ...], linear: FloatArray) -> float:
    """The longest of the diagonals of the box of all voxels, in mm."""
    diagonals = np.array(list(product((-1, 1), repeat=3))) * np.asarray(shape)
    return float(np.linalg.norm(diagonals @ linear.T, axis=1).max())


def crop(prediction: Mask, reference: Mask) -> tuple[Mask, Mask]:
    """Both masks, not both empty, cut to their common bounding box with one voxel of background around."""
    either = prediction | reference
    box: list[slice] = []
    for axis in range(3):
        filled = np.flatnonzero(either.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return np.pad(prediction[tuple(box)], 1), np.pad(reference[tuple(box)], 1)


def nearest_mm(points: FloatArray, others: FloatArray, limit: float = float("inf")) -> FloatArray:
    """Distance of each point [N, 3] to the nearest other [M, 3]; infinite where none is within the limit."""
    tree = KDTree(others, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(points, distance_upper_bound=np.nextafter(limit, np.inf))
    return np.asarray(distances)
