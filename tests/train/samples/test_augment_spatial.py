from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from volseg.train.samples.augment_settings import AugmentConfig
from volseg.train.samples.augment_spatial import PatchMap, draw_patch_map, resample_patch
from volseg.train.samples.boxes import part_inside, read_box, read_part

SPACING = (0.7, 0.9, 2.5)
STILL = {"rotation_degrees": 0, "scale": (1, 1), "axis_scale": 0, "elastic_mm": 0}


def draw(patch=(7, 10, 5), seed=0, **fields):
    fields = {"spatial_probability": 1, **fields}
    return draw_patch_map(patch, SPACING, AugmentConfig(**fields), np.random.default_rng(seed))


def region_of(patch_map, centre, volume):
    """What is read for the patch."""
    first, extents = map(np.array, patch_map.box(centre))
    if patch_map.flips is not None:
        return read_box(volume, first, extents), centre - first
    inside = part_inside(first, extents, volume.shape)
    return read_part(volume, inside), centre - np.array([part.start for part in inside])


def read(patch_map, centre, image, labels):
    region, inside = region_of(patch_map, centre, image)
    classes, _ = region_of(patch_map, centre, labels)
    return resample_patch(torch.from_numpy(region)[None], torch.from_numpy(classes), patch_map, inside)


def offsets_of(patch_map):
    """All offsets [3, I, J, K] by scipy, to compare with."""
    counts, extents = patch_map.controls.shape[1:], patch_map.patch_voxels
    at = np.meshgrid(*(np.linspace(0, c - 1, n) for c, n in zip(counts, extents, strict=True)), indexing="ij")
    return np.stack([ndimage.map_coordinates(part, at, order=1) for part in patch_map.controls])


@given(seed=st.integers(0, 10_000), label_count=st.sampled_from([1, 2, 5, 100]))
@settings(max_examples=30, deadline=None)
def test_patches_equal_scipys_look_up_and_the_largest_one_hot_share(seed, label_count):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(11, 14, 9)).astype(np.float32)
    labels = rng.integers(0, label_count, (11, 14, 9)).astype(np.uint8)
    labels = labels[:, :, :1].repeat(9, 2) if seed % 2 else labels
    patch_map = draw(seed=seed, mirror_axes=(0, 2), rotation_degrees=40, scale=(0.7, 1.4), shift_mm=2)
    centre = np.array([5.0, 6.5, 4.0])
    patch, classes = read(patch_map, centre, image, labels)
    at = offsets_of(patch_map) + centre[:, None, None, None]
    expected = ndimage.map_coordinates(image, at, order=1, mode="mirror")
    assert np.allclose(patch[0].numpy(), expected, atol=1e-3)
    shares = np.stack(
        [
            ndimage.map_coordinates((labels == n).astype(float), at, order=1, mode="mirror")
            for n in range(label_count)
        ]
    )
    top = np.sort(shares, axis=0)
    sure = np.ones(classes.shape, bool) if label_count == 1 else top[-1] - top[-2] > 1e-3
    assert np.array_equal(classes.numpy()[sure], shares.argmax(axis=0)[sure])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_nothing_beyond_the_box_is_read(seed):
    patch_map = draw(
        seed=seed, mirror_axes=(0, 1, 2), shift_mm=4, elastic_mm=3, elastic_spacing_mm=4, scale=(0.5, 2)
    )
    centre = np.random.default_rng(seed).uniform(-5, 20, 3)
    first, extents = patch_map.box(centre)
    at = offsets_of(patch_map) + centre[:, None, None, None] - np.array(first)[:, None, None, None]
    assert at.min() >= 0
    assert (at.max(axis=(1, 2, 3)) <= np.array(extents) - 1).all()
    assert (np.array(extents) - np.ptp(at, axis=(1, 2, 3)) <= 9).all(), "and not much more than is needed"


def test_image_and_labels_move_together():
    i, j, k = np.indices((21, 24, 13))
    blob = ((i - 8) ** 2 / 9 + (j - 13) ** 2 / 16 + (k - 5) ** 2 / 4 <= 1).astype(np.uint8)
    for seed in range(10):
        patch, classes = read(
            draw((13, 16, 9), seed, mirror_axes=(0, 1, 2)), np.array([8.0, 12.5, 5.0]), blob.astype(np.float32), blob
        )  # fmt: skip
        assert 20 < classes.sum() < 400
        image_centre = ndimage.center_of_mass(patch[0].numpy())
        assert np.allclose(image_centre, ndimage.center_of_mass(classes.numpy()), atol=0.25)


