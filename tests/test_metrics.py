from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from volseg.errors import GeometryError, InputError
from volseg.metrics import (
    boundary_f1,
    dice,
    hausdorff95_mm,
    iou,
    match_surfaces,
    mean_iou,
    pixel_accuracy,
    surface_dice,
    volume_error_ml,
)

SPACING = (0.7, 0.9, 2.5)
SHEARED = np.array([[0.6, 0.1, 0.3], [-0.2, 0.9, 1.1], [0.1, -0.3, 2.2]])
SHAPE = (5, 6, 7)

masks = arrays(bool, SHAPE)


def box(start: tuple[int, int, int], stop: tuple[int, int, int], shape: tuple[int, int, int] = (12, 13, 14)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


def border_by_hand(mask, linear):
    points = []
    for index in np.argwhere(mask):
        for axis, step in product(range(3), (-1, 1)):
            other = index.copy()
            other[axis] += step
            outside = other[axis] < 0 or other[axis] >= mask.shape[axis]
            if outside or not mask[tuple(other)]:
                points.append(linear @ index)
                break
    return np.array(points)


def sphere(shape, linear, centre_mm, radius_mm):
    points = np.moveaxis(np.indices(shape), 0, -1) @ np.asarray(linear).T
    middle = np.asarray(linear) @ ((np.array(shape) - 1) / 2)
    return np.linalg.norm(points - middle - centre_mm, axis=-1) <= radius_mm


@settings(deadline=None, max_examples=40)
@given(masks, masks, st.sampled_from([np.diag(SPACING), SHEARED]))
def test_hausdorff95_is_the_brute_force_distance_in_mm(first, second, linear) -> None:
    if not first.any() or not second.any():
        return
    distances = cdist(border_by_hand(first, linear), border_by_hand(second, linear))
    expected = max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))
    assert hausdorff95_mm(first, second, spacing_mm=linear) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(masks, masks)
def test_overlap_measures_agree_with_counting_voxels(first, second) -> None:
    both = sum(bool(a and b) for a, b in zip(first.flat, second.flat, strict=True))
    either = sum(bool(a or b) for a, b in zip(first.flat, second.flat, strict=True))
    assert iou(first, second) == (both / either if either else 1.0)
    assert dice(first, second) == pytest.approx(2 * iou(first, second) / (1 + iou(first, second)))
    expected_ml = (int(first.sum()) - int(second.sum())) * 0.7 * 0.9 * 2.5 / 1000
    assert volume_error_ml(first, second, spacing_mm=SPACING) == pytest.approx(expected_ml)


@settings(deadline=None, max_examples=40)
@given(masks, masks, st.sampled_from(list(permutations(range(3)))), st.sampled_from([0.0, 0.8, 2.0]))
def test_distances_are_symmetric_and_follow_the_axes(first, second, order, tolerance_mm) -> None:
    turned = [np.transpose(mask, order) for mask in (first, second)]
    spacing = tuple(SPACING[axis] for axis in order)
    nsd = surface_dice(first, second, spacing_mm=SPACING, tolerance_mm=tolerance_mm)
    assert nsd == pytest.approx(surface_dice(second, first, spacing_mm=SPACING, tolerance_mm=tolerance_mm))
    assert nsd == pytest.approx(surface_dice(*turned, spacing_mm=spacing, tolerance_mm=tolerance_mm))
    hd95 = hausdorff95_mm(first, second, spacing_mm=SPACING)
    assert hd95 == pytest.approx(hausdorff95_mm(second, first, spacing_mm=SPACING))
    assert hd95 == pytest.approx(hausdorff95_mm(*turned, spacing_mm=spacing))


