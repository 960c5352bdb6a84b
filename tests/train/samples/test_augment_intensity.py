import numpy as np
import pytest
import torch
from scipy import ndimage

from volseg.train.samples.augment_intensity import change_intensity, lose_resolution, shade
from volseg.train.samples.augment_settings import AugmentConfig
from volseg.train.samples.equalise import equalise_histogram

SHAPE = (11, 14, 9)


def patch(channels=2, seed=1):
    return torch.randn(channels, *SHAPE, generator=torch.Generator().manual_seed(seed))


def only(change, **fields):
    return AugmentConfig(intensity_probability=0, probabilities={change: 1}, **fields)


def changed(augment, image=None, seed=0, **options):
    image = patch() if image is None else image
    return change_intensity(image.clone(), augment, np.random.default_rng(seed), **options)


def test_without_chances_intensities_stay():
    image = patch()
    assert torch.equal(changed(AugmentConfig(intensity_probability=0, equalise_clip=2, shading=1)), image)


@pytest.mark.parametrize("seed", range(8))
def test_changes_are_drawn_again_exactly_and_stay_finite(seed):
    augment = AugmentConfig(intensity_probability=1, shading=0.3, equalise_clip=3)
    first, again, other = (changed(augment, seed=s) for s in (seed, seed, seed + 100))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.isfinite().all()
    assert changed(augment, torch.ones(1, 5, 6, 1), seed).isfinite().all()


@pytest.mark.parametrize("change", ["noise", "blur", "low_resolution", "contrast", "brightness", "gamma"])
def test_each_change_has_its_own_chance_and_each_channel_its_own_value(change):
    image = patch(1).expand(4, -1, -1, -1).clone()
    result = changed(only(change, low_resolution=(1.9, 2.0)), image, seed=4)
    assert not torch.equal(result, image)
    assert len({float(channel.std() + channel.mean()) for channel in result}) > 1
    half = AugmentConfig(intensity_probability=0, probabilities={change: 0.5}, low_resolution=(1.9, 2.0))
    touched = [not torch.equal(changed(half, image[:1], seed), image[:1]) for seed in range(60)]
    assert 15 < sum(touched) < 45


def test_noise_has_the_deviation_drawn():
    noise = changed(only("noise", noise_std=0.4), torch.zeros(50, *SHAPE))
    stds = noise.std(dim=(1, 2, 3))
    assert stds.max() < 0.42
    assert stds.mean() == pytest.approx(0.2, abs=0.05)
    assert noise.mean() == pytest.approx(0, abs=0.01)


def test_contrast_turns_about_the_mean_and_brightness_adds():
    image = patch() + 3
    result = changed(only("contrast", contrast=(1.5, 1.5)), image)
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    assert torch.allclose(result, (image - mean) * 1.5 + mean, atol=1e-4)
    lift = changed(only("brightness"), image) - image
    assert lift.std(dim=(1, 2, 3)).max() < 1e-5
    assert lift.abs().max() <= 0.3


@pytest.mark.parametrize("axes", [2, 3])
def test_blur_equals_scipys_gaussian(axes):
    image = patch(1)[0]
    blurred = lose_resolution(image, 0.9, 1, axes=axes)
    sigma = (0.9, 0.9, 0.9)[:axes] + (0,) * (3 - axes)
    expected = ndimage.gaussian_filter(
        image.numpy().astype(float), sigma, mode="nearest", radius=[3] * axes + [0] * (3 - axes)
    )
    assert np.allclose(blurred, expected, atol=1e-5)


def test_low_resolution_keeps_every_second_voxel_and_ramps():
    ramp = torch.arange(12.0).view(12, 1, 1).expand(12, 4, 4).contiguous()
    coarse = lose_resolution(ramp, 0, 2.0)
    assert torch.allclose(coarse[1:-1, 0, 0].diff(), torch.ones(9), atol=1e-5), "a ramp stays a ramp inside"
    stripes = (torch.arange(12) % 2).float().view(1, 12, 1).expand(4, 12, 4).contiguous()
    assert lose_resolution(stripes, 0, 2.0).std() < 1e-5, "what is finer than the voxels is lost"
    image = patch(1)[0]
    assert torch.equal(lose_resolution(image, 0, 1.0), image)
    both = lose_resolution(image, 0.8, 1.7)
    assert torch.allclose(both, lose_resolution(lose_resolution(image, 0.8, 1), 0, 1.7), atol=1e-5)


