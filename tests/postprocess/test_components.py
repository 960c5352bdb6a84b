import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from volseg.geometry import Grid
from volseg.postprocess.components import KeepLargest, RemoveSmall
from volseg.volume import LabelMap

SHAPE = (9, 10, 11)
GRID = Grid.from_spacing(SHAPE, (0.7, 0.9, 2.5))
VOXEL_MM3 = 0.7 * 0.9 * 2.5


def make_map() -> LabelMap:
    """Label 1: 12, 3 and 1 voxels; label 4: 4 voxels and 2 voxels."""
    array = np.zeros(SHAPE, np.uint16)
    array[0:2, 0:3, 0:2] = 1
    array[4, 4, 4:7] = 1
    array[8, 9, 10] = 1
    array[2:4, 0:2, 6] = 4
    array[7, 0:2, 0] = 4
    return LabelMap(array, GRID)


def voxels(label_map: LabelMap) -> tuple[int, int]:
    return int((label_map.array == 1).sum()), int((label_map.array == 4).sum())


def test_keep_largest_of_every_label():
    result = KeepLargest()(make_map())
    assert voxels(result) == (12, 4)
    assert (result.array[0:2, 0:3, 0:2] == 1).all()
    assert (result.array[2:4, 0:2, 6] == 4).all()


def test_keep_largest_of_chosen_labels():
    assert voxels(KeepLargest(labels=(4, 7))(make_map())) == (16, 4)
    assert voxels(KeepLargest(labels=())(make_map())) == (16, 6)


def test_keep_largest_of_labels_taken_as_one():
    """The small label 4 beside the small label 1 outweighs the largest piece of label 1 alone."""
    array = np.zeros(SHAPE, np.uint16)
    array[0:3, 0:2, 0] = 1
    array[5:7, 5, 5:7] = 1
    array[5:7, 6, 5:7] = 4
    array[8, 9, 10] = 4
    result = KeepLargest(united=True)(LabelMap(array, GRID)).array
    assert voxels(LabelMap(result, GRID)) == (4, 4)
    assert (result[5:7, 5:7, 5:7] == array[5:7, 5:7, 5:7]).all()
    assert voxels(KeepLargest(united=True, labels=(1,))(LabelMap(array, GRID))) == (6, 5)
    assert voxels(KeepLargest()(LabelMap(array, GRID))) == (6, 4)
    empty = LabelMap(np.zeros(SHAPE, np.uint8), GRID)
    assert not KeepLargest(united=True)(empty).array.any()


def test_voxels_that_share_only_a_corner_are_connected():
    array = np.zeros(SHAPE, np.uint8)
    array[3, 3, 3] = array[4, 4, 4] = array[5, 5, 5] = 1
    array[8, 0, 0:2] = 1
    result = KeepLargest()(LabelMap(array, GRID)).array
    assert result[5, 5, 5] == 1
    assert result.sum() == 3


def test_a_tie_goes_to_the_first_voxel_in_the_array():
    array = np.zeros(SHAPE, np.uint8)
    array[6, 1, 1:3] = 1
    array[2, 8, 8:10] = 1
    np.testing.assert_array_equal(
        np.argwhere(KeepLargest()(LabelMap(array, GRID)).array), [[2, 8, 8], [2, 8, 9]]
    )


@pytest.mark.parametrize(("threshold", "wanted"), [(1, (16, 6)), (2, (15, 6)), (3, (15, 4)), (5, (12, 0))])
def test_remove_small_counts_cubic_millimetres(threshold, wanted):
    assert voxels(RemoveSmall(min_volume_mm3=threshold * VOXEL_MM3)(make_map())) == wanted
    only_four = RemoveSmall(min_volume_mm3=threshold * VOXEL_MM3, labels=(4,))(make_map())
    assert voxels(only_four) == (16, wanted[1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_working_in_boxes_equals_working_on_the_whole_map(seed):
    array = np.random.default_rng(seed).choice([0, 0, 0, 0, 1, 2], SHAPE).astype(np.uint8)
    wanted = np.zeros_like(array)
    for value in (1, 2):
        components, count = ndimage.label(array == value, np.ones((3, 3, 3)))
        sizes = ndimage.sum_labels(components > 0, components, range(1, count + 1))
        if count:
            wanted[components == 1 + np.argmax(sizes)] = value
    np.testing.assert_array_equal(KeepLargest()(LabelMap(array, GRID)).array, wanted)


def test_impossible_parameters_are_refused():
    for fields in ({"labels": (0,)}, {"labels": ("liver",)}):
        with pytest.raises(ValidationError):
            KeepLargest.model_validate(fields)
    with pytest.raises(ValidationError):
        RemoveSmall(min_volume_mm3=0)
