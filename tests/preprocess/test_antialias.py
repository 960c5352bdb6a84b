import numpy as np
import pytest
from scipy import ndimage

from tests.preprocess.test_spatial import make_volume
from volseg.geometry import Grid
from volseg.preprocess.antialias import smoothed, smoothing_sigmas
from volseg.preprocess.spatial import Respace
from volseg.volume import Volume


def test_variances_add_up():
    """A Gaussian voxel of 1 mm smoothed for 3 mm has the profile of a Gaussian voxel of 3 mm."""
    (sigma,) = smoothing_sigmas((0.5,), (1.5,))
    per_fwhm = 2 * np.sqrt(2 * np.log(2))
    assert (1 / per_fwhm) ** 2 + sigma**2 == pytest.approx((3 / per_fwhm) ** 2)
    assert smoothing_sigmas((1.0, 1.0, 2.0), (1.2, 0.5, 2.6)) == [0.0, 0.0, pytest.approx(0.3528, abs=1e-3)]


def test_smoothing_equals_scipy_on_each_channel():
    volume = make_volume((20, 22, 12), shear=0)
    sigmas = smoothing_sigmas(volume.grid.spacing_mm, (2.0, 0.9, 6.0))
    assert sigmas[1] == 0
    result = smoothed(volume, (2.0, 0.9, 6.0))
    for channel, before in zip(result.array, volume.array, strict=True):
        expected = ndimage.gaussian_filter(before.astype(np.float64), sigmas)
        np.testing.assert_allclose(channel, expected, atol=0.01)


def test_nothing_is_smoothed_for_finer_voxels():
    volume = make_volume((20, 22, 12), shear=0)
    assert smoothed(volume, (0.8, 0.9, 2.5)) is volume
    finer = {"spacing_mm": (0.5, 0.5, 1.0)}
    np.testing.assert_array_equal(
        Respace(**finer, antialias=True)(volume).array, Respace(**finer)(volume).array
    )


@pytest.mark.parametrize("shear", [0, 0.3])
def test_noise_does_not_alias_and_means_stay(shear):
    grid = make_volume((48, 48, 24), (0.5, 0.5, 1.0), shear=shear).grid
    noise = np.random.default_rng(0).normal(100, 20, grid.shape).astype(np.float32)
    volume = Volume(noise, grid)
    plain, fair = (Respace(spacing_mm=(2.0, 2.0, 2.0), antialias=a)(volume) for a in (False, True))
    assert plain.grid == fair.grid
    inner = (0, slice(3, 9), slice(3, 9), slice(2, 9))
    assert fair.array[inner].std() < 0.5 * plain.array[inner].std()
    assert fair.array[inner].mean() == pytest.approx(100, abs=3)


def test_the_default_is_as_it_was():
    volume = Volume(
        np.random.default_rng(1).random((8, 8, 8)).astype(np.float32),
        Grid.from_spacing((8, 8, 8), (1.0, 1.0, 1.0)),
    )
    assert not Respace(spacing_mm=(2, 2, 2)).antialias
    respaced = Respace(spacing_mm=(2, 2, 2))(volume)
    means = volume.array.reshape(1, 4, 2, 4, 2, 4, 2).mean(axis=(2, 4, 6))
    np.testing.assert_allclose(respaced.array, means, atol=1e-6)