def test_flat_patches_lose_resolution_in_their_plane_only():
    image = torch.zeros(1, 9, 10, 5)
    image[..., 2] = patch(1)[:, :9, :10, 0]
    result = changed(AugmentConfig(intensity_probability=0, probabilities={"blur": 1, "low_resolution": 1},
                                   low_resolution=(2, 2)), image, flat=True)  # fmt: skip
    assert not torch.equal(result, image)
    assert (result[..., [0, 1, 3, 4]] == 0).all()


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_gamma_keeps_mean_and_deviation_of_each_channel(seed):
    image = patch() * torch.tensor([1.0, 4]).view(2, 1, 1, 1) + 2
    result = changed(only("gamma", gamma=(2, 2)), image, seed)
    assert not torch.allclose(result, image, atol=0.01)
    assert torch.allclose(result.mean(dim=(1, 2, 3)), image.mean(dim=(1, 2, 3)), atol=1e-3)
    assert torch.allclose(result.std(dim=(1, 2, 3)), image.std(dim=(1, 2, 3)), atol=1e-2)
    order = image[0].flatten().argsort()
    assert (result[0].flatten()[order].diff() >= -1e-5).all(), "the order of intensities stays"


def test_shading_is_smooth_bounded_and_keeps_mean_and_deviation():
    image = torch.from_numpy(np.random.default_rng(1).uniform(1, 2, (2, *SHAPE)).astype(np.float32))
    shaded = shade(image.clone(), 0.3, np.random.default_rng(3))
    assert torch.allclose(shaded.mean(dim=(1, 2, 3)), image.mean(dim=(1, 2, 3)), atol=1e-4)
    assert torch.allclose(shaded.std(dim=(1, 2, 3)), image.std(dim=(1, 2, 3)), atol=1e-4)
    low = image.amin(dim=(1, 2, 3), keepdim=True)
    gain = (shaded - shaded.amin(dim=(1, 2, 3), keepdim=True)) / (image - low).clamp(min=1e-3)
    sure = (image - low) > 0.3
    spread = torch.log(gain[sure]).max() - torch.log(gain[sure]).min()
    assert 0.1 < spread <= 2 * 0.3 + 0.1


def test_equalising_one_block_without_a_limit_is_the_rank():
    image = torch.rand(1, 20, 20, 1, generator=torch.Generator().manual_seed(0)) ** 3
    image[0, 0, 0, 0], image[0, 0, 1, 0] = 0, 1
    blocks = equalise_histogram(image, 1e9, flat=True)
    assert blocks.min() >= 0
    assert blocks.max() <= 1 + 1e-5
    assert blocks.std() == pytest.approx(1 / 12**0.5, abs=0.03), "close to uniform"
    limited = equalise_histogram(image, 1.0, flat=True)
    assert (limited - image).abs().mean() < 0.3 * (blocks - image).abs().mean(), "a low limit changes little"


def test_equalising_lifts_faint_local_contrast_and_flat_slices_share_blocks():
    image = torch.zeros(1, 24, 24, 8)
    image[:, :12] = 0.02 * patch(1)[:, :1, :1, :1]
    image[:, :12] += 0.05 * (torch.arange(12) % 2).view(12, 1, 1)
    image[:, -1, -1, -1] = 1
    result = equalise_histogram(image, 20.0)
    assert result[0, :4, 0, 0].std() > 2 * image[0, :4, 0, 0].std()
    assert torch.equal(equalise_histogram(torch.ones(1, 4, 4, 4), 2.0), torch.ones(1, 4, 4, 4))
