"""Where a network looks: overlapping boxes of one size that cover a volume, in integers only.

The overlap-tile strategy of Ronneberger et al. 2015 (U-Net, figure 2): what a tile sees beyond the volume is the volume
mirrored at its border. A volume smaller than the tile lies in the middle of one tile.

A network of convolutions that do not pad gives logits for the middle of its input alone. Its tiles are planned as boxes of
logits; what it sees of each is that box grown by the network's margins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from volseg.errors import ConfigError

Triple = tuple[int, int, int]
Slices = tuple[slice, slice, slice]
WeightKind = Literal["gaussian", "constant"]

_SIGMAS_PER_TILE = 8


@dataclass(frozen=True)
class Tile:
    """The box of voxels start..stop (stop excluded) of a volume of the given shape; it may reach outside the volume."""

    start: Triple
    stop: Triple
    shape: Triple
    """Extents of the volume, not of the tile."""

    @property
    def slices(self) -> Slices:
        """The core: the part of the tile inside the volume, as slices of the volume."""
        return _slices(
            [max(0, n) for n in self.start], [min(n, m) for n, m in zip(self.stop, self.shape, strict=True)]
        )

    @property
    def core(self) -> Slices:
        """The same part as slices of the tile's own array; what lies around it is mirrored context."""
        inside = self.slices
        starts = [part.start - offset for part, offset in zip(inside, self.start, strict=True)]
        stops = [part.stop - offset for part, offset in zip(inside, self.start, strict=True)]
        return _slices(starts, stops)

    def grown(self, margins: Triple) -> "Tile":
        """The box with this many voxels more on each face: what a network sees to answer for the box."""
        start = [first - margin for first, margin in zip(self.start, margins, strict=True)]
        stop = [last + margin for last, margin in zip(self.stop, margins, strict=True)]
        return replace(self, start=_triple(start), stop=_triple(stop))


def plan_tiles(
    shape: Triple,
    tile_voxels: Triple,
    *,
    overlap: float,
    halo_voxels: Triple = (0, 0, 0),
    step_multiples: Triple = (1, 1, 1),
) -> list[Tile]:
    """Tiles that cover a volume, with starts spread evenly, the first axis slowest so that its slabs finish early.

    Args:
        shape: extents of the volume.
        tile_voxels: extents of each tile; an axis may be 1 voxel thick (2D networks).
        overlap: fraction of a tile in [0, 1) shared with its neighbour, at least.
        halo_voxels: mirrored context beyond each face of the volume, so that its outermost voxels are not at a
            tile's edge. Where the volume is smaller than the tile the rest of the tile is such context anyway.
        step_multiples: along an axis where this is more than 1 the tiles start at 0 and multiples of it, and the last may
            reach beyond the volume: for networks whose answer depends on where their pooling begins. No halo there.

    Raises:
        ConfigError: an extent below 1, a halo of half a tile or more, an overlap outside [0, 1), or tiles smaller than the
            multiples by which they move.
    """
    _check_triple("shape", shape, least=1)
    _check_triple("tile_voxels", tile_voxels, least=1)
    _check_triple("halo_voxels", halo_voxels, least=0)
    if any(2 * halo >= tile and halo for halo, tile in zip(halo_voxels, tile_voxels, strict=True)):
        raise ConfigError(
            f"a halo of {halo_voxels} voxels needs tiles of more than twice that, found {tile_voxels}."
        )
    if not 0 <= overlap < 1:
        raise ConfigError(
            f"the overlap of tiles is {overlap}; expected a fraction of a tile, 0 <= overlap < 1."
        )
    _check_triple("step_multiples", step_multiples, least=1)
    rows = list(zip(shape, tile_voxels, halo_voxels, step_multiples, strict=True))
    if any(multiple > 1 and (tile < multiple or halo) for _, tile, halo, multiple in rows):
        raise ConfigError(
            f"tiles that start at multiples of {step_multiples} voxels cannot leave gaps or have a halo; found tiles of "
            f"{tile_voxels} with a halo of {halo_voxels}."
        )
    starts = [
        _axis_starts(extent, tile, overlap, halo)
        if multiple == 1
        else _aligned_starts(extent, tile, overlap, multiple)
        for extent, tile, halo, multiple in rows
    ]
    return [
        Tile((i, j, k), (i + tile_voxels[0], j + tile_voxels[1], k + tile_voxels[2]), shape)
        for i, j, k in product(*starts)
    ]


