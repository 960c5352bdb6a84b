"""Sliding-window inference: tiles of a volume through a network, blended slab by slab.

Networks whose logits are smaller than their input (`padding: valid`) answer for the middle of a tile. The tiles they see
then share their margins, the boxes of their logits cover the volume, and these start at multiples of the network's
divisors, so that max pooling pairs the same voxels in every tile (Ronneberger et al. 2015, figure 2). The logits are then
those of one pass over the whole volume, mirrored at its borders, as long as the network has no part that looks at all of a
tile: norm `none` or `batch`, and no squeeze-and-excitation or self-attention.

`tile.overlap` is the fraction that the boxes of logits share. At 0 each voxel is computed once, but for the few of which the
boxes are larger than a multiple of the divisors; that suits the networks just named, for which more overlap only repeats the
same logits. The default of 0.5 blends the tiles of those that look at a whole tile, such as with instance norm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from volseg.errors import ConfigError
from volseg.infer.stitch import Slab, Stitcher
from volseg.infer.tiles import Tile, Triple, plan_tiles, read_slices, read_tile, tile_weights
from volseg.models.extents import ExtentRule
from volseg.package import TileInfo

FloatArray = npt.NDArray[np.float32]


class TileNetwork(Protocol):
    """What gives logits [B, N, *extents less margins] of tiles [B, C, I, J, K]: an Engine, or an Ensemble of them."""

    @property
    def extents(self) -> ExtentRule:
        """What tiles it takes, and what it gives back of them."""
        ...

    @property
    def tiles_per_batch(self) -> int:
        """How many tiles it takes at once."""
        ...

    def __call__(self, tiles: FloatArray) -> FloatArray:
        """Logits of a batch of tiles."""
        ...


def logit_slabs(array: FloatArray, engine: TileNetwork, tile: TileInfo, channel_count: int) -> Iterator[Slab]:
    """Logits of a model input [C, I, J, K] as slabs [N, rows, J, K] of the first axis, each as soon as it is finished.

    Args:
        array: the preprocessed volume.
        engine: the network.
        tile: extents of what the network sees, overlap, weights and halo of the tiles; with `slices_around` n the network
            gets C * (2n + 1) channels of one slice each, see TileInfo.
        channel_count: N, the channels of the logits: labels with background, or regions.

    Raises:
        ConfigError: see check_tile.
    """
    _, *shape = array.shape
    placing = TilePlacing.of(engine.extents)
    plan = plan_boxes((shape[0], shape[1], shape[2]), tile, engine.extents)
    weights = tile_weights(placing.logit_extents(tile.tile_voxels), tile.weights)
    stitcher = Stitcher(plan, weights, channel_count)
    at_once = engine.tiles_per_batch  # asked once: it falls when memory runs out
    for start in range(0, len(plan), at_once):
        batch = plan[start : start + at_once]
        seen = [box.grown(placing.margins) for box in batch]
        tiles = [
            read_slices(array, box, tile.slices_around) if tile.slices_around else read_tile(array, box)
            for box in seen
        ]
        for box, box_logits in zip(batch, engine(np.stack(tiles)), strict=True):
            yield from stitcher.add(box, box_logits)


@dataclass(frozen=True)
class TilePlacing:
    """How the logits of a tile lie within it, and where tiles may lie."""

    margins: Triple
    """Voxels on each face of a tile that have no logits."""
    step_multiples: Triple
    """The boxes of logits start at multiples of these."""

    @classmethod
    def of(cls, rule: ExtentRule) -> "TilePlacing":
        """Of a network; along K a 2D one takes every slice by itself.

        A network that pads meets a new border with every tile anyway, and its tiles may lie anywhere.
        """
        multiples = rule.divisors if any(rule.margins) else (1,) * len(rule.divisors)
        first, second, third = (*rule.margins, 0)[:3]
        along_i, along_j, along_k = (*multiples, 1)[:3]
        return cls((first, second, third), (along_i, along_j, along_k))

    def logit_extents(self, tile_voxels: Triple) -> Triple:
        """Extents of the logits of a tile."""
        rows = zip(tile_voxels, self.margins, strict=True)
        first, second, third = (extent - 2 * margin for extent, margin in rows)
        return first, second, third


def plan_boxes(shape: Triple, tile: TileInfo, rule: ExtentRule) -> list[Tile]:
    """The boxes whose logits cover a volume of this shape; the network sees each grown by its margins.

    Raises:
        ConfigError: see check_tile.
    """
    check_tile(tile, rule)
    placing = TilePlacing.of(rule)
    return plan_tiles(
        shape,
        placing.logit_extents(tile.tile_voxels),
        overlap=tile.overlap,
        halo_voxels=tile.halo_voxels,
        step_multiples=placing.step_multiples,
    )


def check_tile(tile: TileInfo, rule: ExtentRule) -> None:
    """Refuse tiles with which a network that gives back less than it takes could not cover a volume.

    Args:
        tile: of extents that suit the network.
        rule: of the network.

    Raises:
        ConfigError: the logits of a tile are fewer than the voxels by which tiles may move; the message gives the size to
            use. Or there is a halo, which is what the margins of such a network are.
    """
    if not any(rule.margins):
        return
    placing = TilePlacing.of(rule)
    if any(tile.halo_voxels):
        raise ConfigError(
            f"tile.halo_voxels is {list(tile.halo_voxels)}, but tiles of this network see {list(placing.margins)} voxels "
            "beyond each face of their logits anyway, mirrored at the border of the volume; leave the halo out."
        )
    found, steps = placing.logit_extents(tile.tile_voxels), placing.step_multiples
    if any(extent < step for extent, step in zip(found, steps, strict=True)):
        needed = (step + 2 * margin for step, margin in zip(rule.divisors, rule.margins, strict=True))
        least = rule.fitting(tuple(map(max, tile.tile_voxels, needed)))
        raise ConfigError(
            f"tiles of {list(tile.tile_voxels)} have logits of {list(found)}, but this network's tiles start at multiples of "
            f"{list(steps)} voxels and would leave gaps; use tile.tile_voxels {[*least, 1][:3]}."
        )
