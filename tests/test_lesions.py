from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from volseg.errors import InputError
from volseg.metrics import match_lesions

SPACING = (0.7, 0.9, 2.5)
SHEARED = np.array([[0.6, 0.1, 0.3], [-0.2, 0.9, 1.1], [0.1, -0.3, 2.2]])
SHAPE = (9, 10, 11)

masks = st.tuples(arrays(bool, (5, 6, 7)), st.integers(0, 2**32 - 1)).map(
    lambda drawn: drawn[0] & (np.random.default_rng(drawn[1]).random((5, 6, 7)) < 0.35)
)


def empty() -> np.ndarray:
    return np.zeros(SHAPE, bool)


def flood(mask: np.ndarray) -> list[set[tuple[int, int, int]]]:
    """The 26-connected components by first voxel, by hand."""
    left = {tuple(int(x) for x in index) for index in np.argwhere(mask)}
    components = []
    while left:
        todo, component = [min(left)], set()
        while todo:
            voxel = todo.pop()
            if voxel in left:
                left.remove(voxel)
                component.add(voxel)
                todo += [
                    tuple(a + b for a, b in zip(voxel, step, strict=True))
                    for step in product((-1, 0, 1), repeat=3)
                ]
        components.append(component)
    return components


def matching(own: list[set], others: list[set], min_iou: float) -> list[bool]:
    """Rules 1 and 2 by sets of voxels."""
    result = []
    for component in own:
        pieces = [other for other in others if 2 * len(component & other) >= len(other)]
        candidates = [*others, set().union(*pieces)]
        result.append(
            any(component & c and len(component & c) >= min_iou * len(component | c) for c in candidates)
        )
    return result


@settings(deadline=None, max_examples=50)
@given(masks, masks, st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([np.diag(SPACING), SHEARED]))
def test_matches_are_those_of_sets_of_voxels(prediction, reference, min_iou, linear) -> None:
    found, true = flood(prediction), flood(reference)
    right, hit = matching(found, true, min_iou), matching(true, found, min_iou)

    def with_pieces(own, others, own_matched, others_matched):
        return [
            matched
            or any(m and 2 * len(c & o) >= len(c) for o, m in zip(others, others_matched, strict=True))
            for c, matched in zip(own, own_matched, strict=True)
        ]

    match = match_lesions(prediction, reference, spacing_mm=linear, min_iou=min_iou)
    assert [lesion.matched for lesion in match.reference] == with_pieces(true, found, hit, right)
    assert [lesion.matched for lesion in match.predicted] == with_pieces(found, true, right, hit)
    voxel_ml = abs(np.linalg.det(linear)) / 1000
    assert [lesion.volume_ml for lesion in match.reference] == pytest.approx(
        [len(c) * voxel_ml for c in true]
    )


@settings(deadline=None, max_examples=20)
@given(masks, masks)
def test_swapping_the_masks_swaps_recall_and_precision(prediction, reference) -> None:
    one, other = (
        match_lesions(*pair, spacing_mm=SPACING)
        for pair in ((prediction, reference), (reference, prediction))
    )
    assert (one.recall, one.precision) == (other.precision, other.recall)
    assert one.f1 == pytest.approx(other.f1)


def test_one_is_found_one_is_missed_and_one_is_imagined() -> None:
    reference, prediction = empty(), empty()
    reference[1:4, 1:4, 1:4] = prediction[1:4, 1:4, 2:5] = True
    reference[7, 7, 7] = True
    prediction[7:9, 1:3, 8:10] = True
    match = match_lesions(prediction, reference, spacing_mm=SPACING)
    assert [(lesion.volume_ml, lesion.matched) for lesion in match.reference] == [
        (pytest.approx(27 * 1.575e-3), True),
        (pytest.approx(1.575e-3), False),
    ]
    assert (match.recall, match.precision, match.f1) == (0.5, 0.5, 0.5)


def test_a_lesion_marked_in_pieces_is_found_and_every_piece_is_real() -> None:
    reference, prediction = empty(), empty()
    reference[1:3, 1:3, 0:11] = True
    prediction[1:3, 1:3, [0, 2, 4, 10]] = True
    match = match_lesions(prediction, reference, spacing_mm=SPACING, min_iou=0.3)
    assert [lesion.matched for lesion in match.predicted] == [True] * 4, "1/11 each, 4/11 together"
    assert match.recall == 1
    assert match_lesions(prediction, reference, spacing_mm=SPACING, min_iou=0.4).recall == 0


def test_lesions_marked_as_one_are_found() -> None:
    reference, prediction = empty(), empty()
    reference[1:6, 1:6, 1:4] = reference[1, 1, 6] = True
    prediction[1:6, 1:6, 1:7] = True
    match = match_lesions(prediction, reference, spacing_mm=SPACING)
    assert [lesion.matched for lesion in match.reference] == [True, True], (
        "the satellite lies in the right mark"
    )
    assert match.precision == 1


def test_a_mark_over_everything_finds_nothing() -> None:
    reference = empty()
    reference[2, 2, 2] = reference[6, 6, 6:8] = True
    match = match_lesions(np.ones(SHAPE, bool), reference, spacing_mm=SPACING)
    assert (match.recall, match.precision) == (0, 0)
    assert match_lesions(np.ones(SHAPE, bool), reference, spacing_mm=SPACING, min_iou=0).recall == 1


def test_a_touching_neighbour_does_not_spoil_a_perfect_mark() -> None:
    reference, prediction = empty(), empty()
    reference[1:4, 1:4, 1:4] = True
    prediction[1:3, 1:4, 1:4] = True
    prediction[4:9, 0:10, 0:11] = True
    reference[4, 4, 4] = True
    match = match_lesions(prediction, reference, spacing_mm=SPACING)
    assert [lesion.matched for lesion in match.predicted] == [True, False]
    assert match.recall == 1


def test_empty_masks_are_defined() -> None:
    some = empty()
    some[3, 4, 5] = True
    for prediction, reference, expected in (
        (empty(), empty(), (1, 1, 1)),
        (empty(), some, (0, 1, 0)),
        (some, empty(), (1, 0, 0)),
    ):
        match = match_lesions(prediction, reference, spacing_mm=SPACING)
        assert (match.recall, match.precision, match.f1) == expected


def test_an_impossible_overlap_is_refused() -> None:
    for least in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="least IoU"):
            match_lesions(empty(), empty(), spacing_mm=SPACING, min_iou=least)
