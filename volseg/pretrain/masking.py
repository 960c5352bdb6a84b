"""Masked-volume reconstruction: what is hidden, what the network is to say, and how far off it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

_LEAST_DEVIATION = 1e-3
"""Below this a patch is one flat grey, whose noise is nothing to reconstruct; in units of the preprocessed image."""


@dataclass(frozen=True, eq=False)
class MaskedBatch:
    """Patches of which some voxels are hidden."""

    image: Tensor
    """[B, C, ...]: what the network sees; hidden voxels have the mean of the visible ones of their patch and channel."""
    hidden: Tensor
    """[B, 1, ...] bool."""
    target: Tensor
    """[B, C, ...] float32: all voxels, counted from that mean in units of the visible voxels' deviation."""
    mean: Tensor
    """[B, C, 1, ...] of the visible voxels."""
    deviation: Tensor
    """[B, C, 1, ...]"""


def hide_cubes(
    extents: Sequence[int], cube: Sequence[int], fraction: float, *, patches: int, generator: torch.Generator
) -> Tensor:
    """Which voxels are hidden: whole cells of a grid of cubes, as many of them in each patch; the grid begins anywhere.

    Args:
        extents: of a patch, any number of axes.
        cube: extents of a cube; the last ones of an axis may be cut.
        fraction: part of the cells that is hidden, at least one and not all.
        patches: B.
        generator: on the CPU.

    Returns:
        [B, 1, *extents] bool.
    """
    cube = [min(size, extent) for size, extent in zip(cube, extents, strict=True)]
    cells = [(extent - 1) // size + 2 for extent, size in zip(extents, cube, strict=True)]
    masks = []
    for _ in range(patches):
        starts = [int(torch.randint(size, (), generator=generator)) for size in cube]
        indices = [
            (torch.arange(extent) + start) // size
            for extent, start, size in zip(extents, starts, cube, strict=True)
        ]
        order = torch.rand(cells, generator=generator)
        for axis, index in enumerate(indices):  # cells that no voxel lies in are not drawn
            order = order.narrow(axis, 0, int(index[-1]) + 1)
        count = min(max(1, round(fraction * order.numel())), max(1, order.numel() - 1))
        flat = torch.zeros(order.numel(), dtype=torch.bool)
        flat[order.flatten().argsort()[:count]] = True
        mask = flat.view(order.shape)
        for axis, index in enumerate(indices):
            mask = mask.index_select(axis, index)
        masks.append(mask)
    return torch.stack(masks)[:, None]


def mask_batch(images: Tensor, hidden: Tensor) -> MaskedBatch:
    """Hide voxels of patches; every number that the target is scaled by comes from visible voxels alone.

    Counting from a patch's own mean and deviation is what He et al. 2022 (section 4.1) found better than plain intensities;
    theirs are those of each hidden cube.

    Args:
        images: [B, C, ...] float32.
        hidden: [B, 1, ...] bool, on the same device.
    """
    axes = tuple(range(2, images.ndim))
    visible = (~hidden).to(images.dtype)
    count = visible.sum(axes, keepdim=True).clamp(min=1)
    mean = (images * visible).sum(axes, keepdim=True) / count
    square = ((images - mean).square() * visible).sum(axes, keepdim=True) / count
    deviation = square.sqrt().clamp(min=_LEAST_DEVIATION)
    return MaskedBatch(
        torch.where(hidden, mean, images), hidden, (images - mean) / deviation, mean, deviation
    )


def reconstruction_error(found: Tensor, batch: MaskedBatch, error: Literal["l1", "mse"]) -> Tensor:
    """Mean over the hidden voxels of all patches and channels, as a scalar.

    Args:
        found: [B, C, ...] what the network says, in the units of the target.
        batch: the patches.
        error: "l1" (SimMIM, section 3.4) or "mse" (MAE, section 3).
    """
    difference = found.float() - batch.target
    each = difference.abs() if error == "l1" else difference.square()
    hidden = batch.hidden.expand_as(each)
    return (each * hidden).sum() / hidden.sum().clamp(min=1)


def nearest_visible(batch: MaskedBatch) -> Tensor:
    """The target's values at the nearest visible voxel (in voxels) of each voxel, [B, C, ...]; a simple guess to compare with."""
    from scipy import ndimage  # noqa: PLC0415 - only where something is measured

    found = torch.empty_like(batch.target)
    for patch, hidden, target in zip(found, batch.hidden[:, 0], batch.target, strict=True):
        mask = hidden.cpu().numpy()
        index = np.empty((mask.ndim, *mask.shape), np.int32)
        ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True, indices=index)
        places = tuple(torch.from_numpy(axis).long().to(target.device) for axis in index)
        patch.copy_(target[(slice(None), *places)])
    return found
