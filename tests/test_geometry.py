"""Where a voxel is: properties of Grid on oblique, sheared, left-handed, anisotropic grids."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.grids import SHAPE, SPACING_MM, affine_of, grids, grids_with_voxel, oblique_grid
from volseg.errors import GeometryError
from volseg.geometry import Grid

fast = settings(max_examples=50, deadline=None)
points = st.tuples(*[st.floats(-500, 500)] * 3)
orientations = st.sampled_from(
    [
        "".join(letters)
        for axes in itertools.permutations(("LR", "PA", "IS"))
        for letters in itertools.product(*axes)
    ]
)


def voxels_of(grid: Grid) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)


@fast
@given(grids(), points)
def test_world_to_index_undoes_index_to_world(grid: Grid, point: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(grid.world_to_index(grid.index_to_world(point)), point, atol=1e-8)
    np.testing.assert_allclose(grid.index_to_world(grid.world_to_index(point)), point, atol=1e-8)


@fast
@given(grids())
def test_index_to_world_is_the_affine_applied_to_each_voxel(grid: Grid) -> None:
    voxels = voxels_of(grid)
    expected = nib.affines.apply_affine(grid.affine, voxels)
    np.testing.assert_allclose(grid.index_to_world(voxels), expected, atol=1e-9)
    shaped = grid.index_to_world(voxels.reshape(*grid.shape, 3))
    np.testing.assert_allclose(shaped.reshape(-1, 3), expected, atol=1e-9)


@fast
@given(grids())
def test_lps_round_trip_is_exact(grid: Grid) -> None:
    assert Grid.from_lps(grid.shape, grid.to_lps()) == grid
    # The same voxel, told in LPS: x and y change sign, z does not.
    np.testing.assert_array_equal(grid.to_lps()[:3] * [[-1], [-1], [1]], grid.affine[:3])


@fast
@given(grids_with_voxel(), orientations)
def test_reoriented_keeps_each_voxel_at_its_point(
    case: tuple[Grid, tuple[int, int, int]], codes: str
) -> None:
    grid, voxel = case
    order, flips = grid.axes_towards(codes)
    array = np.zeros(grid.shape)
    array[voxel] = 1
    moved = array.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    target = grid.reoriented(codes)
    assert target.shape == moved.shape
    np.testing.assert_allclose(
        target.index_to_world(np.argwhere(moved)[0]), grid.index_to_world(voxel), atol=1e-9
    )
    assert target.axis_codes == codes
    np.testing.assert_allclose(target.reoriented(grid.axis_codes).affine, grid.affine, atol=1e-9)


@fast
@given(grids())
def test_axis_codes_agree_with_nibabel_where_no_axis_is_halfway(grid: Grid) -> None:
    directions = np.sort(np.abs(grid.affine[:3, :3] / grid.spacing_mm), axis=0)
    largest = np.abs(grid.affine[:3, :3] / grid.spacing_mm).argmax(axis=0)
    assume(len(set(largest)) == 3 and (directions[2] - directions[1]).min() > 0.2)
    assert grid.axis_codes == "".join(nib.aff2axcodes(grid.affine))


def test_axis_codes_are_a_permutation_even_halfway_between_axes() -> None:
    grid = Grid(SHAPE, affine_of(degrees=(45.0, 45.0, 45.0)))
    assert len({"RL".find(c) >= 0 or 2 * ("AP".find(c) >= 0) for c in grid.axis_codes}) == 3


@fast
@given(grids(), st.tuples(*[st.floats(0.2, 6.0)] * 3))
def test_with_spacing_keeps_directions_and_outer_edges(
    grid: Grid, spacing: tuple[float, float, float]
) -> None:
    other = grid.with_spacing(spacing)
    np.testing.assert_allclose(other.spacing_mm, spacing, rtol=1e-9)
    np.testing.assert_allclose(
        other.index_to_world((-0.5, -0.5, -0.5)), grid.index_to_world((-0.5, -0.5, -0.5)), atol=1e-8
    )
    np.testing.assert_allclose(
        other.affine[:3, :3] / spacing, grid.affine[:3, :3] / grid.spacing_mm, atol=1e-9
    )
    lengths = np.asarray(other.shape) * spacing
    wanted = np.asarray(grid.shape) * grid.spacing_mm
    assert all(
        extent == 1 or abs(a - b) <= s / 2 + 1e-6
        for extent, a, b, s in zip(other.shape, lengths, wanted, spacing, strict=True)
    )


def test_with_spacing_keeps_the_far_edge_too_where_spacings_divide() -> None:
    grid = oblique_grid(shear=0.2)
    other = grid.with_spacing((0.35, 1.8, 2.5))
    assert other.shape == (10, 3, 7)
    far, far_other = np.asarray(grid.shape) - 0.5, np.asarray(other.shape) - 0.5
    np.testing.assert_allclose(other.index_to_world(far_other), grid.index_to_world(far), atol=1e-9)


@fast
@given(grids(), st.tuples(*[st.integers(-4, 4)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_box_keeps_voxels_where_they_are(
    grid: Grid, start: tuple[int, int, int], extents: tuple[int, int, int]
) -> None:
    stop = (start[0] + extents[0], start[1] + extents[1], start[2] + extents[2])
    box = grid.box(start, stop)
    assert box.shape == extents
    voxels = voxels_of(box)
    np.testing.assert_allclose(box.index_to_world(voxels), grid.index_to_world(voxels + start), atol=1e-8)


@fast
@given(grids())
def test_orthogonal_is_perpendicular_and_just_covers(grid: Grid) -> None:
    straight = grid.orthogonal()
    assert straight.shear_degrees < 1e-5
    np.testing.assert_allclose(straight.spacing_mm, grid.spacing_mm, rtol=1e-9)
    assert np.sign(np.linalg.det(straight.affine[:3, :3])) == np.sign(np.linalg.det(grid.affine[:3, :3]))
    places = straight.world_to_index(grid.index_to_world(voxels_of(grid)))
    np.testing.assert_allclose(places.min(axis=0), 0, atol=1e-6)
    spare = np.array(straight.shape) - 1 - places.max(axis=0)
    assert (spare > -1e-5).all()
    assert (spare < 1).all(), "one voxel less along any axis would not cover it"


@fast
@given(grids(is_sheared=False))
def test_orthogonal_of_a_grid_without_shear_is_that_grid(grid: Grid) -> None:
    assert not grid.is_sheared
    assert grid.orthogonal().is_same(grid, tolerance_mm=1e-6)


@pytest.mark.parametrize("degrees", [-20.0, 0.1, 12.5])
def test_orthogonal_of_a_tilted_gantry_keeps_the_image_plane(degrees: float) -> None:
    grid = Grid(SHAPE, affine_of(shear=float(np.sin(np.radians(degrees)))))
    assert grid.is_sheared
    assert grid.shear_degrees == pytest.approx(abs(degrees))
    straight = grid.orthogonal()
    np.testing.assert_allclose(straight.affine[:3, :2], grid.affine[:3, :2], atol=1e-12)
    assert straight.shape[0] == grid.shape[0]
    assert straight.shape[1] > grid.shape[1], "the planes slide along their second axis"
    assert straight.affine[:3, 2] @ grid.affine[:3, 2] > 0


def test_box_without_extent_is_refused() -> None:
    with pytest.raises(GeometryError, match="positive extents"):
        oblique_grid().box((2, 2, 2), (2, 4, 4))


@fast
@given(grids(), st.integers(0, 2**32 - 1))
def test_distance_is_that_of_the_worst_voxel(grid: Grid, seed: int) -> None:
    noise = np.zeros((4, 4))
    noise[:3] = np.random.default_rng(seed).normal(scale=0.1, size=(3, 4))
    other = Grid(grid.shape, grid.affine + noise)
    voxels = voxels_of(grid)
    brute = np.linalg.norm(grid.index_to_world(voxels) - other.index_to_world(voxels), axis=1).max()
    assert grid.distance_mm(other) == pytest.approx(brute, rel=1e-9)
    assert other.distance_mm(grid) == pytest.approx(brute, rel=1e-9)
    assert grid.distance_mm(grid) == 0


def test_grids_of_other_shape_are_never_the_same() -> None:
    grid = oblique_grid()
    other = Grid((5, 6, 8), grid.affine)
    assert grid.distance_mm(other) == float("inf")
    assert not grid.is_same(other, tolerance_mm=1e9)


def test_is_same_has_a_tolerance_in_mm() -> None:
    grid = oblique_grid()
    shifted = grid.affine.copy()
    shifted[0, 3] += 0.5
    assert not grid.is_same(Grid(SHAPE, shifted))
    assert grid.is_same(Grid(SHAPE, shifted), tolerance_mm=0.51)


@fast
@given(grids())
def test_voxel_volume_is_that_of_the_parallelepiped(grid: Grid) -> None:
    first, second, third = grid.affine[:3, :3].T
    assert grid.voxel_volume_mm3 == pytest.approx(abs(np.dot(np.cross(first, second), third)), rel=1e-9)


def test_spacing_is_per_array_axis() -> None:
    np.testing.assert_allclose(oblique_grid().spacing_mm, SPACING_MM)
    np.testing.assert_allclose(Grid.from_spacing(SHAPE, SPACING_MM).affine, np.diag([*SPACING_MM, 1]))


def test_equal_grids_hash_alike_negative_zero_included() -> None:
    plain = Grid.from_spacing(SHAPE, SPACING_MM)
    negative_zeros = plain.affine.copy()
    negative_zeros[0, 1] = -0.0
    same = Grid(SHAPE, negative_zeros)
    assert same == plain
    assert hash(same) == hash(plain)
    assert plain != Grid.from_spacing((7, 6, 5), SPACING_MM)
    assert plain != "a grid"


def test_the_affine_is_a_frozen_copy() -> None:
    affine = affine_of()
    grid = Grid(SHAPE, affine)
    affine[0, 3] = 99
    assert grid.affine[0, 3] == -31.25
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 0


def changed(row: int, column: int, value: float) -> np.ndarray:
    affine = affine_of()
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((5, 0, 7), affine_of(), "positive extents"),
        ((5, 6), affine_of(), "positive extents"),
        (SHAPE, np.eye(3), "finite 4x4"),
        (SHAPE, changed(0, 0, np.nan), "finite 4x4"),
        (SHAPE, changed(2, 3, np.inf), "finite 4x4"),
        (SHAPE, changed(3, 0, 1.0), "last row"),
        (SHAPE, np.diag([1.0, 0.0, 1.0, 1.0]), "singular"),
        (SHAPE, np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
    ],
)
def test_impossible_grids_are_refused(shape: tuple[int, int, int], affine: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Grid(shape, affine)


@pytest.mark.parametrize("codes", ["RAR", "RA", "ras", "RASS", "XYZ"])
def test_unknown_orientations_are_refused(codes: str) -> None:
    with pytest.raises(GeometryError, match="no orientation"):
        oblique_grid().reoriented(codes)


def test_fractional_extents_are_refused_not_cut_off() -> None:
    with pytest.raises(GeometryError, match="whole numbers"):
        Grid((5.7, 6, 7), np.eye(4))  # type: ignore[arg-type]


def test_a_rotation_without_translation_is_no_lps_affine() -> None:
    with pytest.raises(GeometryError, match="4x4"):
        Grid.from_lps((5, 6, 7), np.eye(3))


def test_the_size_of_the_box_follows_the_body_not_the_array():
    grid = Grid.from_spacing((5, 6, 7), (0.7, 0.9, 2.5))
    for codes in ("RAS", "PIR", "SAL"):
        assert grid.reoriented(codes).body_size_mm == pytest.approx((3.5, 5.4, 17.5))
