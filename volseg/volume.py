"""An array and the grid it lives on: Volume (intensities) and LabelMap (integers). Frozen; nothing in place."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError, IntensityError
from volseg.geometry import Grid
from volseg.labels import NO_LABELS, LabelTable
from volseg.origin import NO_ORIGIN, Origin

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities: array [C, I, J, K] on a grid of shape (I, J, K). A 3-D array is taken as one channel.

    Raises:
        GeometryError: the array's shape is not the grid's.
        IntensityError: the array is not real numbers.
    """

    array: AnyArray
    grid: Grid
    origin: Origin = NO_ORIGIN

    def __post_init__(self) -> None:
        """Check that array and grid belong together."""
        array = self.array[np.newaxis] if self.array.ndim == 3 else self.array
        if array.ndim != 4 or array.shape[1:] != self.grid.shape or not array.shape[0]:
            raise GeometryError(
                f"{self.origin}: array {array.shape} does not fit a grid of shape {self.grid.shape}."
            )
        if array.dtype.kind not in "iuf":
            raise IntensityError(
                f"{self.origin}: voxels of type {array.dtype} are no intensities; expected numbers."
            )
        object.__setattr__(self, "array", array)

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return self.array.shape[0]

    def with_array(self, array: AnyArray, grid: Grid | None = None) -> "Volume":
        """The same origin with new intensities, on this grid or another."""
        return replace(self, array=array, grid=self.grid if grid is None else grid)

    def map_channels(self, function: Callable[[AnyArray], AnyArray]) -> "Volume":
        """Apply a function [I, J, K] -> [I, J, K] to each channel."""
        return self.with_array(np.stack([function(channel) for channel in self.array]))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integers: array [I, J, K] on a grid, 0 is background; the table names the other values.

    Raises:
        GeometryError: the array's shape is not the grid's.
        IntensityError: the array is not of an integer type.
    """

    array: AnyArray
    grid: Grid
    labels: LabelTable = NO_LABELS
    origin: Origin = NO_ORIGIN

    def __post_init__(self) -> None:
        """Check that array and grid belong together and that labels are integers."""
        if self.array.shape != self.grid.shape:
            raise GeometryError(
                f"{self.origin}: labels {self.array.shape} do not fit a grid of shape {self.grid.shape}."
            )
        if self.array.dtype.kind not in "iu":
            raise IntensityError(f"{self.origin}: label maps hold integers, found {self.array.dtype}.")

    def with_array(self, array: AnyArray, grid: Grid | None = None) -> "LabelMap":
        """The same labels and origin with new values, on this grid or another."""
        return replace(self, array=array, grid=self.grid if grid is None else grid)

    def volumes_ml(self) -> dict[str, float]:
        """Volume of each label of the table in millilitres, by name."""
        voxel_ml = self.grid.voxel_volume_mm3 / 1000
        return {
            label.name: float(np.count_nonzero(self.array == label.value)) * voxel_ml for label in self.labels
        }
