import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from volseg.geometry import Grid
from volseg.postprocess.morphology import Closing, Opening
from volseg.volume import LabelMap

SHAPE = (14, 15, 12)
SPACING = (0.7, 0.9, 2.5)
GRID = Grid.from_spacing(SHAPE, SPACING)
SHEARED = Grid(SHAPE, np.array([[0.7, 0, 0.6, 3], [0, 0.9, 0.3, 4], [0, 0, 2.5, 5], [0, 0, 0, 1.0]]))


def ball(grid: Grid, radius_mm: float) -> np.ndarray:
    offsets = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3, indexing="ij"), axis=-1)
    return np.linalg.norm(offsets @ grid.affine[:3, :3].T, axis=-1) <= radius_mm + 1e-6


@pytest.mark.parametrize("grid", [GRID, SHEARED], ids=["upright", "sheared"])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.6, 0.9]), st.floats(0.5, 2.8))
def test_one_label_agrees_with_scipy(grid, seed, quantile, radius_mm):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1)
    mask = noise >= np.quantile(noise, quantile)
    label_map, structure = LabelMap(np.where(mask, 3, 0).astype(np.uint8), grid), ball(grid, radius_mm)
    eroded = ndimage.binary_erosion(mask, structure, border_value=1)
    opened = ndimage.binary_dilation(eroded, structure)
    np.testing.assert_array_equal(Opening(radius_mm=radius_mm)(label_map).array == 3, opened)
    closed = ndimage.binary_closing(np.pad(mask, 5), structure)[5:-5, 5:-5, 5:-5]
    np.testing.assert_array_equal(Closing(radius_mm=radius_mm)(label_map).array == 3, closed)


def test_the_radius_is_in_millimetres_along_every_axis():
    array = np.ones(SHAPE, np.uint8)
    array[4:6], array[:, 7:9], array[:, :, 5:6] = 0, 0, 0
    closed = Closing(radius_mm=1.0)(LabelMap(array, GRID)).array
    assert closed[4:6, 2, 2].all(), "a cleft of two voxels of 0.7 mm is closed by a ball of radius 1 mm"
    assert closed[2, 7:9, 2].all(), "a cleft of two voxels of 0.9 mm is closed"
    assert not closed[:, :, 5].any(), "a ball of 1 mm does not reach the next slice at 2.5 mm"


def test_opening_cuts_a_bridge_and_keeps_the_bodies():
    array = np.zeros(SHAPE, np.uint8)
    array[:5], array[9:] = 2, 2
    wanted = array.copy()
    array[5:9, 7, 6] = 2
    wanted[[5, 8], 7, 6] = 2  # a ball that stands in a body reaches the first voxel of the bridge
    np.testing.assert_array_equal(Opening(radius_mm=1.0)(LabelMap(array, GRID)).array, wanted)


def test_a_body_cut_by_the_border_is_not_worn_away_there():
    array = np.zeros(SHAPE, np.uint8)
    array[:7, :8, :6] = 1
    for step in (Opening(radius_mm=1.5), Closing(radius_mm=2.6)):
        result = step(LabelMap(array, GRID)).array
        assert result[0, 0, 0] == 1
        assert (result[:5, :6, :4] == 1).all()


def test_closing_adds_nothing_between_a_label_and_the_border():
    array = np.zeros(SHAPE, np.uint8)
    array[1:8, 2:12, 1:11] = 1
    np.testing.assert_array_equal(Closing(radius_mm=5)(LabelMap(array, GRID)).array, array)


def test_closing_never_overwrites_another_label():
    array = np.ones(SHAPE, np.uint8)
    array[6] = 0
    array[6, 7, 3] = 5
    closed = Closing(radius_mm=1.0)(LabelMap(array, GRID)).array
    assert closed[6, 7, 3] == 5
    assert closed[6, 7, 4] == closed[6, 6, 3] == 1
    assert np.count_nonzero(closed == 5) == 1


def test_a_radius_below_every_spacing_changes_nothing():
    array = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    for step in (Opening(radius_mm=0.6), Closing(radius_mm=0.6)):
        np.testing.assert_array_equal(step(LabelMap(array, GRID)).array, array)