@settings(deadline=None, max_examples=30)
@given(
    arrays(np.uint8, SHAPE, elements=st.integers(0, 3)), arrays(np.uint16, SHAPE, elements=st.integers(0, 3))
)
def test_accuracy_and_mean_iou_agree_with_counting_voxels(first, second) -> None:
    pairs = list(zip(first.flat, second.flat, strict=True))
    assert pixel_accuracy(first, second) == sum(a == b for a, b in pairs) / len(pairs)
    expected = []
    for value in (1, 3):
        union = sum(a == value or b == value for a, b in pairs)
        expected.append(sum(a == b == value for a, b in pairs) / union if union else 1)
    assert mean_iou(first, second, values=(1, 3)) == pytest.approx(sum(expected) / 2)


@settings(deadline=None, max_examples=30)
@given(masks, masks, st.sampled_from([np.diag(SPACING), SHEARED]), st.sampled_from([0.0, 0.8, 2.0]))
def test_boundary_f1_is_the_harmonic_mean_of_its_own_brute_force(first, second, linear, tolerance_mm) -> None:
    """Elements are found box by box, distances are all computed; areas come from the code that is checked on spheres."""
    if not first.any() or not second.any():
        return
    match = match_surfaces(first, second, spacing_mm=linear, tolerance_mm=tolerance_mm)
    points = []
    for mask in (first, second):
        padded = np.pad(mask, 1)
        corners = product(*(range(extent - 1) for extent in padded.shape))
        mixed = [c for c in corners if 0 < padded[tuple(slice(x, x + 2) for x in c)].sum() < 8]
        points.append(np.array(mixed) @ linear.T)
    near = cdist(*points) <= tolerance_mm + 1e-4
    if near.any(axis=1).all():
        assert match.predicted_right_mm2 == pytest.approx(match.predicted_mm2)
    else:
        assert match.predicted_right_mm2 < match.predicted_mm2
    assert (match.predicted_right_mm2 > 0) == near.any()
    precision = match.predicted_right_mm2 / match.predicted_mm2
    recall = match.reference_found_mm2 / match.reference_mm2
    expected = 2 / (1 / precision + 1 / recall) if precision and recall else 0
    assert match.f1 == pytest.approx(expected)
    assert boundary_f1(first, second, spacing_mm=linear, tolerance_mm=tolerance_mm) == match.f1
    swapped = match_surfaces(second, first, spacing_mm=linear, tolerance_mm=tolerance_mm)
    assert swapped.predicted_right_mm2 == pytest.approx(match.reference_found_mm2)


def test_boundary_f1_is_lowered_by_a_ragged_prediction_more_than_surface_dice() -> None:
    reference = box((3, 3, 3), (5, 5, 5))
    prediction = reference | box((7, 1, 1), (11, 12, 13))
    match = match_surfaces(prediction, reference, spacing_mm=SPACING, tolerance_mm=0.5)
    assert match.reference_found_mm2 == pytest.approx(match.reference_mm2)
    precision = match.reference_mm2 / match.predicted_mm2
    assert match.f1 == pytest.approx(2 * precision / (1 + precision))


@settings(deadline=None, max_examples=40)
@given(masks, masks)
def test_surface_dice_lies_in_0_to_1_and_rises_with_the_tolerance(first, second) -> None:
    values = [
        surface_dice(first, second, spacing_mm=SPACING, tolerance_mm=mm) for mm in (0.0, 0.5, 1.0, 3.0, 50.0)
    ]
    assert values == sorted(values)
    assert min(values) >= 0
    assert max(values) <= 1 + 1e-12
    assert values[-1] == pytest.approx(float(first.any() == second.any()))


@settings(deadline=None, max_examples=20)
@given(masks)
def test_a_mask_agrees_fully_with_itself(mask) -> None:
    assert dice(mask, mask) == iou(mask, mask) == 1
    assert surface_dice(mask, mask, spacing_mm=SPACING, tolerance_mm=0) == pytest.approx(1)
    assert hausdorff95_mm(mask, mask, spacing_mm=SPACING) == 0
    assert volume_error_ml(mask, mask, spacing_mm=SPACING) == 0


