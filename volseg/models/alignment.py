"""Feature maps of unequal extents made equal, so that they can be concatenated."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.nn import functional

Alignment = Literal["exact", "pad", "crop"]


def aligned(skips: Sequence[Tensor], up: Tensor, how: Alignment, *, centred: bool) -> list[Tensor]:
    """The skips, then the up-sampled map, of one extent.

    Args:
        skips: [B, C, ...] of one level; those of convolutions that do not pad shrink from column to column.
        up: the map from the level below.
        how: "exact" takes them as they are; "pad" brings the map from below to the skips' extents, its last voxels
            repeated; "crop" cuts all to the smallest.
        centred: cut from both sides, as convolutions that do not pad need it; otherwise from the end only, which is where
            a division of odd extents loses its voxel.
    """
    if how == "exact":
        return [*skips, up]
    if how == "pad":
        return [*skips, resized(up, tuple(skips[0].shape[2:]))]
    every = [*skips, up]
    smallest = tuple(min(extents) for extents in zip(*(tensor.shape[2:] for tensor in every), strict=True))
    return [cropped(tensor, smallest, centred=centred) for tensor in every]


def cropped(x: Tensor, extents: tuple[int, ...], *, centred: bool) -> Tensor:
    """The middle of a map, or its beginning."""
    for axis, (extent, found) in enumerate(zip(extents, x.shape[2:], strict=True), start=2):
        if found > extent:
            x = x.narrow(axis, (found - extent) // 2 if centred else 0, extent)
    return x


def resized(x: Tensor, extents: tuple[int, ...]) -> Tensor:
    """A map cut at its end, or its last voxels repeated, to these extents."""
    x = cropped(x, extents, centred=False)
    missing = [extent - found for extent, found in zip(extents, x.shape[2:], strict=True)]
    if not any(missing):
        return x
    return functional.pad(x, [n for count in reversed(missing) for n in (0, count)], mode="replicate")
