"""Sliding-window inference: tiles of a volume through a network, blended slab by slab."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from volseg.infer.stitch import Slab, Stitcher
from volseg.infer.tiles import plan_tiles, read_slices, read_tile, tile_weights
from volseg.package import TileInfo

FloatArray = npt.NDArray[np.float32]


class TileNetwork(Protocol):
    """What gives logits [B, N, I, J, K] of tiles [B, C, I, J, K]: an Engine, or an Ensemble of them."""

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
        tile: extents, overlap, weights and halo of the tiles; with `slices_around` n the network gets C * (2n + 1)
            channels of one slice each, see TileInfo.
        channel_count: N, the channels of the logits: labels with background, or regions.
    """
    _, *shape = array.shape
    plan = plan_tiles(
        (shape[0], shape[1], shape[2]), tile.tile_voxels, overlap=tile.overlap, halo_voxels=tile.halo_voxels
    )
    stitcher = Stitcher(plan, tile_weights(tile.tile_voxels, tile.weights), channel_count)
    at_once = engine.tiles_per_batch  # asked once: it falls when memory runs out
    for start in range(0, len(plan), at_once):
        batch = plan[start : start + at_once]
        tiles = [
            read_slices(array, box, tile.slices_around) if tile.slices_around else read_tile(array, box)
            for box in batch
        ]
        for box, box_logits in zip(batch, engine(np.stack(tiles)), strict=True):
            yield from stitcher.add(box, box_logits)