@pytest.mark.parametrize("axis", range(3))
def test_a_slab_moved_by_one_voxel_is_one_spacing_away(axis: int) -> None:
    start, stop = [0, 0, 0], [12, 13, 14]
    start[axis], stop[axis] = 4, 6
    first = box(tuple(start), tuple(stop))
    second = np.roll(first, 1, axis)
    assert hausdorff95_mm(first, second, spacing_mm=SPACING) == pytest.approx(SPACING[axis])
    assert surface_dice(first, second, spacing_mm=SPACING, tolerance_mm=SPACING[axis]) == pytest.approx(1)
    assert surface_dice(first, second, spacing_mm=SPACING, tolerance_mm=0.99 * SPACING[axis]) < 0.6


@pytest.mark.parametrize(
    "linear", [np.diag([0.5, 0.6, 0.8]), np.diag([0.5, 0.6, 0.8]) @ [[1, 0.3, 0], [0, 1, 0.4], [0, 0, 1]]]
)
def test_moved_spheres_have_the_analytic_distances(linear) -> None:
    """A sphere moved by d lies d |cos t| away at polar angle t, and cos t is uniform over its area (Archimedes)."""
    move = np.array([2.0, -1.5, 1.7])
    distance = float(np.linalg.norm(move))
    shape = (110, 90, 70)
    first, second = (sphere(shape, linear, centre, 14.0) for centre in (-move / 2, move / 2))
    for tolerance_mm in (1.0, 1.5, 2.0):
        nsd = surface_dice(first, second, spacing_mm=linear, tolerance_mm=tolerance_mm)
        assert tolerance_mm <= nsd * distance <= tolerance_mm + 0.4, "right up to half a voxel"
    assert hausdorff95_mm(first, second, spacing_mm=linear) == pytest.approx(0.95 * distance, abs=0.15)


def test_spheres_of_two_sizes_differ_by_the_analytic_volume() -> None:
    first, second = (sphere((60, 50, 24), np.diag(SPACING), 0, radius) for radius in (16.0, 13.0))
    expected_ml = 4 / 3 * np.pi * (16**3 - 13**3) / 1000
    assert volume_error_ml(first, second, spacing_mm=SPACING) == pytest.approx(expected_ml, rel=0.02)
    assert volume_error_ml(second, first, spacing_mm=SPACING) == pytest.approx(-expected_ml, rel=0.02)
    assert hausdorff95_mm(first, second, spacing_mm=SPACING) == pytest.approx(3.0, abs=0.6)


def boundary_f1_by_monai(pair, tolerance_mm: float) -> float:
    """From MONAI's surface elements and areas and a brute-force search, for a pair of tensors [1, 1, I, J, K]."""
    from monai.metrics.utils import get_mask_edges

    edges = get_mask_edges(pair[0][0, 0], pair[1][0, 0], crop=False, spacing=SPACING)
    points = [np.argwhere(edge.numpy()) * SPACING for edge in edges[:2]]
    areas = [area.numpy()[edge.numpy()] for edge, area in zip(edges[:2], edges[2:], strict=True)]
    near = cdist(*points) <= tolerance_mm
    precision = areas[0][near.any(axis=1)].sum() / areas[0].sum()
    recall = areas[1][near.any(axis=0)].sum() / areas[1].sum()
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_monai_on_orthogonal_grids() -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    random = np.random.default_rng(3)
    for _ in range(3):
        coarse = random.random((6, 6, 4)) > 0.5
        first = np.pad(np.kron(coarse, np.ones((4, 3, 3), bool)), 2)
        second = np.roll(first, (1, -1, 1), (0, 1, 2)) | box((3, 3, 3), (9, 10, 8), first.shape)
        pair = [torch.from_numpy(mask)[None, None] for mask in (first, second)]
        theirs = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=SPACING)
        assert hausdorff95_mm(first, second, spacing_mm=SPACING) == pytest.approx(float(theirs), rel=1e-4)
        for tolerance_mm in (0.75, 2.6):
            theirs = compute_surface_dice(
                *pair, [tolerance_mm], include_background=True, spacing=SPACING, use_subvoxels=True
            )
            ours = surface_dice(first, second, spacing_mm=SPACING, tolerance_mm=tolerance_mm)
            assert ours == pytest.approx(float(theirs), abs=0.01)
            f1 = boundary_f1_by_monai(pair, tolerance_mm)
            ours = boundary_f1(first, second, spacing_mm=SPACING, tolerance_mm=tolerance_mm)
            assert ours == pytest.approx(f1, abs=0.01)


