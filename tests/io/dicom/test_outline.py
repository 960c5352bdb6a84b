"""Masks as outlines: exact there and back, whatever their holes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from volseg.geometry import FloatArray
from volseg.io.dicom.outline import fill, trace

masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def signed_area(polygon: FloatArray) -> float:
    following = np.roll(polygon, -1, axis=0)
    return float(np.sum(polygon[:, 0] * following[:, 1] - polygon[:, 1] * following[:, 0]) / 2)


@settings(max_examples=150, deadline=None)
@given(masks)
def test_even_odd_filling_gives_the_mask_again(mask: np.ndarray):
    np.testing.assert_array_equal(fill(trace(mask), mask.shape), mask)


@settings(max_examples=150, deadline=None)
@given(masks)
def test_polygons_are_disjoint_and_hold_as_many_pixels_as_their_area(mask: np.ndarray):
    parts = [fill([polygon], mask.shape) for polygon in trace(mask)]
    np.testing.assert_array_equal(np.sum(parts, axis=0, initial=0), mask.astype(int))
    assert [int(part.sum()) for part in parts] == pytest.approx([abs(signed_area(p)) for p in trace(mask)])


def test_one_pixel_is_a_square_around_it():
    mask = np.zeros((5, 6), bool)
    mask[3, 1] = True
    (square,) = trace(mask)
    assert sorted(map(tuple, square.tolist())) == [(2.5, 0.5), (2.5, 1.5), (3.5, 0.5), (3.5, 1.5)]


def test_nothing_has_no_outline():
    assert trace(np.zeros((5, 6), bool)) == []
    assert not fill([], (5, 6)).any()


def test_a_ring_in_a_ring_is_two_polygons():
    mask = np.ones((9, 10), bool)
    mask[1:8, 1:9] = False
    mask[2:7, 2:8] = True
    mask[4, 4:6] = False
    polygons = trace(mask)
    assert len(polygons) == 2
    np.testing.assert_array_equal(fill(polygons, mask.shape), mask)


def test_pixels_that_touch_at_a_corner_are_two_polygons():
    assert len(trace(np.eye(2, dtype=bool))) == len(trace(~np.eye(2, dtype=bool))) == 2


def test_outlines_of_others_may_be_slanted_and_reach_beyond_the_image():
    diamond = np.array([[2.0, -3.2], [7.2, 2.0], [2.0, 7.2], [-3.2, 2.0]])
    i, j = np.mgrid[:5, :6]
    np.testing.assert_array_equal(fill([diamond], (5, 6)), abs(i - 2) + abs(j - 2) < 5.2)
