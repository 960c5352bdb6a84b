"""Rotation, scale, shift, mirror and elastic deformation of a patch in one linear look-up of image and labels.

Everything random comes from the generator given by the caller, so a sample can be drawn again exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.random import Generator
from scipy.spatial.transform import Rotation
from torch import Tensor

from volseg.geometry import FloatArray, Shape
from volseg.train.samples.augment_settings import AugmentConfig

_SLAB_VOXELS = 65536


@dataclass(frozen=True, eq=False)
class PatchMap:
    """Where the voxels of an augmented patch come from, as offsets in source voxels from the patch's centre.

    Between the control points, which are spread evenly over the patch with its corners included, the offsets are
    trilinear. That is exact for their affine part, and no offset lies outside the box of the control points.
    """

    patch_voxels: Shape
    controls: FloatArray
    """[3, a, b, c] in voxels of the source."""
    flips: tuple[bool, bool, bool] | None = None
    """Where the patch is nothing but a box of the source, the axes along which it is mirrored."""

    def box(self, centre: FloatArray) -> tuple[tuple[int, int, int], Shape]:
        """First voxel and extents of the source region that is read for a patch around `centre`; may leave the volume."""
        if self.flips is not None:
            start = np.rint(centre - (np.array(self.patch_voxels) - 1) / 2).astype(int)
            return (int(start[0]), int(start[1]), int(start[2])), self.patch_voxels
        low = np.floor(self.controls.min(axis=(1, 2, 3)) + centre - 1e-3).astype(int)
        high = np.floor(self.controls.max(axis=(1, 2, 3)) + centre + 1e-3).astype(int) + 2
        if self.patch_voxels[2] == 1:
            low[2] = np.rint(self.controls[2, 0, 0, 0] + centre[2])
            high[2] = low[2] + 1
        extent = (high - low).tolist()
        return (int(low[0]), int(low[1]), int(low[2])), (extent[0], extent[1], extent[2])


def draw_patch_map(
    patch_voxels: Shape, spacing_mm: tuple[float, float, float], augment: AugmentConfig, rng: Generator
) -> PatchMap:
    """A random spatial change; angles and displacements are in mm space, so anisotropic voxels are not sheared.

    A patch of one slice (K = 1) turns, scales and bends in its plane only: it shifts along K by whole slices and is not
    mirrored along K, so no slice is ever mixed with its neighbours.
    """
    spacing, flat = np.array(spacing_mm), patch_voxels[2] == 1
    matrix, shift, elastic = np.eye(3), np.zeros(3), False
    changed = rng.random() < augment.spatial_probability
    if changed:
        matrix = _draw_matrix(augment, rng, flat=flat)
        if augment.shift_mm > 0:
            shift = rng.uniform(-augment.shift_mm, augment.shift_mm, 3) / spacing
        shift[2] = np.rint(shift[2]) if flat else shift[2]
        elastic = augment.elastic_mm > 0
    chosen = [axis in augment.mirror_axes and rng.random() < 0.5 for axis in range(3)]
    flips = (chosen[0], chosen[1], chosen[2] and not flat)
    matrix = np.diag(1 / spacing) @ matrix @ np.diag(spacing) @ np.diag(np.where(flips, -1.0, 1.0))
    counts = _control_counts(patch_voxels, spacing, augment) if elastic else np.minimum(patch_voxels, 2)
    offsets = _control_offsets(patch_voxels, counts)
    controls = np.einsum("dc,cxyz->dxyz", matrix, offsets) + shift[:, None, None, None]
    if elastic:
        strength_mm = rng.uniform(0, augment.elastic_mm) * np.array([1, 1, 0 if flat else 1])
        controls += rng.standard_normal(controls.shape) * (strength_mm / spacing)[:, None, None, None]
    return PatchMap(patch_voxels, controls, None if changed else flips)


def _draw_matrix(augment: AugmentConfig, rng: Generator, *, flat: bool) -> FloatArray:
    """Rotation after stretching [3, 3], in mm, from the patch to the source."""
    angles = rng.uniform(-augment.rotation_degrees, augment.rotation_degrees, 3)
    stretch = rng.uniform(1 - augment.axis_scale, 1 + augment.axis_scale, 3)
    size = np.exp(rng.uniform(*np.log(augment.scale))) * stretch
    if flat:
        angles[:2], size[2] = 0, 1
    return Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(1 / size)


def _control_counts(patch_voxels: Shape, spacing: FloatArray, augment: AugmentConfig) -> FloatArray:
    extents_mm = np.array(patch_voxels) * spacing
    counts = np.maximum(2, np.rint(extents_mm / augment.elastic_spacing_mm).astype(int) + 1)
    return np.minimum(counts, patch_voxels)


def _control_offsets(patch_voxels: Shape, counts: FloatArray) -> FloatArray:
    """Of the control points from the patch's centre [3, a, b, c], in patch voxels."""
    axes = [
        np.linspace(-(extent - 1) / 2, (extent - 1) / 2, int(count)) if count > 1 else np.zeros(1)
        for extent, count in zip(patch_voxels, counts, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def resample_patch(
    image: Tensor, labels: Tensor, patch_map: PatchMap, centre: FloatArray
) -> tuple[Tensor, Tensor]:
    """Read the patch out of its region, linearly; each voxel gets the label with the largest share of its 8 neighbours.

    The labels are those of a linear look-up of all one-hot channels, without making them: a look-up between 8 equal
    labels is that label, and only the others are voted on.

    Args:
        image: region [C, *region], float32: the part inside the volume of the box that patch_map.box gave, beyond which
            it is mirrored; of a mere cut the whole box.
        labels: region [*region], uint8 label indices.
        patch_map: the spatial change.
        centre: the patch's centre in voxels of the region, that is less its first voxel.

    Returns:
        Image patch [C, *patch_voxels] and labels [*patch_voxels] uint8, on the device of the region; the region itself
        where nothing changes.
    """
    if patch_map.flips is not None:
        axes = [axis for axis, flipped in enumerate(patch_map.flips) if flipped]
        if not axes:
            return image, labels
        return image.flip([axis + 1 for axis in axes]), labels.flip(axes)
    patch = image.new_empty((len(image), *patch_map.patch_voxels))
    lowest, highest = torch.aminmax(labels)
    several = bool(lowest != highest)
    classes = labels.new_full(patch_map.patch_voxels, int(lowest))
    corners = _corner_offsets(labels.shape, axes=2 if patch_map.patch_voxels[2] == 1 else 3)
    for first, index, fractions in _slabs(patch_map, centre, image):
        chosen = slice(first, first + index.shape[0])
        flat_index = index.view(-1)
        for channel, source in zip(patch, image, strict=True):
            channel[chosen] = _linear(source, flat_index, fractions, corners).view(index.shape)
        if several:
            classes[chosen] = _largest_share(labels, flat_index, fractions, corners).view(index.shape)
    return patch, classes


def _slabs(patch_map: PatchMap, centre: FloatArray, like: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Slabs of the patch along I that fit the processor's cache.

    Each is its first plane, the flat region index [n, J, K] int32 of each voxel's lower corner, and its fractions
    [3, n J K] towards the upper one.
    """
    extents = patch_map.patch_voxels
    controls = patch_map.controls + centre[:, None, None, None]
    spread = [
        _linear_weights(extent, count) for extent, count in zip(extents, controls.shape[1:], strict=True)
    ]
    planes = torch.einsum("dabc,ia,jb->idjc", torch.from_numpy(controls), spread[0], spread[1])
    planes = planes.float().to(like.device)
    last = spread[2].T.float().contiguous().to(like.device)
    thickness = max(1, _SLAB_VOXELS // (extents[1] * extents[2])) if like.device.type == "cpu" else extents[0]
    ends = [extent - 1 for extent in like.shape[1:]]
    ranges = [(float(part.min()), float(part.max())) for part in controls]
    for first in range(0, extents[0], thickness):
        points = torch.matmul(planes[first : first + thickness].movedim(1, 0), last)
        for axis, end in enumerate(ends):
            _mirror(points[axis], end, *ranges[axis])
        lower = points.to(torch.int32)
        for axis, end in enumerate(ends):  # the last voxel is the upper corner of the cell before it
            lower[axis].clamp_(0, max(end - 1, 0))
        fractions = points.sub_(lower).view(3, -1)
        index = lower[0].mul_(like.shape[2]).add_(lower[1]).mul_(like.shape[3]).add_(lower[2])
        yield first, index, fractions


def _mirror(places: Tensor, end: int, low: float, high: float) -> None:
    """Fold places in low..high into a line of voxels 0..end, in place, at the centres of its first and last voxel."""
    if low >= 0 and high <= end:
        return
    if end == 0:
        places.zero_()
        return
    if low < -2 * end or high > 2 * end:
        places.remainder_(2 * end)
    places.abs_().sub_(end).abs_().neg_().add_(end)


def _linear_weights(extent: int, count: int) -> Tensor:
    """[extent, count] float64: `count` control points at even distances to `extent` voxels, ends on ends."""
    if count == 1:
        return torch.ones(extent, 1, dtype=torch.float64)
    place = torch.linspace(0, count - 1, extent, dtype=torch.float64)[:, None]
    return (1 - (place - torch.arange(count)).abs()).clamp(min=0)


def _corner_offsets(shape: torch.Size, *, axes: int) -> list[int]:
    """Flat offsets of the 2**axes corners of a cell, the last axis fastest; a cell of 2 axes lies in one slice."""
    steps = [shape[1] * shape[2], shape[2], 1][:axes]
    steps = [step if extent > 1 else 0 for step, extent in zip(steps, shape, strict=False)]
    return [sum(np.multiply(corner, steps).tolist()) for corner in product((0, 1), repeat=axes)]


def _linear(source: Tensor, index: Tensor, fractions: Tensor, corners: list[int]) -> Tensor:
    """Linear interpolation [n] of a region [I, J, K] in the cells whose lower corners are `index`."""
    flat = source.reshape(-1)
    values = [torch.index_select(flat[offset:], 0, index) for offset in corners]
    axis = len(corners).bit_length() - 2
    while len(values) > 1:
        for lower, upper in zip(values[::2], values[1::2], strict=True):
            lower.lerp_(upper, fractions[axis])
        values, axis = values[::2], axis - 1
    return values[0]


def _largest_share(labels: Tensor, index: Tensor, fractions: Tensor, corners: list[int]) -> Tensor:
    """The label [n] uint8 whose corners weigh most; only cells with unlike corners are weighed."""
    flat = labels.reshape(-1)
    best, *others = (torch.index_select(flat[offset:], 0, index) for offset in corners)
    unlike = torch.zeros_like(best)
    for other in others:
        unlike |= best ^ other
    mixed = unlike.nonzero()[:, 0]
    found = torch.stack([corner[mixed] for corner in (best, *others)])
    weights = torch.ones((1, len(mixed)), device=fractions.device)
    for part in fractions[: len(corners).bit_length() - 1, mixed]:
        weights = torch.stack([weights * (1 - part), weights * part], dim=1).flatten(0, 1)
    winner, most = found[0], torch.zeros_like(weights[0])
    for candidate in found:
        share = (weights * (found == candidate)).sum(dim=0)
        winner, most = torch.where(share > most, candidate, winner), torch.maximum(share, most)
    best[mixed] = winner
    return best
