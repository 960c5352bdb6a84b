"""How a channel is read at the voxels of another grid, slab by slab: indices, taps and weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.geometry import FloatArray, Grid, Shape
from volseg.volume import AnyArray

Order = Literal["nearest", "linear", "cubic"]
Indices = npt.NDArray[np.intp]

SLAB_BYTES = 16 << 20
"""Memory the temporaries of one slab may take; a slab is at least one plane of the target."""

INDEX_TOLERANCE = 1e-4
"""In voxels: source indices this near to a whole number are taken as whole, axes straying less are parallel."""

_BYTES_PER_VOXEL = 48
"""Temporaries of a slab: three float64 indices and working copies, or less."""


@dataclass(frozen=True)
class IndexMap:
    """Target voxel indices to source voxel indices: source = matrix @ target + offset."""

    matrix: FloatArray
    offset: FloatArray
    source_shape: Shape
    target_shape: Shape

    @classmethod
    def between(cls, source: Grid, target: Grid) -> "IndexMap":
        """The mapping that keeps points in the world; the identity for grids that are the same."""
        full = np.eye(4) if source.is_same(target) else np.linalg.inv(source.affine) @ target.affine
        return cls(full[:3, :3], full[:3, 3], source.shape, target.shape)

    def parallel_axes(self) -> tuple[int, int, int] | None:
        """For each target axis the source axis it runs along; None unless all are parallel."""
        order = np.abs(self.matrix).argmax(axis=0).tolist()
        stray = np.abs(self.matrix)
        stray[order, range(3)] = 0
        if sorted(order) != [0, 1, 2] or (stray @ np.subtract(self.target_shape, 1)).max() > INDEX_TOLERANCE:
            return None
        return order[0], order[1], order[2]

    def slabs(self) -> Iterator[slice]:
        """Consecutive rows along the target's first axis whose temporaries fit in SLAB_BYTES."""
        rows, *plane = self.target_shape
        source_rows = np.array(self.source_shape) / np.maximum(np.abs(self.matrix[:, 0]), 1e-12)
        row_voxels = max(
            float(np.prod(plane)), float(np.prod(self.source_shape)) / max(1.0, source_rows.min())
        )
        height = max(1, int(SLAB_BYTES / (_BYTES_PER_VOXEL * row_voxels)))
        for start in range(0, rows, height):
            yield slice(start, min(start + height, rows))

    def indices(self, axis: int, rows: slice) -> FloatArray:
        """Source indices along one source axis of the voxels of a slab, [rows, J, K]."""
        steps = np.ogrid[rows, : self.target_shape[1], : self.target_shape[2]]
        row, plane = self.matrix[axis], self.offset[axis] + self.matrix[axis, 2] * steps[2]
        return row[0] * steps[0] + (row[1] * steps[1] + plane)

    def bounds(self, rows: slice) -> tuple[FloatArray, FloatArray]:
        """Least and greatest source index [3] of a slab, found at its corners."""
        ends = [(rows.start, rows.stop - 1), *((0, extent - 1) for extent in self.target_shape[1:])]
        corners = np.array(list(product(*ends))) @ self.matrix.T + self.offset
        return corners.min(axis=0), corners.max(axis=0)

    def fill_outside(self, slab: AnyArray, rows: slice, value: float) -> None:
        """Set the voxels of a slab [rows, J, K] whose centres lie outside the source's voxels."""
        low, high = self.bounds(rows)
        for axis, extent in enumerate(self.source_shape):
            first, last = -0.5 - INDEX_TOLERANCE, extent - 0.5 + INDEX_TOLERANCE
            if low[axis] < first or high[axis] > last:
                indices = self.indices(axis, rows)
                slab[(indices < first) | (indices > last)] = value


Sampler = Callable[[slice], AnyArray]
"""Values [rows, J, K] of one channel at a slab of the target; beyond the source its border continues."""


def result_dtype(array: AnyArray, order: Order) -> np.dtype[Any]:
    """float32 where values are interpolated, the array's own type where they are only picked."""
    return array.dtype if order == "nearest" else np.dtype(np.float32)


def sampler_of(channel: AnyArray, mapping: IndexMap, order: Order) -> Sampler:
    """The way to read a channel [I, J, K] at slabs of the target, with each slab at its own time."""
    axes = mapping.parallel_axes()
    if axes is None:
        return _oblique_sampler(channel, mapping, order)
    taps = [
        _taps(
            mapping.matrix[axis, n] * np.arange(extent) + mapping.offset[axis],
            mapping.source_shape[axis],
            order,
        )
        for n, (axis, extent) in enumerate(zip(axes, mapping.target_shape, strict=True))
    ]
    return _parallel_sampler(channel.transpose(axes), taps, order)


def _oblique_sampler(channel: AnyArray, mapping: IndexMap, order: Order) -> Sampler:
    values = _spline_coefficients(channel, [0, 1, 2]) if order == "cubic" else channel

    def sample(rows: slice) -> AnyArray:
        low, high = mapping.bounds(rows)
        indices = np.empty((3, rows.stop - rows.start, *mapping.target_shape[1:]))
        box: list[slice] = []
        for axis, extent in enumerate(mapping.source_shape):
            first = int(np.clip(np.floor(low[axis]) - 2, 0, extent - 1))
            stop = int(np.clip(np.ceil(high[axis]) + 3, first + 1, extent))
            np.clip(mapping.indices(axis, rows), 0, extent - 1, out=indices[axis])
            indices[axis] -= first
            box.append(slice(first, stop))
        return _interpolated(values[tuple(box)], indices, order)

    return sample


