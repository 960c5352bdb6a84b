import numpy as np
from scipy import ndimage

from volseg.train.samples.places import (
    COMPONENTS_PER_LABEL,
    VOXELS_PER_COMPONENT,
    VOXELS_PER_LABEL,
    find_places,
    places_from_arrays,
    places_to_arrays,
)


def test_places_lie_on_their_label_and_components_on_one_component_each():
    rng = np.random.default_rng(0)
    indices = (rng.random((11, 14, 9)) > 0.93).astype(np.uint8) * rng.choice([1, 3], (11, 14, 9)).astype(
        np.uint8
    )
    places = find_places(indices)
    assert sorted(places) == [1, 3]
    for label, found in places.items():
        components, count = ndimage.label(indices == label, np.ones((3, 3, 3)))
        assert found.component_count == count
        numbers = [set(components[tuple(found.component(n).T)]) for n in range(count)]
        assert all(len(one) == 1 for one in numbers)
        assert set.union(*numbers) == set(range(1, count + 1))
        assert len(found.voxels) == (indices == label).sum()
        assert (indices[tuple(found.voxels.T)] == label).all()


def test_a_diagonal_touch_joins_and_the_largest_comes_first():
    indices = np.zeros((9, 9, 9), np.uint8)
    indices[1, 1, 1] = indices[2, 2, 2] = 1
    indices[5:8, 5:8, 5:8] = 1
    found = find_places(indices)[1]
    assert [len(found.component(n)) for n in range(2)] == [VOXELS_PER_COMPONENT, 2]


def test_thousands_of_components_do_not_explode_and_all_sizes_stay():
    indices = np.zeros((40, 40, 40), np.uint8)
    indices[::2, ::2, ::2] = 1
    indices[0, 0, :5] = 1
    found = find_places(indices)[1]
    assert found.component_count == COMPONENTS_PER_LABEL
    assert len(found.component(0)) == 5
    assert len(found.voxels) <= VOXELS_PER_LABEL
    assert np.ptp(found.voxels, axis=0).min() >= 36, "spread over the whole label"


def test_places_survive_a_file():
    indices = np.zeros((5, 6, 7), np.uint8)
    indices[1:3, 2:4, 3:5], indices[4, 5, 6] = 2, 2
    again = places_from_arrays(places_to_arrays(find_places(indices)))
    assert list(again) == [2]
    assert np.array_equal(again[2].component(1), [[4, 5, 6]])
    assert find_places(np.zeros((5, 6, 7), np.uint8)) == {}
