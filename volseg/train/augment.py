"""Random changes to patches: rotation, scale, mirror and elastic deformation in one resampling, then intensities.

Everything random comes from the generator given by the caller, so a sample can be drawn again exactly.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.random import Generator
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from volseg.geometry import FloatArray, Shape
from volseg.train.settings import AugmentConfig


@dataclass(frozen=True, eq=False)
class PatchMap:
    """Where the voxels of an augmented patch come from.

    A patch voxel at offset o (in voxels, from the patch centre) is read at centre + shift + matrix @ o + displacement(o).
    """

    patch_voxels: Shape
    matrix: FloatArray
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """In voxels."""
    displacement: Tensor | None = None
    """Control-point displacements [1, 3, a, b, c] in voxels, spread evenly over the patch; None for none."""

    def reach(self) -> tuple[int, int, int]:
        """Half extents, in voxels, of a box around the centre that holds every point that is read."""
        half = (np.array(self.patch_voxels) - 1) / 2
        corners = np.array(list(product(*((-h, h) for h in half)))) @ self.matrix.T
        slack = 0.0 if self.displacement is None else float(self.displacement.abs().max())
        reach = np.ceil(np.abs(corners).max(axis=0) + np.abs(self.shift) + slack + 1).astype(int).tolist()
        return reach[0], reach[1], reach[2]

    def points(self) -> Tensor:
        """Offsets from the centre [I, J, K, 3], in voxels of the source."""
        axes = [torch.arange(extent, dtype=torch.float32) - (extent - 1) / 2 for extent in self.patch_voxels]
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        points = offsets @ torch.from_numpy(self.matrix.T.astype(np.float32)) + torch.tensor(self.shift)
        if self.displacement is not None:
            dense = functional.interpolate(
                self.displacement, size=self.patch_voxels, mode="trilinear", align_corners=True
            )
            points += dense[0].permute(1, 2, 3, 0)
        return points


def draw_patch_map(
    patch_voxels: Shape, spacing_mm: tuple[float, float, float], augment: AugmentConfig, rng: Generator
) -> PatchMap:
    """A random spatial change; angles and displacements are in mm space, so anisotropic voxels are not sheared."""
    spacing = np.array(spacing_mm)
    matrix, shift = np.eye(3), np.zeros(3)
    displacement = None
    if rng.random() < augment.spatial_probability:
        angles = rng.uniform(-augment.rotation_degrees, augment.rotation_degrees, 3)
        stretch = rng.uniform(1 - augment.axis_scale, 1 + augment.axis_scale, 3)
        size = np.exp(rng.uniform(*np.log(augment.scale))) * stretch
        matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(1 / size)
        displacement = _draw_displacement(patch_voxels, spacing, augment, rng)
        if augment.shift_mm > 0:
            shift = rng.uniform(-augment.shift_mm, augment.shift_mm, 3) / spacing
    flips = [-1.0 if axis in augment.mirror_axes and rng.random() < 0.5 else 1.0 for axis in range(3)]
    matrix = np.diag(1 / spacing) @ matrix @ np.diag(spacing) @ np.diag(flips)
    return PatchMap(patch_voxels, matrix, (float(shift[0]), float(shift[1]), float(shift[2])), displacement)


def _draw_displacement(
    patch_voxels: Shape, spacing: FloatArray, augment: AugmentConfig, rng: Generator
) -> Tensor | None:
    if augment.elastic_mm == 0:
        return None
    extents_mm = np.array(patch_voxels) * spacing
    controls = np.maximum(2, np.rint(extents_mm / augment.elastic_spacing_mm).astype(int) + 1)
    strength_mm = rng.uniform(0, augment.elastic_mm)
    shifts_mm = rng.standard_normal((1, 3, *controls)) * strength_mm
    return torch.from_numpy((shifts_mm / spacing[None, :, None, None, None]).astype(np.float32))


def resample_patch(
    image: Tensor, labels: Tensor, label_count: int, centre: FloatArray, patch_map: PatchMap
) -> tuple[Tensor, Tensor]:
    """Read the patch out of a region, image and one-hot labels by one linear look-up; the largest label wins.

    Args:
        image: region [C, I, J, K], float32.
        labels: region [I, J, K], label indices.
        label_count: L, background counted.
        centre: patch centre in voxels of the region.
        patch_map: the spatial change.

    Returns:
        Image patch [C, *patch_voxels] and labels [*patch_voxels] int64; beyond the region both are mirrored.
    """
    extents = torch.tensor(image.shape[1:], dtype=torch.float32)
    points = patch_map.points() + torch.from_numpy(centre.astype(np.float32))
    normalised = points * (2 / (extents - 1).clamp(min=1)) - 1
    one_hot = functional.one_hot(labels.long(), label_count).movedim(-1, 0)
    both = torch.cat([image, one_hot.to(image.dtype)])[None]
    read = functional.grid_sample(
        both, normalised.flip(-1)[None], "bilinear", "reflection", align_corners=True
    )[0]
    return read[: len(image)], read[len(image) :].argmax(dim=0)


def change_intensity(patch: Tensor, augment: AugmentConfig, rng: Generator) -> Tensor:
    """Shading, noise, blur, contrast, brightness and gamma, each by chance; patch [C, I, J, K] with about unit deviation."""

    def chosen() -> bool:
        return rng.random() < augment.intensity_probability

    if augment.shading > 0 and chosen():
        patch = _shade(patch, rng.uniform(0, augment.shading), rng)
    if chosen():
        std = rng.uniform(0, augment.noise_std)
        patch = patch + std * torch.from_numpy(rng.standard_normal(tuple(patch.shape), dtype=np.float32))
    if chosen():
        patch = _blur(patch, rng.uniform(*augment.blur_sigma_voxels))
    mean = patch.mean(dim=(1, 2, 3), keepdim=True)
    if chosen():
        patch = (patch - mean) * rng.uniform(*augment.contrast) + mean
    if chosen():
        patch = patch + rng.uniform(-augment.brightness, augment.brightness)
    if chosen():
        patch = _gamma(patch, np.exp(rng.uniform(*np.log(augment.gamma))), inverted=bool(rng.random() < 0.3))
    return patch


def _shade(patch: Tensor, strength: float, rng: Generator) -> Tensor:
    """Times exp(a random polynomial of the second degree, at most `strength`), each channel's mean and deviation kept.

    Intensities count from the patch's least one, as those of a patch of about zero mean cannot be multiplied.
    """
    axes = [torch.linspace(-1, 1, extent) for extent in patch.shape[1:]]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    terms = torch.stack([x, y, z, x * x, y * y, z * z, x * y, y * z, x * z])
    weights = torch.from_numpy(rng.uniform(-1, 1, len(terms)).astype(np.float32))
    field = torch.tensordot(weights, terms, dims=1)
    field = field * (strength / field.abs().max().clamp(min=1e-6))
    low = patch.amin(dim=(1, 2, 3), keepdim=True)
    return _with_statistics_of(patch, (patch - low) * torch.exp(field) + low)


def _with_statistics_of(patch: Tensor, changed: Tensor) -> Tensor:
    """The changed patch with the mean and deviation that each channel had."""
    std, mean = torch.std_mean(patch, dim=(1, 2, 3), keepdim=True)
    new_std, new_mean = torch.std_mean(changed, dim=(1, 2, 3), keepdim=True)
    return (changed - new_mean) / new_std.clamp(min=1e-6) * std + mean


def _blur(patch: Tensor, sigma_voxels: float) -> Tensor:
    """Separable Gaussian of three sigma, edges replicated."""
    radius = max(1, round(3 * sigma_voxels))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma_voxels) ** 2)
    taps = taps / taps.sum()
    smooth = patch[:, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0] * 6
        shape[2 + axis] = len(taps)
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        smooth = functional.conv3d(functional.pad(smooth, padding, mode="replicate"), taps.view(shape))
    return smooth[:, 0]


def _gamma(patch: Tensor, exponent: float, *, inverted: bool) -> Tensor:
    """Gamma curve over each channel's own range, its mean and deviation kept."""
    signed = -patch if inverted else patch
    low, high = signed.amin(dim=(1, 2, 3), keepdim=True), signed.amax(dim=(1, 2, 3), keepdim=True)
    span = (high - low).clamp(min=1e-6)
    curved = ((signed - low) / span) ** exponent * span + low
    kept = _with_statistics_of(signed, curved)
    return -kept if inverted else kept