def _interpolated(box: AnyArray, indices: FloatArray, order: Order) -> AnyArray:
    """A box of the source (for cubic, of its coefficients) at fractional indices [3, ...] within it."""
    if order == "nearest":
        return box[tuple(_nearest(axis_indices) for axis_indices in indices)]
    values = box.astype(np.float32, copy=False)
    options: dict[str, Any] = {"order": 1 if order == "linear" else 3, "mode": "mirror", "prefilter": False}
    return ndimage.map_coordinates(values, indices, output=np.float32, **options)


def _spline_coefficients(channel: AnyArray, axes: Sequence[int]) -> AnyArray:
    """Cubic B-spline coefficients along some axes."""
    options: dict[str, Any] = {"order": 3, "output": np.float32, "mode": "mirror"}
    if channel.dtype == np.float16:
        channel = channel.astype(np.float32)  # scipy.ndimage has no float16
    for axis in axes:
        channel = ndimage.spline_filter1d(channel, axis=axis, **options)
    return channel


def _nearest(indices: FloatArray) -> Indices:
    """Whole indices; a voxel halfway between two takes the higher, in spite of rounding noise."""
    return np.floor(indices + (0.5 + INDEX_TOLERANCE)).astype(np.intp)


Tap = tuple[Indices, npt.NDArray[np.float32]]
"""Source indices [n] along an axis and their weights [n]; an interpolated value is the sum over an axis' taps."""


def _taps(indices: FloatArray, extent: int, order: Order) -> list[Tap]:
    """The source voxels and weights for fractional source indices [n] along one axis."""
    whole = np.rint(indices)
    indices = np.where(np.abs(indices - whole) <= INDEX_TOLERANCE, whole, indices).clip(0, extent - 1)
    low = _nearest(indices) if order == "nearest" else np.floor(indices).astype(np.intp)
    beyond = np.zeros(1) if order == "nearest" else indices - low
    if not beyond.any():
        parts = [(low, np.ones(len(low)))]
    elif order == "linear":
        parts = [(low, 1 - beyond), (low + 1, beyond)]
    else:
        parts = [(low + step, _cubic_spline(beyond - step)) for step in (-1, 0, 1, 2)]
    return [(_mirrored(index, extent), weight.astype(np.float32)) for index, weight in parts]


def _cubic_spline(distance: FloatArray) -> FloatArray:
    """The B-spline of order 3 at distances in -2..2 (Unser 1999)."""
    away = np.abs(distance)
    return np.where(away < 1, 2 / 3 - away**2 * (2 - away) / 2, (2 - away) ** 3 / 6)


def _mirrored(index: Indices, extent: int) -> Indices:
    """Indices beyond the ends reflected about the outer voxel centres."""
    period = max(1, 2 * (extent - 1))
    return np.minimum(index % period, -index % period)


def _parallel_sampler(channel: AnyArray, taps: list[list[Tap]], order: Order) -> Sampler:
    """Interpolate axis by axis; channel [I, J, K] has its axes in the target's order."""
    dtype = result_dtype(channel, order)
    if order == "cubic":
        channel = _spline_coefficients(channel, [axis for axis in range(3) if len(taps[axis]) > 1])
    # The axis that shrinks most goes first: it leaves the least work for the others.
    axes = sorted(range(3), key=lambda axis: len(taps[axis][0][0]) / channel.shape[axis])

    def sample(rows: slice) -> AnyArray:
        slab_taps = [[(index[rows], weight[rows]) for index, weight in taps[0]], *taps[1:]]
        low = [min(int(index.min()) for index, _ in axis_taps) for axis_taps in slab_taps]
        high = [max(int(index.max()) for index, _ in axis_taps) for axis_taps in slab_taps]
        box = channel[tuple(slice(first, last + 1) for first, last in zip(low, high, strict=True))]
        values = np.ascontiguousarray(box, dtype=dtype)
        for axis in axes:
            values = _along(values, axis, [(index - low[axis], weight) for index, weight in slab_taps[axis]])
        return values

    return sample


def _along(values: AnyArray, axis: int, taps: list[Tap]) -> AnyArray:
    """Weighted sum of the taps along an axis; a single tap only picks."""
    if len(taps) == 1:
        return _pick(values, axis, taps[0][0])
    shape = [1, 1, 1]
    shape[axis] = -1
    total = _pick(values, axis, taps[0][0]) * taps[0][1].reshape(shape)
    for index, weight in taps[1:]:
        total += _pick(values, axis, index) * weight.reshape(shape)
    return total


def _pick(values: AnyArray, axis: int, index: Indices) -> AnyArray:
    """Values at the indices along an axis, without a copy where they are simply consecutive."""
    if (np.diff(index) == 1).all():
        return values[(slice(None),) * axis + (slice(int(index[0]), int(index[-1]) + 1),)]
    return np.take(values, index, axis=axis)
