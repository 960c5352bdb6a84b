"""Losses that know how far a voxel is from a border; their distance maps are computed on the CPU, once per batch."""

from collections.abc import Callable
from math import ceil
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat
from scipy import ndimage
from torch import Tensor

from volseg.train.losses import LOSSES, Loss
from volseg.train.losses.cross_entropy import class_balance, voxel_losses
from volseg.train.targets import Target

Mask = NDArray[np.bool_]
Map = NDArray[np.float32]


@LOSSES.add
class Boundary(Loss):
    """Mean over voxels and foreground channels of phi·p, with phi the signed distance to the border of the truth.

    Kervadec et al.: "Boundary loss for highly unbalanced segmentation" (MIDL 2019), eq. 5: phi is negative inside the truth
    and positive outside, so probability far from the truth costs most. Here the border is the voxels of a label with a face
    neighbour outside it, where phi is 0; a label that is absent, or fills the patch, has none: phi is 0 everywhere. Negative
    for good answers, and blind alone to an empty one: add it, with a small weight (the paper's 0.01 and rising), to an
    overlap loss.

    Cost: one distance transform per patch and channel: about 0.3 s on one core for 128^3 voxels.
    """

    name: Literal["boundary"] = "boundary"
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Of the model grid: distances are then in mm; otherwise in voxels."""

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar, in voxels or mm; may be negative."""
        first = 1 if target.exclusive else 0  # background
        distances = target.derived(
            repr(self), lambda: _map_each(target.one_hot[:, first:], self._signed_distance)
        )
        return (distances * target.probabilities(logits)[:, first:]).mean()

    def _signed_distance(self, mask: Mask) -> Map:
        inner = cast(Mask, ndimage.binary_erosion(mask, border_value=1))
        border = mask & ~inner
        if not border.any():
            return np.zeros(mask.shape, np.float32)
        distance = _distance_to(border, self.spacing_mm)
        return np.where(mask, -distance, distance).astype(np.float32)


@LOSSES.add
class UNetWeightedCrossEntropy(Loss):
    """Mean cross-entropy weighted by w(x) = w_c(x) + w0·exp(-(d1(x) + d2(x))² / 2 sigma²): narrow gaps count most.

    Ronneberger, Fischer, Brox: "U-Net" (MICCAI 2015), eq. 2. w_c balances the classes of the batch (mean 1); d1 and d2 are
    the distances to the nearest and the second nearest cell, 0 inside a cell, where a cell is a connected piece (neighbours
    across faces, edges and corners) of all foreground labels together, or of each region. Fewer than two cells add nothing.

    Cost: one distance transform per cell, in its box grown by 6 sigma, beyond which the second term is below 2e-7: 128^3
    voxels with ten small cells take about 0.15 s on one core. Not for labels in hundreds of pieces.
    """

    name: Literal["unet_weighted_cross_entropy"] = "unet_weighted_cross_entropy"
    w0: NonNegativeFloat = 10.0
    sigma_voxels: PositiveFloat = 5.0

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar, at least 0."""
        weights = target.derived(repr(self), lambda: self._weights(target))
        return (weights * voxel_losses(logits, target)).mean()

    def _weights(self, target: Target) -> Tensor:
        truth = target.one_hot
        foreground = 1 - truth[:, :1] if target.exclusive else truth
        return class_balance(target) + _map_each(foreground, self._gap_weight)

    def _gap_weight(self, mask: Mask) -> Map:
        cells, count = cast(tuple[NDArray[np.int32], int], ndimage.label(mask, np.ones((3, 3, 3))))
        nearest = np.full(mask.shape, np.inf, np.float32)
        second = nearest.copy()
        if count < 2:
            return np.zeros(mask.shape, np.float32)
        reach = ceil(6 * self.sigma_voxels)
        for cell, box in enumerate(ndimage.find_objects(cells), start=1):
            grown = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
            distance = _distance_to(cells[grown] == cell)
            second[grown] = np.minimum(second[grown], np.maximum(nearest[grown], distance))
            nearest[grown] = np.minimum(nearest[grown], distance)
        weights = self.w0 * np.exp(-((nearest + second) ** 2) / (2 * self.sigma_voxels**2))
        return weights.astype(np.float32)


def _map_each(masks: Tensor, compute: Callable[[Mask], Map]) -> Tensor:
    """A map for each mask of [B, N, I, J, K], on the device of the masks."""
    arrays = (masks > 0).cpu().numpy()
    maps = np.empty(arrays.shape, np.float32)
    for index in np.ndindex(*arrays.shape[:2]):
        maps[index] = compute(arrays[index])
    return torch.from_numpy(maps).to(masks.device)


def _distance_to(mask: Mask, spacing_mm: tuple[float, float, float] | None = None) -> Map:
    """To the centre of the nearest voxel of the mask, in voxels or mm; 0 inside."""
    distance = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return cast(NDArray[np.float64], distance).astype(np.float32)
