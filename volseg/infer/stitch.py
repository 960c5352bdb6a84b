"""Blend overlapping tiles into one volume, slab by slab, without holding the whole of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import ConfigError
from volseg.infer.tiles import Tile

Logits = npt.NDArray[np.float32]

_BLOCK_VOXELS = 2**16
"""Voxels blended at once: the arrays of one block stay in a core's cache (0.25 MiB each)."""


@dataclass(frozen=True, eq=False)
class Slab:
    """Finished rows start..stop (stop excluded) of the volume's first axis: logits [N, stop - start, J, K]."""

    start: int
    stop: int
    logits: Logits


@dataclass(eq=False)
class _Segment:
    """Rows of the first axis that the same tiles touch."""

    start: int
    stop: int
    pending: int = 0
    mean: Logits | None = None
    weight: npt.NDArray[np.float32] | None = None


@dataclass(eq=False)
class Stitcher:
    """The weighted mean of overlapping tiles; a slab leaves as soon as no later tile touches it.

    The mean grows by m += w/W (x - m), where W is the sum of the weights so far (West 1979), so that tiles which agree
    on a voxel leave it exactly as it is, bit for bit, whatever the weights. The order of the tiles changes the result
    only by float32 rounding; in the order of `plan_tiles` no more rows than one tile has are held.

    Args:
        tiles: all tiles of the volume, as planned.
        weights: weight of each voxel of a tile, > 0 [*tile extents].
        channel_count: channels N of the logits.
    """

    tiles: Sequence[Tile]
    weights: npt.NDArray[np.float32]
    channel_count: int
    _segments: list[_Segment] = field(init=False)
    _pending: set[Tile] = field(init=False)

    def __post_init__(self) -> None:
        """Cut the first axis where a tile begins or ends, and count the tiles of each piece."""
        if not self.tiles:
            raise ConfigError("nothing to stitch: the plan has no tiles.")
        self._pending = set(self.tiles)
        rows = [tile.slices[0] for tile in self._pending]
        cuts = sorted({cut for part in rows for cut in (part.start, part.stop)})
        self._segments = [_Segment(start, stop) for start, stop in pairwise(cuts)]
        for part in rows:
            for segment in self._touched(part):
                segment.pending += 1

    def add(self, tile: Tile, logits: npt.NDArray[Any]) -> list[Slab]:
        """Blend the logits [N, *tile extents] of a tile and return the slabs that this finished, by rising start.

        Raises:
            ConfigError: the tile is not in the plan or was added before, or the logits have another shape.
        """
        if tile not in self._pending:
            raise ConfigError(f"the tile at {tile.start} is not in the plan or was already stitched.")
        if logits.shape != (self.channel_count, *self.weights.shape):
            expected = (self.channel_count, *self.weights.shape)
            raise ConfigError(f"the logits of a tile have shape {logits.shape}; expected {expected}.")
        self._pending.remove(tile)
        finished: list[Slab] = []
        for segment in self._touched(tile.slices[0]):
            self._blend(segment, tile, logits)
            segment.pending -= 1
            if segment.pending == 0 and segment.mean is not None:
                finished.append(Slab(segment.start, segment.stop, segment.mean))
                segment.mean = segment.weight = None
        return finished

    @property
    def held_rows(self) -> int:
        """How many rows of the first axis are in memory now."""
        return sum(segment.stop - segment.start for segment in self._segments if segment.mean is not None)

    def _touched(self, rows: slice) -> list[_Segment]:
        return [segment for segment in self._segments if rows.start <= segment.start < rows.stop]

    def _blend(self, segment: _Segment, tile: Tile, logits: npt.NDArray[Any]) -> None:
        if segment.mean is None or segment.weight is None:
            extents = (segment.stop - segment.start, *tile.shape[1:])
            segment.mean = np.zeros((self.channel_count, *extents), dtype=np.float32)
            segment.weight = np.zeros(extents, dtype=np.float32)
        _, second, third = tile.slices
        _, core_second, core_third = tile.core
        step = max(1, _BLOCK_VOXELS // (self.weights.shape[1] * self.weights.shape[2]))
        for row in range(segment.start, segment.stop, step):
            last = min(row + step, segment.stop)
            own = (slice(row - tile.start[0], last - tile.start[0]), core_second, core_third)
            box = (slice(row - segment.start, last - segment.start), second, third)
            total = segment.weight[box]
            total += self.weights[own]
            share = self.weights[own] / total
            for channel in range(self.channel_count):
                mean = segment.mean[(channel, *box)]
                change = logits[(channel, *own)] - mean
                change *= share
                mean += change
