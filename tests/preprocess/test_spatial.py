import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from volseg.errors import IntensityError
from volseg.geometry import Grid
from volseg.preprocess.spatial import CropNonzero, Orient, Respace
from volseg.volume import Volume

SHAPE = (5, 6, 7)


def make_volume(
    shape=SHAPE, spacing=(0.7, 0.9, 2.5), angles=(12, -20, 130), flips=(-1, 1, 1), shear=0.1
) -> Volume:
    sheared = np.eye(3)
    sheared[1, 2] = shear
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = rotation @ sheared @ np.diag(spacing) @ np.diag(flips)
    affine[:3, 3] = (-31, 17, 44)
    array = np.random.default_rng(0).integers(-900, 900, (2, *shape)).astype(np.int16)
    return Volume(array, Grid(shape, affine))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRP", "ILA"])
def test_orient_moves_no_voxel_in_the_world(codes):
    volume = make_volume()
    oriented = Orient(codes=codes)(volume)
    assert oriented.grid.axis_codes == codes
    assert oriented.array.dtype == np.int16
    assert oriented.array.flags.c_contiguous
    for index in np.ndindex(*oriented.grid.shape):
        there = volume.grid.world_to_index(oriented.grid.index_to_world(index))
        np.testing.assert_allclose(there, np.rint(there), atol=1e-9)
        np.testing.assert_array_equal(oriented.array[:, *index], volume.array[:, *np.rint(there).astype(int)])


def test_orient_does_nothing_twice():
    once = Orient()(make_volume())
    assert Orient()(once) is once


def test_orient_refuses_impossible_codes():
    for codes in ("RAL", "XYZ", "ras", "RA", ""):
        with pytest.raises(ValidationError, match="no orientation"):
            Orient(codes=codes)


@pytest.mark.parametrize("order", ["linear", "cubic"])
def test_respace_keeps_directions_and_box(order):
    volume = make_volume((20, 22, 12), shear=0)
    respaced = Respace(spacing_mm=(1.0, 0.5, 1.25), order=order)(volume)
    np.testing.assert_allclose(respaced.grid.spacing_mm, (1.0, 0.5, 1.25))
    assert respaced.grid.shape == (14, 40, 24)
    directions = [grid.affine[:3, :3] / grid.spacing_mm for grid in (volume.grid, respaced.grid)]
    np.testing.assert_allclose(directions[0], directions[1], atol=1e-12)
    np.testing.assert_allclose(
        volume.grid.index_to_world([-0.5] * 3), respaced.grid.index_to_world([-0.5] * 3), atol=1e-9
    )
    assert respaced.array.dtype == np.float32
    assert np.isfinite(respaced.array).all()


@pytest.mark.parametrize("shear", [0, 0.4])
def test_respace_keeps_a_bright_blob_in_place(shear):
    volume = make_volume((20, 22, 12), shear=shear)
    centre = volume.grid.index_to_world([12.0, 7.0, 5.0])
    points = volume.grid.index_to_world(
        np.stack(np.meshgrid(*map(np.arange, volume.grid.shape), indexing="ij"), -1)
    )
    blob = np.exp(-np.square((points - centre) / 2.5).sum(axis=-1))
    respaced = Respace(spacing_mm=(0.8, 1.1, 1.3))(volume.with_array(blob[np.newaxis]))
    world = respaced.grid.index_to_world(np.argwhere(respaced.array[0] > 0.2))
    weights = respaced.array[0][respaced.array[0] > 0.2]
    np.testing.assert_allclose(np.average(world, axis=0, weights=weights), centre, atol=0.1)


@pytest.mark.parametrize("spacing", [(0.7, 0.9, 1.25), (0.7, 0.9, 2.5 * np.hypot(1, 0.3))])
def test_respace_straightens_a_tilted_grid_and_covers_it(spacing):
    volume = make_volume((20, 22, 12), shear=0.3)
    respaced = Respace(spacing_mm=spacing)(volume)
    assert respaced.grid.shear_degrees < 1e-6
    np.testing.assert_allclose(respaced.grid.spacing_mm, spacing)
    places = respaced.grid.world_to_index(volume.grid.corners())
    assert (places > -0.5 - 1e-9).all()
    assert (places < np.array(respaced.grid.shape) - 0.5 + 1e-9).all()


def test_respace_invents_no_edge_beyond_a_tilted_volume():
    """Border values go on; a constant below them would look like the end of the body."""
    volume = make_volume((20, 22, 12), shear=0.3)
    rows = 500.0 + 10 * np.arange(20).reshape(1, 20, 1, 1)
    array = np.broadcast_to(rows, (2, 20, 22, 12)).copy()
    array[:, 10, 11, 6] = -900
    respaced = Respace(spacing_mm=(0.7, 0.9, 2.0))(volume.with_array(array))
    places = volume.grid.world_to_index(
        respaced.grid.index_to_world(np.moveaxis(np.indices(respaced.grid.shape), 0, -1))
    )
    beyond = (places[..., 1] < -1) | (places[..., 1] > 22)
    assert beyond.any()
    expected = 500 + 10 * np.clip(places[..., 0], 0, 19)
    np.testing.assert_allclose(respaced.array[0][beyond], expected[beyond], atol=0.1)


def test_respace_is_free_at_the_same_spacing():
    volume = make_volume(shear=0)
    first, second, third = volume.grid.spacing_mm
    assert Respace(spacing_mm=(first + 4e-4, second, third - 4e-4))(volume) is volume
    assert Respace(spacing_mm=(first + 3e-3, second, third))(volume) is not volume


def test_crop_keeps_the_box_of_any_channel_and_its_place():
    volume = make_volume()
    array = np.zeros((2, *SHAPE), np.int16)
    array[0, 2, 1, 3], array[1, 3, 4, 5] = -5, 7
    cropped = CropNonzero()(volume.with_array(array))
    assert cropped.grid.shape == (2, 4, 3)
    np.testing.assert_array_equal(cropped.array, array[:, 2:4, 1:5, 3:6])
    np.testing.assert_allclose(cropped.grid.index_to_world([1, 3, 2]), volume.grid.index_to_world([3, 4, 5]))
    assert CropNonzero(margin_voxels=1)(volume.with_array(array)).grid.shape == (4, 6, 5)
    assert CropNonzero(margin_voxels=9)(volume.with_array(array)).grid.shape == SHAPE


def test_crop_refuses_an_empty_scan():
    with pytest.raises(IntensityError, match="every voxel is zero"):
        CropNonzero()(make_volume().with_array(np.zeros((1, *SHAPE))))