def test_empty_masks_are_defined() -> None:
    empty, full = np.zeros((240, 240, 155), bool), np.zeros((240, 240, 155), bool)
    full[100:110, 100:110, 70:80] = True
    assert dice(empty, empty) == iou(empty, empty) == surface_dice(empty, empty, spacing_mm=SPACING) == 1
    assert hausdorff95_mm(empty, empty, spacing_mm=SPACING) == 0
    assert boundary_f1(empty, empty, spacing_mm=SPACING) == 1
    for pair in ((empty, full), (full, empty)):
        assert dice(*pair) == iou(*pair) == surface_dice(*pair, spacing_mm=SPACING) == 0
        assert boundary_f1(*pair, spacing_mm=SPACING) == 0
        assert hausdorff95_mm(*pair, spacing_mm=(1, 1, 1)) == pytest.approx(373.13, abs=0.01)
    assert volume_error_ml(empty, full, spacing_mm=(1, 1, 1)) == -1
    assert volume_error_ml(full, empty, spacing_mm=(1, 1, 1)) == 1


def test_a_rotated_grid_measures_like_a_straight_one() -> None:
    angle = np.deg2rad(33)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]])
    first, second = box((2, 2, 2), (8, 9, 6)), box((3, 1, 4), (9, 10, 8))
    for measure in (hausdorff95_mm, surface_dice, volume_error_ml):
        straight = measure(first, second, spacing_mm=SPACING)
        assert measure(first, second, spacing_mm=turn @ np.diag(SPACING)) == pytest.approx(straight)


def test_a_mask_that_fills_the_image_has_its_surface_at_the_border() -> None:
    full = np.ones(SHAPE, bool)
    smaller = full.copy()
    smaller[:, :, 0] = False
    assert hausdorff95_mm(full, smaller, spacing_mm=SPACING) == pytest.approx(2.5)
    assert 0 < surface_dice(full, smaller, spacing_mm=SPACING, tolerance_mm=1) < 1


@pytest.mark.parametrize(
    "wrong", [np.zeros(SHAPE, np.uint8), np.zeros((5, 6), bool), np.zeros((5, 7, 6), bool)]
)
def test_what_is_no_pair_of_masks_is_refused(wrong) -> None:
    right = np.zeros(SHAPE, bool)
    for measure in (dice, iou):
        with pytest.raises(InputError, match=r"mask"):
            measure(wrong, right)
    for measure in (hausdorff95_mm, surface_dice, volume_error_ml):
        with pytest.raises(InputError, match=r"mask"):
            measure(right, wrong, spacing_mm=SPACING)


def test_label_maps_of_two_shapes_are_refused() -> None:
    first, second = np.zeros(SHAPE, np.uint8), np.zeros((5, 7, 6), np.uint8)
    with pytest.raises(InputError, match="shapes"):
        pixel_accuracy(first, second)
    with pytest.raises(InputError, match="shapes"):
        mean_iou(first, second, values=(1,))


def test_impossible_spacings_and_tolerances_are_refused() -> None:
    mask = box((2, 2, 2), (8, 9, 6))
    for spacing in ((1, 1), (1, 1, np.nan), (1, 0, 1), np.ones((3, 3))):
        with pytest.raises(GeometryError, match="spacings"):
            hausdorff95_mm(mask, mask, spacing_mm=spacing)
    for tolerance_mm in (-1, float("nan")):
        with pytest.raises(InputError, match="tolerance"):
            surface_dice(mask, mask, spacing_mm=SPACING, tolerance_mm=tolerance_mm)
