"""Random changes of a patch's intensities.

Blur and low resolution are linear and act on each axis alone, so they are small matrices per axis; contrast and brightness are
one multiplication and one addition.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from volseg.train.samples.augment_settings import AugmentConfig, IntensityChange
from volseg.train.samples.equalise import equalise_histogram

_INVERTED_GAMMA = 0.3
_CHANNEL_LOSES_RESOLUTION = 0.5


def change_intensity(patch: Tensor, augment: AugmentConfig, rng: Generator, *, flat: bool = False) -> Tensor:
    """The changes, each by chance, each channel with values of its own.

    Args:
        patch: [C, I, J, K] float32 of about unit deviation, contiguous; it is overwritten.
        augment: chances and ranges.
        rng: where all chance comes from.
        flat: K counts slices that were cut apart: nothing is mixed along it.

    Returns:
        [C, I, J, K], the patch or a new tensor.
    """

    def chosen(change: IntensityChange) -> bool:
        return bool(rng.random() < augment.chance(change))

    if augment.equalise_clip > 0 and chosen("equalise"):
        patch = equalise_histogram(patch, augment.equalise_clip, flat=flat)
    if augment.shading > 0 and chosen("shading"):
        patch = shade(patch, rng.uniform(0, augment.shading), rng)
    if chosen("noise"):
        _add_noise(patch, augment.noise_std, rng)
    _lose_resolution(patch, augment, rng, chosen, flat=flat)
    _scale_and_add(patch, augment, rng, chosen)
    if chosen("gamma"):
        exponents = np.exp(rng.uniform(*np.log(augment.gamma), size=len(patch)))
        _change_gamma(patch, exponents, inverted=bool(rng.random() < _INVERTED_GAMMA))
    return patch


def _add_noise(patch: Tensor, largest_std: float, rng: Generator) -> None:
    """Gaussian noise; it is drawn where the patch is, so its numbers depend on the kind of device."""
    generator = torch.Generator(patch.device).manual_seed(int(rng.integers(2**63)))
    for channel in patch:
        noise = torch.randn(channel.shape, generator=generator, device=patch.device)
        channel.add_(noise, alpha=float(rng.uniform(0, largest_std)))


def _lose_resolution(
    patch: Tensor,
    augment: AugmentConfig,
    rng: Generator,
    chosen: Callable[[IntensityChange], bool],
    *,
    flat: bool,
) -> None:
    """Blur, then a coarser sampling. Of several channels each takes part by chance 1/2."""
    blurred, coarse = chosen("blur"), chosen("low_resolution")
    if not (blurred or coarse):
        return
    for channel in patch:
        sigma, factor = rng.uniform(*augment.blur_sigma_voxels), rng.uniform(*augment.low_resolution)
        takes_part = rng.random(2) < (1 if len(patch) == 1 else _CHANNEL_LOSES_RESOLUTION)
        sigma = sigma if blurred and takes_part[0] else 0.0
        factor = factor if coarse and takes_part[1] else 1.0
        if sigma > 0 or factor > 1:
            channel.copy_(lose_resolution(channel, sigma, factor, axes=2 if flat else 3))


def lose_resolution(channel: Tensor, sigma_voxels: float, factor: float, *, axes: int = 3) -> Tensor:
    """Gaussian blur, then every `factor`-th voxel (nearest) and back by linear interpolation, borders replicated.

    Args:
        channel: [I, J, K].
        sigma_voxels: of the Gaussian, cut off at three sigma; 0 is none.
        factor: at least 1, which is none.
        axes: along the first 2 or all 3.
    """
    extents = channel.shape
    for axis in range(axes):  # every axis is made short before one is made long again
        channel = _shortened(channel, axis, sigma_voxels, factor)
    for axis in range(axes):
        channel = _lengthened(channel, axis, extents[axis])
    return channel


def _shortened(channel: Tensor, axis: int, sigma_voxels: float, factor: float) -> Tensor:
    """Blurred along an axis, of which every `factor`-th voxel is kept."""
    extent = channel.shape[axis]
    count = max(1, round(extent / factor))
    kept = ((torch.arange(count) + 0.5) * extent / count).floor().long()
    if sigma_voxels == 0:
        return channel if count == extent else channel.index_select(axis, kept.to(channel.device))
    radius = max(1, round(3 * sigma_voxels))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma_voxels) ** 2)
    sources = (kept[:, None] + torch.arange(-radius, radius + 1)).clamp(0, extent - 1)
    matrix = torch.zeros(count, extent).scatter_add_(1, sources, (taps / taps.sum()).expand(count, -1))
    return _along(channel, axis, matrix)


def _lengthened(channel: Tensor, axis: int, extent: int) -> Tensor:
    """Linear interpolation along an axis to so many voxels, at the same places."""
    count = channel.shape[axis]
    if count == extent:
        return channel
    place = ((torch.arange(extent) + 0.5) * count / extent - 0.5).clamp(0, count - 1)
    return _along(channel, axis, (1 - (place[:, None] - torch.arange(count)).abs()).clamp(min=0))


def _along(channel: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """The product of a matrix [to, from] with every line [from] along an axis of [I, J, K]."""
    matrix, shape = matrix.to(channel.device), list(channel.shape)
    shape[axis] = len(matrix)
    if axis == 0:
        return (matrix @ channel.reshape(len(channel), -1)).view(shape)
    return torch.matmul(matrix, channel) if axis == 1 else torch.matmul(channel, matrix.T)


def _scale_and_add(
    patch: Tensor, augment: AugmentConfig, rng: Generator, chosen: Callable[[IntensityChange], bool]
) -> None:
    scaled, lifted = chosen("contrast"), chosen("brightness")
    for channel in patch:
        scale, lift = (
            rng.uniform(*augment.contrast),
            rng.uniform(-augment.brightness, augment.brightness),
        )
        if scaled:
            mean = channel.mean()
            channel.mul_(scale).add_(mean * (1 - scale))
        if lifted:
            channel.add_(lift)


def _change_gamma(patch: Tensor, exponents: Iterable[float], *, inverted: bool) -> None:
    """x**exponent over each channel's own range, its mean and deviation kept."""
    for channel, exponent in zip(patch, exponents, strict=True):
        low, high = torch.aminmax(channel)
        zero, span = (high, low - high) if inverted else (low, high - low)
        if span == 0:
            continue
        channel.sub_(zero).div_(span)
        mean, std = _moments(channel)
        channel.pow_(float(exponent))
        new_mean, new_std = _moments(channel)
        gain = std / new_std.clamp(min=1e-6)
        channel.mul_(gain * span).add_((mean - new_mean * gain) * span + zero)


