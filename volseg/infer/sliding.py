"""Sliding-window inference: tiles of a volume through a network, blended slab by slab."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from volseg.infer.engines import Engine
from volseg.infer.stitch import Slab, Stitcher
from volseg.infer.tiles import plan_tiles, read_tile, tile_weights
from volseg.package import TileInfo

FloatArray = npt.NDArray[np.float32]


def logit_slabs(array: FloatArray, engine: Engine, tile: TileInfo, label_count: int) -> Iterator[Slab]:
    """Logits of a model input [C, I, J, K] as slabs [L, rows, J, K] of the first axis, each as soon as it is finished.

    Args:
        array: the preprocessed volume.
        engine: the network.
        tile: extents, overlap, weights and halo of the tiles.
        label_count: L, background counted.
    """
    _, *shape = array.shape
    plan = plan_tiles(
        (shape[0], shape[1], shape[2]), tile.tile_voxels, overlap=tile.overlap, halo_voxels=tile.halo_voxels
    )
    stitcher = Stitcher(plan, tile_weights(tile.tile_voxels, tile.weights), label_count)
    for start in range(0, len(plan), engine.tiles_per_batch):
        batch = plan[start : start + engine.tiles_per_batch]
        logits = engine(np.stack([read_tile(array, box) for box in batch]))
        for box, box_logits in zip(batch, logits, strict=True):
            yield from stitcher.add(box, box_logits)
