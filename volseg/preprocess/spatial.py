"""Steps that change the grid: axis order, spacing, extent."""

from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, NonNegativeInt, PositiveFloat

from volseg.errors import GeometryError, IntensityError
from volseg.geometry import Grid
from volseg.preprocess import PREPROCESS, PreprocessStep
from volseg.preprocess.antialias import smoothed
from volseg.resample import resample_volume
from volseg.volume import AnyArray, Volume

SAME_SPACING_TOLERANCE_MM = 1e-3
"""Spacings closer than this along every axis count as equal: no resampling."""

_COARSER = 1.2
_FEW_SLICES = 5


def slice_axis(grid: Grid) -> int:
    """The axis from slice to slice: the only one with fewer than 5 voxels, else the coarsest (by a fifth), else the last."""
    few = [axis for axis in range(3) if grid.shape[axis] < _FEW_SLICES]
    if len(few) == 1:
        return few[0]
    spacing = grid.spacing_mm
    coarsest = int(np.argmax(spacing))
    return coarsest if spacing[coarsest] > _COARSER * spacing[2] else 2


def _checked_codes(codes: str) -> str:
    try:
        Grid.from_spacing((1, 1, 1), (1.0, 1.0, 1.0)).axes_towards(codes)
    except GeometryError as error:
        raise ValueError(str(error)) from None
    return codes


@PREPROCESS.add
class Orient(PreprocessStep):
    """Permute and flip the array axes so that they point to the given directions; no interpolation.

    codes: one letter each of R/L, A/P and S/I, such as "RAS": the world direction each array axis mostly points to
    afterwards. An oblique or sheared grid stays so. Voxel type and positions are unchanged.
    slices_last: the axis from slice to slice (see slice_axis) then becomes the last, the others keep their order: for scans
    whose slices run in several directions, as those across the long axis of hearts do.
    """

    name: Literal["orient"] = "orient"
    codes: Annotated[str, AfterValidator(_checked_codes)] = "RAS"
    slices_last: bool = False

    def __call__(self, volume: Volume) -> Volume:
        """[C, I, J, K] with its axes in the new order."""
        codes = self._codes(volume.grid)
        order, flips = volume.grid.axes_towards(codes)
        if order == (0, 1, 2) and not any(flips):
            return volume
        turned = volume.array.transpose(0, *(axis + 1 for axis in order))
        turned = np.flip(turned, axis=tuple(axis + 1 for axis in range(3) if flips[axis]))
        return volume.with_array(np.ascontiguousarray(turned), volume.grid.reoriented(codes))

    def _codes(self, grid: Grid) -> str:
        """Those of a grid's axes afterwards."""
        if not self.slices_last:
            return self.codes
        axis = slice_axis(grid.reoriented(self.codes))
        return self.codes[:axis] + self.codes[axis + 1 :] + self.codes[axis]


@PREPROCESS.add
class Respace(PreprocessStep):
    """Resample to another spacing in mm, along the same (possibly oblique) directions; float32.

    Covers the same box of space (see Grid.with_spacing). A sheared grid (gantry tilt) becomes perpendicular, covering
    all of the sheared one (see Grid.orthogonal): a network has learned what anatomy looks like, not what a tilt makes of
    it. In the wedges beyond the sheared volume its border values go on, as a network takes an empty corner for an edge
    of the body. A volume without shear that has this spacing within SAME_SPACING_TOLERANCE_MM is returned as it is.
    """

    name: Literal["respace"] = "respace"
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    order: Literal["linear", "cubic"] = "linear"
    antialias: bool = False
    """Smooth along the axes that get coarser by more than a factor 1.2 (see volseg.preprocess.antialias), so that noise
    and fine structure do not turn into false coarse ones; a model must use what it was trained with."""

    def __call__(self, volume: Volume) -> Volume:
        """[C, I, J, K] at the new spacing."""
        differences = np.abs(np.subtract(volume.grid.spacing_mm, self.spacing_mm))
        if not volume.grid.is_sheared and differences.max() <= SAME_SPACING_TOLERANCE_MM:
            return volume
        if self.antialias:
            volume = smoothed(volume, self.spacing_mm)
        if volume.grid.is_sheared:
            grid = volume.grid.orthogonal().with_spacing(self.spacing_mm)
            return resample_volume(_continued(volume, grid), grid, order=self.order)
        return resample_volume(volume, volume.grid.with_spacing(self.spacing_mm), order=self.order)


def _continued(volume: Volume, grid: Grid) -> Volume:
    """The volume, its border values repeated along its own axes until the grid lies within."""
    places = volume.grid.world_to_index(grid.corners())
    last = np.subtract(volume.grid.shape, 1)
    before = np.ceil(np.maximum(0, -places.min(axis=0))).astype(int).tolist()
    behind = np.ceil(np.maximum(0, places.max(axis=0) - last)).astype(int).tolist()
    stop = [extent + more for extent, more in zip(volume.grid.shape, behind, strict=True)]
    padded = np.pad(volume.array, ((0, 0), *zip(before, behind, strict=True)), mode="edge")
    box = volume.grid.box((-before[0], -before[1], -before[2]), (stop[0], stop[1], stop[2]))
    return volume.with_array(padded, box)


@PREPROCESS.add
class CropNonzero(PreprocessStep):
    """Keep the smallest box that holds every voxel that is not zero in any channel, plus a margin in voxels.

    The margin ends at the border of the volume. Voxel type and positions are unchanged.
    """

    name: Literal["crop_nonzero"] = "crop_nonzero"
    margin_voxels: NonNegativeInt = 0

    def __call__(self, volume: Volume) -> Volume:
        """The box [C, I, J, K].

        Raises:
            IntensityError: every voxel is zero.
        """
        occupied = np.zeros(volume.grid.shape, dtype=bool)
        for channel in volume.array:
            occupied |= channel != 0
        if not occupied.any():
            raise IntensityError(
                f"{volume.origin}: every voxel is zero, so there is nothing to crop to. "
                "Check that this is the scan and that its voxels were exported."
            )
        bounds = [self._bounds(occupied, axis) for axis in range(3)]
        start = bounds[0][0], bounds[1][0], bounds[2][0]
        stop = bounds[0][1], bounds[1][1], bounds[2][1]
        box = (slice(None), *(slice(low, high) for low, high in bounds))
        return volume.with_array(volume.array[box], volume.grid.box(start, stop))

    def _bounds(self, occupied: AnyArray, axis: int) -> tuple[int, int]:
        """First and last-plus-one index along an axis, margin included."""
        hit = np.flatnonzero(occupied.any(axis=tuple({0, 1, 2} - {axis})))
        first, last = int(hit[0]), int(hit[-1])
        return max(0, first - self.margin_voxels), min(occupied.shape[axis], last + 1 + self.margin_voxels)
