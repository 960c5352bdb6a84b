import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from volseg.geometry import Grid
from volseg.postprocess.holes import FillHoles
from volseg.volume import LabelMap

SHAPE = (9, 10, 11)
GRID = Grid.from_spacing(SHAPE, (0.7, 0.9, 2.5))


def filled(array: np.ndarray) -> np.ndarray:
    return FillHoles()(LabelMap(array, GRID)).array


def liver() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[1:8, 1:9, 1:10] = 1
    return array


def test_a_cavity_is_filled_and_a_lesion_is_not():
    array = liver()
    wanted = array.copy()
    array[4, 4, 4:6] = 0
    array[3:5, 6:8, 6:8] = wanted[3:5, 6:8, 6:8] = 2
    np.testing.assert_array_equal(filled(array), wanted)


def test_a_cavity_in_a_lesion_becomes_lesion_and_a_gap_beside_it_liver():
    array = liver()
    array[2:7, 2:7, 2:7] = 2
    wanted = array.copy()
    array[4, 4, 4] = array[4, 7, 4] = 0
    np.testing.assert_array_equal(filled(array), wanted)


def test_open_cavities_are_no_holes():
    array = liver()
    array[4, 4, :6] = 0
    np.testing.assert_array_equal(filled(array), array)
    at_border = np.ones(SHAPE, np.uint8)
    at_border[0, 4, 4] = 0
    np.testing.assert_array_equal(filled(at_border), at_border)


def test_a_way_out_over_an_edge_is_no_way_out():
    array = liver()
    array[1, 4, 4] = array[2, 5, 4] = 0
    wanted = array.copy()
    wanted[2, 5, 4] = 1
    np.testing.assert_array_equal(filled(array), wanted)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_one_label_agrees_with_scipy(seed):
    array = np.random.default_rng(seed).choice([0, 3, 3, 3], SHAPE).astype(np.uint8)
    array[:2] = 0
    np.testing.assert_array_equal(filled(array), 3 * ndimage.binary_fill_holes(array == 3))