def test_each_axis_is_scaled_along_itself():
    """A body long along j stays long along j, and twice the scale makes every side twice as long."""
    body = np.zeros((31, 33, 29), np.uint8)
    body[14:17, 11:22, 12:17] = 1
    _, classes = read(
        draw((30, 32, 28), **{**STILL, "scale": (2, 2)}), np.array([15.0, 16.0, 14.0]), body.astype(np.float32), body
    )  # fmt: skip
    sides = [len(set(found)) for found in np.nonzero(classes.numpy())]
    assert np.allclose(sides, [6, 22, 10], atol=1)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_rotation_keeps_distances_in_mm_on_anisotropic_voxels(seed):
    controls = draw(
        (2, 2, 2), seed, elastic_mm=0, scale=(1, 1), axis_scale=0, mirror_axes=(1,), rotation_degrees=60
    ).controls
    points = controls.reshape(3, -1).T * SPACING
    original = np.array(list(product((-0.5, 0.5), repeat=3))) * SPACING
    for first, second in product(range(8), repeat=2):
        before = np.linalg.norm(original[first] - original[second])
        assert np.allclose(np.linalg.norm(points[first] - points[second]), before)


def test_without_spatial_change_a_patch_is_a_cut_mirrored_along_the_named_axis_only():
    image = np.random.default_rng(0).normal(size=(11, 14, 9)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 5, (11, 14, 9)).astype(np.uint8)
    seen = set()
    for seed in range(20):
        patch_map = draw((5, 6, 7), seed, spatial_probability=0, mirror_axes=(1,))
        patch, classes = read(patch_map, np.array([5.0, 6.5, 4.0]), image, labels)
        cut, cut_labels = image[3:8, 4:10, 1:8], labels[3:8, 4:10, 1:8]
        flipped = bool(patch_map.flips[1])
        assert np.array_equal(patch[0], cut[:, ::-1] if flipped else cut)
        assert np.array_equal(classes, cut_labels[:, ::-1] if flipped else cut_labels)
        assert not patch_map.flips[0]
        assert not patch_map.flips[2]
        seen.add(flipped)
    assert seen == {True, False}


def test_a_shift_moves_the_patch_by_millimetres_along_each_axis():
    maps = [draw((5, 5, 5), seed, **STILL, shift_mm=8) for seed in range(200)]
    shifts_mm = np.array([patch_map.controls.mean(axis=(1, 2, 3)) for patch_map in maps]) * SPACING
    assert np.abs(shifts_mm).max() <= 8
    assert (np.abs(shifts_mm).max(axis=0) > 7).all(), "along every axis"
    assert np.allclose(draw((5, 5, 5), 3).controls.mean(axis=(1, 2, 3)), 0, atol=2)


@pytest.mark.parametrize("seed", range(12))
def test_a_slice_is_never_mixed_with_its_neighbours(seed):
    """Each slice holds its own number; a 2D patch then holds one number only, a whole one."""
    image = np.broadcast_to(np.arange(9, dtype=np.float32), (21, 24, 9)).copy()
    labels = image.astype(np.uint8)
    patch_map = draw((11, 12, 1), seed, rotation_degrees=40, mirror_axes=(0, 1, 2), elastic_mm=3, shift_mm=5)
    assert patch_map.box(np.array([10.0, 12.5, 4.0]))[1][2] == 1
    patch, classes = read(patch_map, np.array([10.0, 12.5, 4.0]), image, labels)
    assert patch.shape == (1, 11, 12, 1)
    number = float(patch[0, 0, 0, 0])
    assert (patch == number).all()
    assert number == round(number)
    assert (classes == int(number)).all()


def test_2d_patches_turn_in_their_plane():
    image = np.zeros((31, 31, 3), np.float32)
    image[15, :, 1] = 1
    quarter = PatchMap((31, 31, 1), np.stack([
        np.array([[[-15.0], [15.0]], [[-15.0], [15.0]]]),
        np.array([[[-15.0], [-15.0]], [[15.0], [15.0]]]),
        np.zeros((2, 2, 1)),
    ]))  # fmt: skip
    patch, _ = read(quarter, np.array([15.0, 15.0, 1.0]), image, image.astype(np.uint8))
    assert np.allclose(patch[0, :, 15, 0], 1, atol=1e-4)
    assert patch.sum() == pytest.approx(31, abs=1e-3)
