"""Boxes of volumes, read without the rest and mirrored beyond the borders."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from volseg.volume import AnyArray


class ReadByBox(Protocol):
    """An array in memory or on disk."""

    @property
    def shape(self) -> Any:
        """Extents [..., I, J, K]."""
        ...

    def __getitem__(self, box: Any, /) -> Any:
        """The part that a tuple of slices names."""
        ...


def part_inside(first: np.ndarray, extents: np.ndarray, shape: Sequence[int]) -> tuple[slice, slice, slice]:
    """The part of a volume [..., I, J, K] that a box, mirrored beyond the volume's borders, is made of."""
    parts = []
    for start, extent, size in zip(first.tolist(), extents.tolist(), shape[-3:], strict=True):
        line = _mirrored(np.arange(start, start + extent), size)
        parts.append(slice(int(line.min()), int(line.max()) + 1))
    return parts[0], parts[1], parts[2]


def read_box(array: ReadByBox, first: np.ndarray, extents: np.ndarray) -> AnyArray:
    """A box [..., *extents] of a volume [..., I, J, K]; beyond the volume's borders it is mirrored.

    Only the part inside is read. A box that leaves the volume by more than its extent is mirrored again.
    """
    inside = part_inside(first, extents, array.shape)
    part = read_part(array, inside)
    for axis, (start, extent, size) in enumerate(
        zip(first.tolist(), extents.tolist(), array.shape[-3:], strict=True)
    ):
        if start < 0 or start + extent > size:
            line = _mirrored(np.arange(start, start + extent), size) - inside[axis].start
            part = np.take(part, line, axis=part.ndim - 3 + axis)
    return part


def read_part(array: ReadByBox, inside: tuple[slice, slice, slice]) -> AnyArray:
    """A part of a volume [..., I, J, K], all of the axes before; of an array in memory it may be a view."""
    return np.ascontiguousarray(array[(*(slice(None),) * (len(array.shape) - 3), *inside)])


def _mirrored(indices: np.ndarray, size: int) -> np.ndarray:
    """Indices folded into 0..size-1 at the centres of the border voxels."""
    if size == 1:
        return np.zeros_like(indices)
    folded = np.abs(indices) % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)
