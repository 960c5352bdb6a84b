"""The shape of the network: how often and along which axes it halves its input, and where it convolves."""

from dataclasses import dataclass
from math import prod

LEAST_EXTENT = 4
"""No level is smaller than this along an axis that was halved."""

MOST_LEVELS = {2: 6, 3: 5}
"""Levels of resolution by number of axes. The nodes of a U-Net++ grow with the square of its levels; five in 3D see some 200
voxels around each, more than a patch has."""

MOST_WIDTH = {2: 512, 3: 320}
"""Feature maps are doubled from level to level up to this, by number of axes."""

_FULL_WIDTH = 32
_THICK = 2.0
"""An axis waits while its spacing is more than this times the finest's at its level."""


@dataclass(frozen=True)
class Topology:
    """Down-sampling and kernels of a network with 2 or 3 axes."""

    strides: tuple[tuple[int, ...], ...]
    """Per transition from level to level."""
    kernel_sizes: tuple[tuple[int, ...], ...]
    """Per level."""

    @property
    def divisors(self) -> tuple[int, ...]:
        """What the extents of a patch must be multiples of."""
        return tuple(prod(row[axis] for row in self.strides) for axis in range(len(self.kernel_sizes[0])))

    def fitted(self, extents: tuple[int, ...]) -> tuple[int, ...]:
        """The extents rounded up to multiples of the divisors."""
        return tuple(
            -(-extent // divisor) * divisor for extent, divisor in zip(extents, self.divisors, strict=True)
        )


def topology(spacing_mm: tuple[float, ...], extents: tuple[int, ...]) -> Topology:
    """Strides and kernels for patches of some extents and spacing, axis by axis.

    - An axis is halved at a level if that leaves at least 4 voxels and its spacing there is less than twice the finest among
      the axes that can be halved: thick slices wait until the others have caught up.
    - The kernel is 1 along an axis while its spacing is twice the finest's or more, and 3 from then on; along an axis of one
      voxel it stays 1.
    - It ends when no axis can be halved, when the only one left would fall below 6 voxels, or at MOST_LEVELS. A network has
      at least two levels: of smaller extents the largest axis is halved nevertheless.
    """
    current, left = list(spacing_mm), list(extents)
    kernels = [1] * len(extents)
    strides: list[tuple[int, ...]] = []
    kernel_rows = [_kernels(kernels, current, left)]
    while len(strides) + 1 < MOST_LEVELS[len(extents)]:
        stride = _stride(current, left)
        if max(stride) == 1:
            if strides:
                break
            stride = tuple(2 if n == left.index(max(left)) else 1 for n in range(len(left)))
        strides.append(stride)
        current = [step * factor for step, factor in zip(current, stride, strict=True)]
        left = [-(-extent // factor) for extent, factor in zip(left, stride, strict=True)]
        kernel_rows.append(_kernels(kernel_rows[-1], current, left))
    return Topology(tuple(strides), tuple(kernel_rows))


def widths(base: int, levels: int, axes: int) -> tuple[int, ...]:
    """Feature maps per level: doubled from level to level, at most 320 in 3D and 512 in 2D.

    Where the first level has fewer than 32, those from the third on have a quarter more: they see a 64th of the voxels and
    cost next to nothing, so what the first levels save is partly given back there.
    """
    doubled = [base << level for level in range(levels)]
    if base < _FULL_WIDTH:
        doubled = [width if level < 2 else width * 5 // 4 for level, width in enumerate(doubled)]
    return tuple(min(width, MOST_WIDTH[axes]) for width in doubled)


def _stride(spacing_mm: list[float], extents: list[int]) -> tuple[int, ...]:
    """The factor of each axis at the next transition."""
    able = [axis for axis, extent in enumerate(extents) if extent >= 2 * LEAST_EXTENT]
    if not able:
        return (1,) * len(extents)
    finest = min(spacing_mm[axis] for axis in able)
    halved = [axis for axis in able if spacing_mm[axis] < _THICK * finest]
    if len(halved) == 1 and extents[halved[0]] < 3 * LEAST_EXTENT and len(extents) > 1:
        return (1,) * len(extents)
    return tuple(2 if axis in halved else 1 for axis in range(len(extents)))


def _kernels(
    before: list[int] | tuple[int, ...], spacing_mm: list[float], extents: list[int]
) -> tuple[int, ...]:
    finest = min(
        step for step, extent in zip(spacing_mm, extents, strict=True) if extent > 1 or max(extents) == 1
    )
    return tuple(
        3 if extent > 1 and (had == 3 or step < _THICK * finest) else 1
        for had, step, extent in zip(before, spacing_mm, extents, strict=True)
    )
