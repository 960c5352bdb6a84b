"""The augmentation of a training patch: one spatial change for image and labels, then changes of intensity."""

import numpy as np
from numpy.random import Generator
from torch import Tensor

from volseg.geometry import FloatArray
from volseg.train.samples.augment_intensity import change_intensity
from volseg.train.samples.augment_settings import AugmentConfig
from volseg.train.samples.augment_spatial import PatchMap, resample_patch


def augment_patch(
    image: Tensor,
    labels: Tensor,
    patch_map: PatchMap,
    *,
    centre: FloatArray,
    augment: AugmentConfig,
    rng: Generator,
) -> tuple[Tensor, Tensor]:
    """One augmented patch from its region, on the region's device; the region may be overwritten.

    Args:
        image: [C, *box] float32, of the extents patch_map.box gave. A 2D patch may have S slices there (2.5D).
        labels: [*box] uint8 label indices; of S slices the middle one is used.
        patch_map: the spatial change.
        centre: the patch's centre in voxels of the region.
        augment: chances and ranges of the intensity changes.
        rng: their source.

    Returns:
        Image [C, I, J, K] float32 and labels [I, J, K] uint8. With S slices the image is [C * S, I, J, 1], channel c of
        slice s at c * S + s, and each c has one change of intensity.
    """
    extents = patch_map.patch_voxels
    if extents[2] > 1:
        patch, classes = resample_patch(image, labels, patch_map, centre)
        return change_intensity(patch.contiguous(), augment, rng), classes
    channels, slices = len(image), image.shape[3]
    stacked = image.permute(0, 3, 1, 2).reshape(channels * slices, *image.shape[1:3], 1)
    middle = labels[:, :, slices // 2, None].contiguous()
    in_plane = np.array([centre[0], centre[1], 0.0])
    patch, classes = resample_patch(stacked, middle, patch_map, in_plane)
    volume = patch.view(channels, slices, *extents[:2]).permute(0, 2, 3, 1).contiguous()
    changed = change_intensity(volume, augment, rng, flat=True)
    return changed.permute(0, 3, 1, 2).reshape(channels * slices, *extents[:2], 1), classes
