"""Where a voxel is: the Grid, and the only code that knows RAS from LPS.

Inside volseg the world is RAS+ in millimetres: x grows to the patient's right, y to the front (anterior), z to the
head (superior), as in NIfTI. DICOM and ITK use LPS+; the sign flip lives in `from_lps` / `to_lps` and nowhere else.
"""

from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError

FloatArray = npt.NDArray[np.float64]
Shape = tuple[int, int, int]

SAME_GRID_TOLERANCE_MM = 1e-3
"""Two grids are the same when no corner voxel centre moves by more than this (float32 headers lose up to ~1e-4 mm)."""

SHEAR_TOLERANCE_DEGREES = 0.05
"""The axes of a grid count as perpendicular while no two are further than this from a right angle."""

_WHOLE_TOLERANCE = 1e-6
"""An extent this far (in voxels) above a whole number is that number: rounding, not another voxel."""

_AXIS_LETTERS = ("LR", "PA", "IS")


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape (I, J, K) and affine [4, 4] float64 from voxel index (i, j, k) to RAS+ mm, voxel centres at integers.

    The affine may be oblique, sheared (gantry tilt) or left-handed, never singular.

    Raises:
        GeometryError: the shape is empty, or the affine is not finite, not affine, or singular.
    """

    shape: Shape
    affine: FloatArray

    def __post_init__(self) -> None:
        """Check, normalise the types and freeze the affine."""
        shape = tuple(int(extent) for extent in self.shape)
        if shape != tuple(self.shape):
            raise GeometryError(f"the extents of a grid are whole numbers, found {tuple(self.shape)}.")
        affine = np.array(self.affine, dtype=np.float64) + 0.0  # -0.0 becomes 0.0: equal grids hash alike
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"a grid needs three positive extents, found shape {tuple(self.shape)}.")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"the affine must be a finite 4x4 matrix, found {affine.tolist()}.")
        if not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise GeometryError(f"the last row of an affine must be 0 0 0 1, found {affine[3].tolist()}.")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if spacing.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-6:
            raise GeometryError(
                f"the affine is singular (an axis has no length or two coincide): {affine.tolist()}."
            )
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_spacing(cls, shape: Shape, spacing_mm: tuple[float, float, float]) -> "Grid":
        """An axis-aligned RAS grid with voxel (0, 0, 0) at the world's origin."""
        return cls(shape, np.diag([*spacing_mm, 1.0]))

    @classmethod
    def from_lps(cls, shape: Shape, affine_lps: npt.ArrayLike) -> "Grid":
        """From an affine [4, 4] into LPS+ mm, the world of DICOM (PS3.3 C.7.6.2.1.1) and ITK."""
        affine = np.array(affine_lps, dtype=np.float64)
        affine[:2] *= -1
        return cls(shape, affine)

    def to_lps(self) -> FloatArray:
        """The affine [4, 4] from voxel index to LPS+ mm."""
        affine = self.affine.copy()
        affine[:2] *= -1
        return affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each array axis, in mm."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return first, second, third

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm³ (the determinant, so right for sheared grids too)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def shear_degrees(self) -> float:
        """How far the two least perpendicular axes are from a right angle: the tilt of a tilted gantry."""
        directions = self.affine[:3, :3] / self.spacing_mm
        cosine = np.abs(directions.T @ directions - np.eye(3)).max()
        return float(np.degrees(np.arcsin(min(1.0, float(cosine)))))

    @property
    def is_sheared(self) -> bool:
        """Whether its axes are not perpendicular, beyond SHEAR_TOLERANCE_DEGREES."""
        return self.shear_degrees > SHEAR_TOLERANCE_DEGREES

    @property
    def axis_codes(self) -> str:
        """The world direction each array axis mostly points to, such as "RAS" or "LIP"."""
        order, signs = self._nearest_axes()
        return "".join(_AXIS_LETTERS[order[axis]][int(signs[axis] > 0)] for axis in range(3))

    @property
    def body_size_mm(self) -> tuple[float, float, float]:
        """How large the box of voxels is along the axes nearest to right-left, front-back and up-down, in mm."""
        upright = self.reoriented("RAS")
        first, second, third = (
            extent * step for extent, step in zip(upright.shape, upright.spacing_mm, strict=True)
        )
        return first, second, third

    def index_to_world(self, indices: npt.ArrayLike) -> FloatArray:
        """Voxel indices [..., 3] (fractions allowed) to RAS+ mm [..., 3]."""
        return np.asarray(indices, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def world_to_index(self, points_mm: npt.ArrayLike) -> FloatArray:
        """RAS+ mm [..., 3] to voxel indices [..., 3], as fractions."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(points_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def corners(self) -> FloatArray:
        """The eight corner voxel centres [8, 3] in RAS+ mm."""
        return self.index_to_world(list(product(*((0, extent - 1) for extent in self.shape))))

    def distance_mm(self, other: "Grid") -> float:
        """Largest distance in mm between the same voxel of two grids of one shape; infinity if the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        return float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())

    def is_same(self, other: "Grid", tolerance_mm: float = SAME_GRID_TOLERANCE_MM) -> bool:
        """Whether both grids place every voxel at the same point, within a tolerance in mm."""
        return self.distance_mm(other) <= tolerance_mm

    def __eq__(self, other: object) -> bool:
        """Exact equality of shape and affine."""
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        """By shape and affine."""
        return hash((self.shape, self.affine.tobytes()))

    def box(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> "Grid":
        """The grid of voxels start..stop (stop excluded); may reach outside this grid (then it is padding)."""
        return Grid(_extents(start, stop), self.affine @ _translation(start))

    def with_spacing(self, spacing_mm: tuple[float, float, float]) -> "Grid":
        """The same box of space with another spacing: same directions, same outer corner, extents rounded.

        The outer edge of the first voxel stays where it is, so the volume is not shifted by half a voxel.
        """
        ratio = np.asarray(spacing_mm, dtype=np.float64) / self.spacing_mm
        extents = np.maximum(1, np.rint(np.asarray(self.shape) / ratio)).astype(int).tolist()
        scale = np.eye(4)
        scale[:3, :3] = np.diag(ratio)
        scale[:3, 3] = (ratio - 1) / 2
        return Grid((extents[0], extents[1], extents[2]), self.affine @ scale)

    def orthogonal(self) -> "Grid":
        """The smallest perpendicular grid of this spacing whose voxel centres enclose all of this grid's.

        The first axis keeps its direction, the second keeps its plane with the first (its direction, where they are
        perpendicular, as those of a DICOM image are), the third becomes the normal of that plane, on the side where it
        was. A grid without shear gives itself.
        """
        first, second, third = (self.affine[:3, :3] / self.spacing_mm).T
        second = second - (first @ second) * first
        normal = np.cross(first, second)
        directions = np.stack([first, second, normal if normal @ third > 0 else -normal], axis=1)
        affine = np.eye(4)
        affine[:3, :3] = directions / np.linalg.norm(directions, axis=0) * self.spacing_mm
        places = (self.corners() - self.affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        lowest, highest = places.min(axis=0), places.max(axis=0)
        affine[:3, 3] = self.affine[:3, 3] + affine[:3, :3] @ lowest
        extents = np.ceil(highest - lowest - _WHOLE_TOLERANCE).astype(int).tolist()
        return Grid((extents[0] + 1, extents[1] + 1, extents[2] + 1), affine)

    def axes_towards(self, codes: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """How to permute and flip array axes so that they point to the given codes, such as "RAS".

        Returns:
            (order, flips): new axis n is old axis order[n], reversed where flips[n]. No resampling is implied.
        """
        world_axes = [
            next((a for a, pair in enumerate(_AXIS_LETTERS) if letter in pair), -1) for letter in codes
        ]
        if sorted(world_axes) != [0, 1, 2]:
            raise GeometryError(f"'{codes}' is no orientation; use one letter each of R/L, A/P and S/I.")
        own_order, signs = self._nearest_axes()
        order = [own_order.index(world_axis) for world_axis in world_axes]
        positive = [letter in "RAS" for letter in codes]
        flips = [bool(signs[axis] > 0) != positive[n] for n, axis in enumerate(order)]
        return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])

    def reoriented(self, codes: str) -> "Grid":
        """The grid of the array after permuting and flipping its axes towards the codes (see axes_towards)."""
        order, flips = self.axes_towards(codes)
        step = np.zeros((4, 4))
        step[3, 3] = 1
        for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
            step[old, new] = -1 if flip else 1
            step[old, 3] = self.shape[old] - 1 if flip else 0
        return Grid((self.shape[order[0]], self.shape[order[1]], self.shape[order[2]]), self.affine @ step)

    def _nearest_axes(self) -> tuple[list[int], FloatArray]:
        """The world axis nearest to each array axis (a permutation) and the sign of its direction."""
        linear = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        left, _, right = np.linalg.svd(linear)
        rotation: FloatArray = left @ right
        best = max(
            permutations(range(3)), key=lambda order: sum(abs(rotation[order[n], n]) for n in range(3))
        )
        return list(best), np.array([rotation[best[n], n] for n in range(3)])


def _extents(start: tuple[int, int, int], stop: tuple[int, int, int]) -> Shape:
    return stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]


def _translation(offset: Any) -> FloatArray:
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix
