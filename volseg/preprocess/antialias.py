"""Smooth a volume before it is sampled more coarsely."""

import numpy as np
from scipy import ndimage

from volseg.volume import AnyArray, Volume

COARSER = 1.2
"""Only axes whose spacing grows by more than this factor are smoothed."""

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


def smoothing_sigmas(spacing_mm: tuple[float, ...], target_mm: tuple[float, ...]) -> list[float]:
    """Standard deviation in source voxels, per axis, of the Gaussian that turns one voxel profile into another.

    A voxel of s mm is taken for a Gaussian profile with a full width at half maximum of s; variances add, so the step from s
    to t needs a full width of sqrt(t^2 - s^2) mm: sigma = sqrt((t / s)^2 - 1) / 2.355 voxels (Cardoso et al.: "Scale factor
    point spread function matching", MICCAI 2015). 0 where t is at most 1.2 s.
    """
    ratios = [target / own for own, target in zip(spacing_mm, target_mm, strict=True)]
    return [float(np.sqrt(r * r - 1) / _FWHM_PER_SIGMA) if r > COARSER else 0.0 for r in ratios]


def smoothed(volume: Volume, target_mm: tuple[float, float, float]) -> Volume:
    """The volume as float32, smoothed along the axes that a spacing makes coarser; borders mirror.

    Axis by axis in one float32 copy; beyond it only single lines of voxels are held.
    """
    sigmas = smoothing_sigmas(volume.grid.spacing_mm, target_mm)
    if not any(sigmas):
        return volume
    return volume.with_array(_smoothed(volume.array, sigmas))


def _smoothed(array: AnyArray, sigmas: list[float]) -> AnyArray:
    """[C, I, J, K] float32."""
    result = array.astype(np.float32)
    for channel in result:
        for axis, sigma in enumerate(sigmas):
            if sigma:
                ndimage.gaussian_filter1d(channel, sigma, axis=axis, output=channel, mode="reflect")
    return result
