import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.errors import ConfigError
from volseg.infer.tiles import Tile, plan_tiles, read_tile, tile_weights

extents = st.tuples(st.integers(1, 9), st.integers(1, 11), st.integers(1, 13))
tile_extents = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 8))
overlaps = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.6, 0.9])


@given(extents, tile_extents, overlaps)
@settings(max_examples=50, deadline=None)
def test_every_voxel_is_covered_by_the_core_of_a_tile(shape, tile_voxels, overlap):
    hits = np.zeros(shape, int)
    for tile in plan_tiles(shape, tile_voxels, overlap=overlap):
        assert all(
            stop - start == extent
            for start, stop, extent in zip(tile.start, tile.stop, tile_voxels, strict=True)
        )
        assert np.ones(tile_voxels)[tile.core].shape == hits[tile.slices].shape
        hits[tile.slices] += 1
    assert hits.min() >= 1


@given(st.integers(1, 200), st.integers(1, 40), overlaps)
@settings(max_examples=50, deadline=None)
def test_neighbours_share_at_least_the_overlap_and_starts_are_spread_evenly(extent, tile, overlap):
    tiles = plan_tiles((extent, 1, 1), (tile, 1, 1), overlap=overlap)
    starts = [tile.start[0] for tile in tiles]
    steps = np.diff(starts)
    assert len(set(starts)) == len(starts)
    if extent > tile:
        assert starts[0] == 0
        assert starts[-1] + tile == extent
        assert steps.max() <= max(1, round(tile * (1 - overlap), 9))
        assert steps.max() - steps.min() <= 1
    else:
        assert starts == [(extent - tile) // 2]


def test_the_plan_is_integers_and_its_first_axis_is_slowest():
    tiles = plan_tiles((20, 9, 7), (8, 4, 7), overlap=0.5)
    assert tiles == sorted(tiles, key=lambda tile: tile.start)
    assert {type(number) for tile in tiles for number in (*tile.start, *tile.stop)} == {int}
    assert tiles == plan_tiles((20, 9, 7), (8, 4, 7), overlap=0.5)


def test_a_halo_gives_the_outermost_voxels_context_on_both_sides():
    tiles = plan_tiles((20, 6, 7), (8, 6, 9), overlap=0.25, halo_voxels=(3, 0, 1))
    starts = sorted({tile.start for tile in tiles})
    assert starts[0] == (-3, 0, -1)
    assert max(tile.stop[0] for tile in tiles) == 23
    assert max(tile.stop[2] for tile in tiles) == 8


@given(st.integers(1, 200), st.integers(1, 40), st.integers(2, 16), overlaps)
@settings(max_examples=50, deadline=None)
def test_tiles_that_keep_to_a_grid_cover_the_volume_without_a_tile_too_many(extent, tile, multiple, overlap):
    tile = max(tile, multiple)
    tiles = plan_tiles((1, extent, 1), (1, tile, 1), overlap=overlap, step_multiples=(1, multiple, 1))
    starts = [box.start[1] for box in tiles]
    steps = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] < extent <= starts[-1] + tile
    assert all(start % multiple == 0 for start in starts)
    if len(steps):
        assert steps.min() == steps.max() <= max(multiple, round(tile * (1 - overlap), 9))
        longest = max(multiple, int(tile * (1 - overlap) + 1e-9) // multiple * multiple)
        assert (len(starts) - 2) * longest + tile < extent, "one tile fewer would not do"


def test_a_box_grown_by_margins_reads_what_lies_around_it():
    array = np.arange(2 * 6 * 5).reshape(1, 2, 6, 5)
    box = Tile((0, 2, 4), (2, 4, 6), (2, 6, 5)).grown((0, 2, 3))
    assert (box.start, box.stop, box.shape) == ((0, 0, 1), (2, 6, 9), (2, 6, 5))
    mirrored = np.pad(array, [(0, 0), (0, 0), (0, 0), (0, 4)], mode="reflect")
    assert np.array_equal(read_tile(array, box), mirrored[..., 1:])


@pytest.mark.parametrize(("tile", "halo"), [(4, 0), (12, 1)])
def test_a_grid_coarser_than_the_tiles_or_with_a_halo_is_refused(tile, halo):
    with pytest.raises(ConfigError, match=r"multiples of \(1, 8, 1\) voxels"):
        plan_tiles((9, 90, 9), (9, tile, 9), overlap=0, halo_voxels=(0, halo, 0), step_multiples=(1, 8, 1))


@given(extents, tile_extents, overlaps, st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_reading_mirrors_as_numpy_does(shape, tile_voxels, overlap, seed):
    array = np.random.default_rng(seed).normal(size=(2, *shape))
    pad = tile_voxels
    padded = np.pad(array, [(0, 0), *((n, n) for n in pad)], mode="reflect")
    for tile in plan_tiles(shape, tile_voxels, overlap=overlap):
        box = tuple(
            slice(start + n, stop + n) for start, stop, n in zip(tile.start, tile.stop, pad, strict=True)
        )
        assert np.array_equal(read_tile(array, tile), padded[(slice(None), *box)])


def test_a_mirror_many_times_larger_than_the_volume():
    tile = Tile((-5, 0, 0), (8, 1, 1), (3, 1, 1))
    array = np.arange(3.0).reshape(1, 3, 1, 1)
    expected = np.pad(array, [(0, 0), (5, 5), (0, 0), (0, 0)], mode="reflect")
    assert np.array_equal(read_tile(array, tile), expected)


@given(st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60)))
@settings(max_examples=20, deadline=None)
def test_gaussian_weights_are_positive_symmetric_and_at_most_one(tile_voxels):
    weights = tile_weights(tile_voxels, "gaussian")
    assert weights.dtype == np.float32
    assert weights.shape == tile_voxels
    assert weights.min() >= np.float32(np.exp(-24))
    assert weights.max() <= 1
    assert np.allclose(weights, weights[::-1, ::-1, ::-1], rtol=1e-6)


def test_gaussian_weights_fall_by_exp_of_one_half_within_an_eighth_of_a_tile():
    weights = tile_weights((65, 1, 1), "gaussian")[:, 0, 0]
    assert weights[32] == 1
    assert weights[32 + 8] == pytest.approx(np.exp(-0.5 * (64 / 65) ** 2), rel=1e-6)
    assert np.all(tile_weights((3, 4, 5), "constant") == 1)


@pytest.mark.parametrize(
    ("shape", "tile_voxels", "overlap", "halo_voxels", "word"),
    [
        ((0, 6, 7), (4, 4, 4), 0.5, (0, 0, 0), "shape"),
        ((5, 6, 7), (4, 0, 4), 0.5, (0, 0, 0), "tile_voxels"),
        ((5, 6), (4, 4, 4), 0.5, (0, 0, 0), "shape"),
        ((5, 6, 7), (4, 4, 4), 1.0, (0, 0, 0), "overlap"),
        ((5, 6, 7), (4, 4, 4), -0.1, (0, 0, 0), "overlap"),
        ((5, 6, 7), (4, 4, 4), float("nan"), (0, 0, 0), "overlap"),
        ((5, 6, 7), (4, 4, 4), 0.5, (-1, 0, 0), "halo_voxels"),
        ((5, 6, 7), (4, 4, 4), 0.5, (2, 0, 0), "halo"),
    ],
)
def test_impossible_plans_are_refused(shape, tile_voxels, overlap, halo_voxels, word):
    with pytest.raises(ConfigError, match=word):
        plan_tiles(shape, tile_voxels, overlap=overlap, halo_voxels=halo_voxels)
