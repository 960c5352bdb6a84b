from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from volseg.train.augment import PatchMap, _shade, change_intensity, draw_patch_map, resample_patch
from volseg.train.settings import AugmentConfig

SPACING = (0.7, 0.9, 2.5)
SHAPE = (11, 14, 9)


def region(seed=0):
    """A smooth body off centre: labels, and an image that is 1 inside and 0 outside."""
    i, j, k = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    labels = ((i - 4) ** 2 / 9 + (j - 8) ** 2 / 16 + (k - 3) ** 2 / 6 <= 1).astype(np.uint8)
    return torch.from_numpy(labels[None].astype(np.float32)), torch.from_numpy(labels)


def test_identity_reads_the_very_patch():
    image, labels = region()
    patch, _ = resample_patch(image, labels, 2, np.array([5.0, 7.0, 4.0]), PatchMap((5, 6, 7), np.eye(3)))
    # a patch of even extent has its centre between two voxels: along j it starts at 7 - 2.5, between voxels
    assert torch.allclose(patch[0], (image[0, 3:8, 4:10, 1:8] + image[0, 3:8, 5:11, 1:8]) / 2, atol=1e-6)
    odd, odd_classes = resample_patch(
        image, labels, 2, np.array([5.0, 7.0, 4.0]), PatchMap((5, 7, 7), np.eye(3))
    )
    assert torch.allclose(odd[0], image[0, 3:8, 4:11, 1:8], atol=1e-6)
    assert torch.equal(odd_classes, labels[3:8, 4:11, 1:8].long())


@given(seed=st.integers(0, 10_000))
@hypothesis_settings(max_examples=30, deadline=None)
def test_image_and_labels_move_together_and_nothing_beyond_reach_is_read(seed):
    rng = np.random.default_rng(seed)
    augment = AugmentConfig(mirror_axes=(0, 2), spatial_probability=1.0, shift_mm=2.0)
    patch_map = draw_patch_map((7, 10, 5), SPACING, augment, rng)
    assert (patch_map.points().abs().amax(dim=(0, 1, 2)).numpy() <= patch_map.reach()).all()
    image, labels = region()
    patch, classes = resample_patch(image, labels, 2, np.array([5.0, 7.0, 4.0]), patch_map)
    sure = (patch[0] - 0.5).abs() > 1e-4  # a tie may go either way
    assert torch.equal(classes[sure] == 1, patch[0][sure] > 0.5)


@given(seed=st.integers(0, 10_000))
@hypothesis_settings(max_examples=30, deadline=None)
def test_rotation_keeps_distances_in_mm_on_anisotropic_voxels(seed):
    augment = AugmentConfig(spatial_probability=1, elastic_mm=0, scale=(1, 1), axis_scale=0, mirror_axes=(1,))
    matrix = draw_patch_map((7, 10, 5), SPACING, augment, np.random.default_rng(seed)).matrix
    points = np.array(list(product((-3.0, 4.0), repeat=3)))
    before = np.linalg.norm(points * SPACING, axis=1)
    after = np.linalg.norm((points @ matrix.T) * SPACING, axis=1)
    assert np.allclose(before, after)


def test_mirror_swaps_the_named_axis_only():
    augment = AugmentConfig(spatial_probability=0, mirror_axes=(1,))
    matrices = {tuple(np.diag(draw_patch_map((3, 3, 3), SPACING, augment, np.random.default_rng(n)).matrix))
                for n in range(20)}  # fmt: skip
    assert {tuple(np.round(m)) for m in matrices} == {(1, 1, 1), (1, -1, 1)}


def test_scale_makes_the_anatomy_larger():
    augment = AugmentConfig(
        spatial_probability=1, rotation_degrees=0, elastic_mm=0, scale=(2, 2), axis_scale=0
    )
    patch_map = draw_patch_map((9, 9, 9), SPACING, augment, np.random.default_rng(0))
    assert np.allclose(patch_map.matrix, np.eye(3) / 2)


def test_outside_the_region_is_its_mirror_image():
    ramp = torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, 3, 3)
    patch, _ = resample_patch(
        ramp, torch.zeros(6, 3, 3), 2, np.array([0.0, 1, 1]), PatchMap((5, 1, 1), np.eye(3))
    )
    assert torch.allclose(patch.flatten(), torch.tensor([2.0, 1, 0, 1, 2]), atol=1e-5)