def _moments(channel: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of values of the order of 1; many times faster than torch.std_mean."""
    mean = channel.mean()
    square = torch.dot(channel.reshape(-1), channel.reshape(-1)) / channel.numel()
    return mean, (square - mean * mean).clamp(min=0).sqrt()


def shade(patch: Tensor, strength: float, rng: Generator) -> Tensor:
    """Times exp(a random polynomial of the second degree, at most `strength`), each channel's mean and deviation kept.

    Intensities count from the channel's least one, as those of a patch of about zero mean cannot be multiplied. The field
    is a product of three planes, one for each pair of axes.
    """
    weights = rng.uniform(-1, 1, (3, 3))
    coarse = sum(_planes([17, 17, 17], weights))
    weights *= strength / max(float(np.abs(coarse).max()), 1e-6)
    fields = [
        torch.from_numpy(np.exp(plane).astype(np.float32)).to(patch.device)
        for plane in _planes(list(patch.shape[1:]), weights)
    ]
    for channel in patch:
        low, high = torch.aminmax(channel)
        span = (high - low).clamp(min=1e-6)
        channel.sub_(low).div_(span)
        mean, std = _moments(channel)
        for field in fields:
            channel.mul_(field)
        new_mean, new_std = _moments(channel)
        gain = std / new_std.clamp(min=1e-6)
        channel.mul_(gain * span).add_((mean - new_mean * gain) * span + low)
    return patch


def _planes(extents: list[int], weights: np.ndarray) -> list[np.ndarray]:
    """Polynomials of the axis pairs (0, 1), (1, 2), (2, 0), shaped to be added; weights [3, 3] of a, a**2 and a b."""
    planes = []
    for axis, (linear, square, both) in enumerate(weights):
        other = (axis + 1) % 3
        shapes = [[1, 1, 1], [1, 1, 1]]
        shapes[0][axis] = extents[axis]
        shapes[1][other] = extents[other]
        a = np.linspace(-1, 1, extents[axis]).reshape(shapes[0])
        b = np.linspace(-1, 1, extents[other]).reshape(shapes[1])
        planes.append(linear * a + square * a * a + both * a * b)
    return planes
