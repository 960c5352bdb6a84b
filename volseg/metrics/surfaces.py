"""How far two surfaces are apart: 95 % Hausdorff distance, surface Dice, boundary F1."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.metrics.cubes import mask_surface
from volseg.metrics.masks import FloatArray, Mask, check_masks, crop, diagonal_mm, linear_part, nearest_mm

TOLERANCE_SLACK_MM = 1e-4
"""A distance this much over the tolerance still counts as within: affines in float32 headers are no more exact."""


def hausdorff95_mm(prediction: Mask, reference: Mask, *, spacing_mm: npt.ArrayLike) -> float:
    """95th percentile of the symmetric Hausdorff distance in mm. Masks [I, J, K].

    The surface of a mask is its voxels that have a background voxel among their six neighbours. For each mask, the
    distances from its surface voxel centres to the nearest of the other mask give a 95th percentile (linear between
    ranks); the larger of the two is returned, as in MONAI. (Huttenlocher et al. 1993, doi:10.1109/34.232073.)

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes.
    """
    check_masks(prediction, reference)
    linear = linear_part(spacing_mm)
    if not prediction.any() or not reference.any():
        return diagonal_mm(prediction.shape, linear) if prediction.any() or reference.any() else 0.0
    first, second = (_border(mask) for mask in crop(prediction, reference))
    return max(_percentile95_mm(a, b, linear) for a, b in ((first, second), (second, first)))


@dataclass(frozen=True)
class SurfaceMatch:
    """How much of two surfaces lies within a tolerance of the other, in mm²; all 0 for empty masks."""

    predicted_mm2: float
    predicted_right_mm2: float
    reference_mm2: float
    reference_found_mm2: float

    @property
    def dice(self) -> float:
        """The right part of both surfaces together, 0..1: surface Dice."""
        total = self.predicted_mm2 + self.reference_mm2
        return (self.predicted_right_mm2 + self.reference_found_mm2) / total if total else 1.0

    @property
    def f1(self) -> float:
        """2PR / (P + R) of the right parts P of the predicted and R of the reference surface, 0..1: boundary F1."""
        if not self.predicted_mm2 and not self.reference_mm2:
            return 1.0
        precision = self.predicted_right_mm2 / self.predicted_mm2 if self.predicted_mm2 else 0.0
        recall = self.reference_found_mm2 / self.reference_mm2 if self.reference_mm2 else 0.0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def match_surfaces(
    prediction: Mask, reference: Mask, *, spacing_mm: npt.ArrayLike, tolerance_mm: float = 1.0
) -> SurfaceMatch:
    """The surfaces of two masks [I, J, K] and their parts closer than a tolerance to the other.

    Surface elements are those of marching cubes on the binary mask, one per box of 2 x 2 x 2 voxel centres that is
    neither empty nor full, placed at the centre of the box and weighted by area in mm²
    (Nikolov et al. 2021, doi:10.2196/26151). Sampled surfaces seem up to half a voxel nearer than smooth ones would:
    a tolerance below the voxel size says little.

    Args:
        prediction: the mask to judge.
        reference: the mask taken as true.
        spacing_mm: spacing (3) or linear part of the affine [3, 3].
        tolerance_mm: distance up to which a surface counts as right, at least 0.

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes, or the tolerance is negative.
    """
    check_masks(prediction, reference)
    if not 0 <= tolerance_mm < float("inf"):
        raise InputError(f"the tolerance is {tolerance_mm} mm; expected a distance of at least 0 mm.")
    linear = linear_part(spacing_mm)
    if not prediction.any() and not reference.any():
        return SurfaceMatch(0.0, 0.0, 0.0, 0.0)
    found, true = (mask_surface(mask, linear) for mask in crop(prediction, reference))
    limit = tolerance_mm + TOLERANCE_SLACK_MM
    right, hit = (
        float(own.area_mm2[nearest_mm(own.points_mm, other.points_mm, limit) <= limit].sum())
        if len(own.points_mm) and len(other.points_mm)
        else 0.0
        for own, other in ((found, true), (true, found))
    )
    return SurfaceMatch(float(found.area_mm2.sum()), right, float(true.area_mm2.sum()), hit)


def surface_dice(
    prediction: Mask, reference: Mask, *, spacing_mm: npt.ArrayLike, tolerance_mm: float = 1.0
) -> float:
    """Normalised surface Dice (NSD): the part of both surfaces closer than a tolerance to the other, 0..1.

    Nikolov et al. 2021 (doi:10.2196/26151); arguments and surfaces are those of match_surfaces.

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes, or the tolerance is negative.
    """
    return match_surfaces(prediction, reference, spacing_mm=spacing_mm, tolerance_mm=tolerance_mm).dice


def boundary_f1(
    prediction: Mask, reference: Mask, *, spacing_mm: npt.ArrayLike, tolerance_mm: float = 1.0
) -> float:
    """Boundary F1 = 2PR / (P + R), 0..1: P and R are the parts of the predicted and the reference boundary near the other.

    Csurka et al. 2013 (doi:10.5244/C.27.32) count boundary pixels within a part of the image diagonal; here boundaries
    are the surfaces of match_surfaces, weighted by area, and the tolerance is in mm. It differs from surface Dice where
    the two surfaces are of different size: a ragged prediction cannot buy a low recall off.

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes, or the tolerance is negative.
    """
    return match_surfaces(prediction, reference, spacing_mm=spacing_mm, tolerance_mm=tolerance_mm).f1


def _border(mask: Mask) -> Mask:
    """The voxels of a mask with a background neighbour; the mask has a margin of background."""
    inner = (slice(1, -1),) * 3
    inside = mask[inner].copy()
    for axis, shift in product(range(3), (-1, 1)):
        moved = tuple(
            slice(1 + shift, extent - 1 + shift) if axis == own else slice(1, -1)
            for own, extent in enumerate(mask.shape)
        )
        inside &= mask[moved]
    border = mask.copy()
    border[inner] &= ~inside
    return border


def _percentile95_mm(border: Mask, other: Mask, linear: FloatArray) -> float:
    """95th percentile of the distances of the voxels of one border to the nearest of another.

    Voxels on both borders are 0 mm away without a search, which spares most of the time where two masks agree well.
    """
    apart = np.argwhere(border & ~other) @ linear.T
    distances = np.zeros(np.count_nonzero(border))
    if len(apart):
        distances[: len(apart)] = nearest_mm(apart, np.argwhere(other) @ linear.T)
    return float(np.percentile(distances, 95))