def read_tile(array: npt.NDArray[Any], tile: Tile) -> npt.NDArray[Any]:
    """The voxels of a tile [C, *tile extents] from a volume's array [C, I, J, K], mirrored outside the volume.

    The mirror stands on the outermost voxel, which is not repeated (NumPy's "reflect"), as often as needed.
    """
    inside = tile.slices
    if all(part.stop - part.start == tile.stop[n] - tile.start[n] for n, part in enumerate(inside)):
        return array[(slice(None), *inside)]
    first, second, third = (_mirrored(tile.start[n], tile.stop[n], tile.shape[n]) for n in range(3))
    return array[:, first[:, None, None], second[None, :, None], third[None, None, :]]


def read_slices(array: npt.NDArray[Any], tile: Tile, slices_around: int) -> npt.NDArray[Any]:
    """A tile one voxel thick along K with its n neighbour slices on each side as channels, mirrored outside the volume.

    From an array [C, I, J, K] to [C * (2n + 1), *tile extents]: channel c of slice offset s (-n..n) is c * (2n + 1) + s + n.
    """
    first, second, third = tile.start
    stops = (tile.stop[0], tile.stop[1], tile.stop[2] + slices_around)
    slices = read_tile(array, replace(tile, start=(first, second, third - slices_around), stop=stops))
    extents = slices.shape[1:3]
    return np.moveaxis(slices, -1, 1).reshape(-1, *extents, 1)


def tile_weights(tile_voxels: Triple, kind: WeightKind) -> npt.NDArray[np.float32]:
    """How much each voxel of a tile counts [*tile extents], in (0, 1].

    "constant" is 1; "gaussian" is 1 at the centre with sigma = 1/8 of the tile (Isensee et al. 2021, nnU-Net). A tile
    ends within 4 sigma, so no weight falls below exp(-24) and a voxel that only a corner covers still has one.
    """
    _check_triple("tile_voxels", tile_voxels, least=1)
    if kind == "constant":
        return np.ones(tile_voxels, dtype=np.float32)
    first, second, third = (_gaussian(extent) for extent in tile_voxels)
    return (first[:, None, None] * second[None, :, None] * third[None, None, :]).astype(np.float32)


def _axis_starts(extent: int, tile: int, overlap: float, halo: int) -> list[int]:
    covered = max(extent + 2 * halo, tile)
    stride = _stride(tile, overlap)
    span = covered - tile
    gaps = -(-span // stride)
    offset = (extent - covered) // 2
    return [offset + span * n // max(gaps, 1) for n in range(gaps + 1)]


def _aligned_starts(extent: int, tile: int, overlap: float, multiple: int) -> list[int]:
    stride = max(multiple, _stride(tile, overlap) // multiple * multiple)
    span = max(0, extent - tile)
    gaps = -(-span // stride)
    step = -(-span // (max(gaps, 1) * multiple)) * multiple
    return [step * n for n in range(gaps + 1)]


def _stride(tile: int, overlap: float) -> int:
    return max(1, int(tile * (1 - overlap) + 1e-9))  # 10 * (1 - 0.9) is 0.99999999999999978


def _mirrored(start: int, stop: int, extent: int) -> npt.NDArray[np.intp]:
    if extent == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (extent - 1)
    folded = np.arange(start, stop, dtype=np.intp) % period
    return np.minimum(folded, period - folded)


def _gaussian(extent: int) -> npt.NDArray[np.float64]:
    distance = np.arange(extent) - (extent - 1) / 2
    return np.exp(-0.5 * (distance * _SIGMAS_PER_TILE / extent) ** 2)


def _slices(starts: Sequence[int], stops: Sequence[int]) -> Slices:
    return slice(starts[0], stops[0]), slice(starts[1], stops[1]), slice(starts[2], stops[2])


def _triple(numbers: Sequence[int]) -> Triple:
    return numbers[0], numbers[1], numbers[2]


def _check_triple(name: str, triple: Triple, *, least: int) -> None:
    if len(triple) != 3 or min(triple) < least:
        raise ConfigError(f"{name} is {tuple(triple)}; expected three integers of at least {least}.")
