"""How well a predicted mask matches a reference: overlap, surface distances in mm, volume in ml.

Masks are boolean arrays [I, J, K] on one grid. Where millimetres matter, `spacing_mm` is the spacing (3 numbers) of an
orthogonal grid or the linear part [3, 3] of any affine, so rotated and sheared grids are measured rightly as well.

Empty masks never give NaN. Both empty is perfect agreement: Dice, IoU and surface Dice 1, HD95 0. Exactly one empty is
complete failure: Dice, IoU and surface Dice 0, HD95 the diagonal of the image in mm (the convention of the BraTS
challenge, where it is 373.13 mm for 240 x 240 x 155 voxels of 1 mm). What lies outside the image is background.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from volseg.errors import GeometryError, InputError

Mask = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

TOLERANCE_SLACK_MM = 1e-4
"""A distance this much over the tolerance still counts as within: affines in float32 headers are no more exact."""


def dice(prediction: Mask, reference: Mask) -> float:
    """Dice coefficient 2|A∩B| / (|A|+|B|), 0..1 (Dice 1945). Masks [I, J, K].

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes.
    """
    _check(prediction, reference)
    total = np.count_nonzero(prediction) + np.count_nonzero(reference)
    return 2 * np.count_nonzero(prediction & reference) / total if total else 1.0


def iou(prediction: Mask, reference: Mask) -> float:
    """Intersection over union |A∩B| / (|A|+|B|-|A∩B|), 0..1 (Jaccard 1912). Masks [I, J, K].

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes.
    """
    _check(prediction, reference)
    union = np.count_nonzero(prediction | reference)
    return np.count_nonzero(prediction & reference) / union if union else 1.0


def volume_error_ml(prediction: Mask, reference: Mask, *, spacing_mm: npt.ArrayLike) -> float:
    """Predicted minus reference volume in ml: positive where too much was marked. Masks [I, J, K].

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes.
    """
    _check(prediction, reference)
    voxel_ml = abs(float(np.linalg.det(_linear(spacing_mm)))) / 1000
    return (np.count_nonzero(prediction) - np.count_nonzero(reference)) * voxel_ml


def hausdorff95_mm(prediction: Mask, reference: Mask, *, spacing_mm: npt.ArrayLike) -> float:
    """95th percentile of the symmetric Hausdorff distance in mm. Masks [I, J, K].

    The surface of a mask is its voxels that have a background voxel among their six neighbours. For each mask, the
    distances from its surface voxel centres to the nearest of the other mask give a 95th percentile (linear between
    ranks); the larger of the two is returned, as in MONAI. (Huttenlocher et al. 1993, doi:10.1109/34.232073.)

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes.
    """
    _check(prediction, reference)
    linear = _linear(spacing_mm)
    if not prediction.any() or not reference.any():
        return _diagonal_mm(prediction.shape, linear) if prediction.any() or reference.any() else 0.0
    first, second = (_border_points(mask, linear) for mask in _crop(prediction, reference))
    return float(max(np.percentile(_nearest_mm(a, b), 95) for a, b in ((first, second), (second, first))))


def surface_dice(
    prediction: Mask, reference: Mask, *, spacing_mm: npt.ArrayLike, tolerance_mm: float = 1.0
) -> float:
    """Normalised surface Dice (NSD): the part of both surfaces closer than a tolerance to the other, 0..1.

    Surface elements are those of marching cubes on the binary mask, one per box of 2 x 2 x 2 voxel centres that is
    neither empty nor full, placed at the centre of the box and weighted by area in mm²
    (Nikolov et al. 2021, doi:10.2196/26151). Sampled surfaces seem up to half a voxel nearer than smooth ones would:
    a tolerance below the voxel size says little. Masks [I, J, K].

    Args:
        prediction: the mask to judge.
        reference: the mask taken as true.
        spacing_mm: spacing (3) or linear part of the affine [3, 3].
        tolerance_mm: distance up to which a surface counts as right, at least 0.

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes, or the tolerance is negative.
    """
    _check(prediction, reference)
    if not 0 <= tolerance_mm < float("inf"):
        raise InputError(f"the tolerance is {tolerance_mm} mm; expected a distance of at least 0 mm.")
    linear = _linear(spacing_mm)
    if not prediction.any() or not reference.any():
        return 0.0 if prediction.any() or reference.any() else 1.0
    first, second = (_surface(mask, linear) for mask in _crop(prediction, reference))
    limit = tolerance_mm + TOLERANCE_SLACK_MM
    right = sum(
        float(own.area_mm2[_nearest_mm(own.points_mm, other.points_mm, limit) <= limit].sum())
        for own, other in ((first, second), (second, first))
    )
    return right / float(first.area_mm2.sum() + second.area_mm2.sum())


@dataclass(frozen=True, eq=False)
class _Surface:
    points_mm: FloatArray
    """Centres of the surface elements [N, 3]."""
    area_mm2: FloatArray
    """Their areas [N]."""


def _check(prediction: Mask, reference: Mask) -> None:
    for mask in (prediction, reference):
        if mask.dtype != np.bool_ or mask.ndim != 3:
            raise InputError(
                f"a mask is a boolean array [I, J, K]; found {mask.dtype} of shape {mask.shape}."
            )
    if prediction.shape != reference.shape:
        raise InputError(f"masks of shapes {prediction.shape} and {reference.shape} cannot be compared.")


def _linear(spacing_mm: npt.ArrayLike) -> FloatArray:
    given = np.asarray(spacing_mm, dtype=np.float64)
    linear = np.diag(given) if given.shape == (3,) else given
    if linear.shape != (3, 3) or not np.isfinite(linear).all() or np.linalg.det(linear) == 0:
        raise GeometryError(
            f"expected three spacings in mm or a regular matrix [3, 3], found {given.tolist()}."
        )
    return linear


def _diagonal_mm(shape: tuple[int, ...], linear: FloatArray) -> float:
    """The longest of the diagonals of the box of all voxels, in mm."""
    diagonals = np.array(list(product((-1, 1), repeat=3))) * np.asarray(shape)
    return float(np.linalg.norm(diagonals @ linear.T, axis=1).max())


def _crop(prediction: Mask, reference: Mask) -> tuple[Mask, Mask]:
    """Both masks cut to their common bounding box, with one voxel of background around."""
    either = prediction | reference
    box: list[slice] = []
    for axis in range(3):
        filled = np.flatnonzero(either.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return np.pad(prediction[tuple(box)], 1), np.pad(reference[tuple(box)], 1)


def _nearest_mm(points: FloatArray, others: FloatArray, limit: float = float("inf")) -> FloatArray:
    """Distance of each point [N, 3] to the nearest other [M, 3]; infinite where none is within the limit."""
    tree = KDTree(others, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(points, distance_upper_bound=np.nextafter(limit, np.inf))
    return np.asarray(distances)


def _border_points(mask: Mask, linear: FloatArray) -> FloatArray:
    """Centres in mm [N, 3] of the voxels with a background neighbour; the mask has a margin of background."""
    inside = mask.copy()
    for axis, step in product(range(3), (-1, 1)):
        inside &= np.roll(mask, step, axis)
    return np.argwhere(mask & ~inside).astype(np.float64) @ linear.T


def _surface(mask: Mask, linear: FloatArray) -> _Surface:
    """The marching-cubes surface elements of a mask that has a margin of background."""
    corners = [
        mask[i : mask.shape[0] - 1 + i, j : mask.shape[1] - 1 + j, k : mask.shape[2] - 1 + k]
        for i, j, k in product((0, 1), repeat=3)
    ]
    codes = np.zeros(corners[0].shape, np.uint8)
    for number, corner in enumerate(corners):
        codes |= corner.astype(np.uint8) << number
    elements = np.argwhere((codes > 0) & (codes < 255))
    areas = _element_areas_mm2(linear)[codes[tuple(elements.T)]]
    return _Surface((elements + 0.5) @ linear.T, areas)


def _element_areas_mm2(linear: FloatArray) -> FloatArray:
    """Surface area in mm² [256] inside a box of 2 x 2 x 2 voxels, by the code of its filled corners."""
    codes, triangles = _marching_cubes()
    first, second, third = np.moveaxis(triangles @ linear.T, 1, 0)
    areas = np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2
    return np.asarray(np.bincount(codes, areas, minlength=256), dtype=np.float64)


@cache
def _marching_cubes() -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Codes [T] and triangles [T, 3, 3], in voxels, of the surface in a box of 2 x 2 x 2 voxels, for every code.

    Built, not tabled: the surface cuts an edge of the box at its middle where its ends differ, crosses each face in
    straight lines, and these lines close to polygons (Lorensen and Cline 1987, doi:10.1145/37401.37422). Each polygon
    is fanned from its centre of gravity.
    """
    codes: list[int] = []
    triangles: list[FloatArray] = []
    for code in range(1, 255):
        for polygon in _polygons(code):
            for start, stop in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                codes.append(code)
                triangles.append(np.stack([polygon.mean(axis=0), start, stop]))
    return np.array(codes), np.stack(triangles)