def test_without_chances_intensities_stay():
    patch = torch.randn(2, 5, 6, 7)
    assert change_intensity(patch, AugmentConfig(intensity_probability=0), np.random.default_rng(0)) is patch


@pytest.mark.parametrize("seed", range(8))
def test_intensity_changes_are_drawn_again_exactly_and_stay_finite(seed):
    patch = torch.randn(2, 8, 6, 7, generator=torch.Generator().manual_seed(1))
    original = patch.clone()
    augment = AugmentConfig(intensity_probability=1)
    first = change_intensity(patch, augment, np.random.default_rng(seed))
    again = change_intensity(patch, augment, np.random.default_rng(seed))
    other = change_intensity(patch, augment, np.random.default_rng(seed + 100))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.isfinite().all()
    assert torch.equal(patch, original)


def test_gamma_keeps_mean_and_deviation_of_each_channel():
    patch = torch.randn(2, 8, 9, 7, generator=torch.Generator().manual_seed(3)) * torch.tensor([1.0, 4]).view(
        2, 1, 1, 1
    )
    augment = AugmentConfig(intensity_probability=1, noise_std=0, blur_sigma_voxels=(0.01, 0.01), contrast=(1, 1),
                            brightness=0, gamma=(2, 2))  # fmt: skip
    changed = change_intensity(patch, augment, np.random.default_rng(0))
    assert not torch.allclose(changed, patch, atol=0.01)
    for axis in (0, 1):
        assert torch.allclose(changed[axis].mean(), patch[axis].mean(), atol=1e-4)
        assert torch.allclose(changed[axis].std(), patch[axis].std(), atol=1e-3)


def test_a_shift_moves_the_patch_by_millimetres_along_each_axis():
    augment = AugmentConfig(
        spatial_probability=1, rotation_degrees=0, scale=(1, 1), axis_scale=0, elastic_mm=0, shift_mm=8
    )
    maps = [draw_patch_map((5, 5, 5), SPACING, augment, np.random.default_rng(seed)) for seed in range(200)]
    shifts_mm = np.array([patch_map.shift for patch_map in maps]) * SPACING
    assert np.abs(shifts_mm).max() <= 8
    assert (np.abs(shifts_mm).max(axis=0) > 7).all(), "along every axis"
    centre = maps[0].points()[2, 2, 2].numpy()
    assert np.allclose(centre, maps[0].shift, atol=1e-5)


def test_shading_is_smooth_bounded_and_keeps_mean_and_deviation():
    steps = np.random.default_rng(1).uniform(1, 2, (2, *SHAPE)).astype(np.float32)
    patch = torch.from_numpy(steps)
    shaded = _shade(patch, 0.3, np.random.default_rng(3))
    assert torch.allclose(shaded.mean(dim=(1, 2, 3)), patch.mean(dim=(1, 2, 3)), atol=1e-4)
    assert torch.allclose(shaded.std(dim=(1, 2, 3)), patch.std(dim=(1, 2, 3)), atol=1e-4)
    low = patch.amin(dim=(1, 2, 3), keepdim=True)
    gain = (shaded - shaded.amin(dim=(1, 2, 3), keepdim=True)) / (patch - low).clamp(min=1e-3)
    sure = (patch - low) > 0.3
    spread = torch.log(gain[sure]).max() - torch.log(gain[sure]).min()
    assert 0.1 < spread <= 2 * 0.3 + 0.1


def test_shading_and_shift_are_off_unless_asked_for():
    """So that a run of an older configuration draws the same numbers again."""
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32))
    plain = AugmentConfig(intensity_probability=1)
    first = change_intensity(image, plain, np.random.default_rng(5))
    shaded = change_intensity(
        image, AugmentConfig(intensity_probability=1, shading=0.4), np.random.default_rng(5)
    )
    assert not torch.equal(first, shaded)
    assert draw_patch_map((5, 6, 7), SPACING, AugmentConfig(), np.random.default_rng(1)).shift == (0, 0, 0)