_CORNERS = tuple(product((0, 1), repeat=3))
Edge = frozenset[int]


def _polygons(code: int) -> list[FloatArray]:
    """The closed polygons [N, 3] of edge middles that part filled from empty corners."""
    neighbours: dict[Edge, list[Edge]] = {}
    for first, second in (line for face in _faces() for line in _face_lines(face, code)):
        neighbours.setdefault(first, []).append(second)
        neighbours.setdefault(second, []).append(first)
    polygons: list[FloatArray] = []
    while neighbours:
        edge, following = neighbours.popitem()
        loop = [edge]
        while following:
            edge = following[0]
            loop.append(edge)
            following = [candidate for candidate in neighbours.pop(edge) if candidate in neighbours]
        polygons.append(np.array([np.mean([_CORNERS[corner] for corner in edge], axis=0) for edge in loop]))
    return polygons


def _faces() -> list[list[int]]:
    """The four corners of each of the six faces, in order around the face."""
    faces: list[list[int]] = []
    for axis, side in product(range(3), (0, 1)):
        around = [0, 1, 3, 2]
        corners = [number for number, corner in enumerate(_CORNERS) if corner[axis] == side]
        faces.append([corners[position] for position in around])
    return faces


def _face_lines(face: list[int], code: int) -> list[tuple[Edge, Edge]]:
    """Where the surface crosses a face: each run of filled corners is cut off by one line."""
    filled = [bool(code >> corner & 1) for corner in face]
    edges = [frozenset((face[n], face[(n + 1) % 4])) for n in range(4)]
    enters = [n for n in range(4) if not filled[n] and filled[(n + 1) % 4]]
    lines: list[tuple[Edge, Edge]] = []
    for enter in enters:
        leave = next(n % 4 for n in range(enter + 1, enter + 5) if filled[n % 4] and not filled[(n + 1) % 4])
        lines.append((edges[enter], edges[leave]))
    return lines
