import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.errors import ConfigError
from volseg.infer.stitch import Stitcher
from volseg.infer.tiles import plan_tiles, read_tile, tile_weights

shapes = st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 7))
tile_shapes = st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 5))
overlaps = st.sampled_from([0.0, 0.3, 0.5, 0.75])
kinds = st.sampled_from(["gaussian", "constant"])
seeds = st.integers(0, 2**31)


def stitched(shape, tiles, weights, tile_logits, label_count):
    """The whole volume; every row must leave exactly once and nothing may stay behind."""
    stitcher = Stitcher(tiles, weights, label_count)
    result = np.full((label_count, *shape), np.nan, dtype=np.float32)
    for tile, logits in tile_logits:
        for slab in stitcher.add(tile, logits):
            assert np.isnan(result[:, slab.start : slab.stop]).all()
            result[:, slab.start : slab.stop] = slab.logits
    assert not np.isnan(result).any()
    assert stitcher.held_rows == 0
    return result


@given(shapes, tile_shapes, overlaps, kinds, seeds)
@settings(max_examples=50, deadline=None)
def test_a_pointwise_model_gives_the_whole_volumes_output_bit_for_bit(
    shape, tile_voxels, overlap, kind, seed
):
    generator = np.random.default_rng(seed)
    volume = (generator.normal(size=(1, *shape)) * 10.0 ** generator.integers(-6, 6)).astype(np.float32)

    def pointwise(array):
        return np.concatenate([array * np.float32(0.37), np.float32(1.3) - array, array * array])

    tiles = plan_tiles(shape, tile_voxels, overlap=overlap)
    generator.shuffle(tiles)
    logits = ((tile, pointwise(read_tile(volume, tile))) for tile in tiles)
    result = stitched(shape, tiles, tile_weights(tile_voxels, kind), logits, 3)
    assert np.array_equal(result, pointwise(volume))


@given(shapes, tile_shapes, overlaps, kinds, seeds)
@settings(max_examples=40, deadline=None)
def test_the_result_is_the_normalised_weighted_mean_in_any_order(shape, tile_voxels, overlap, kind, seed):
    generator = np.random.default_rng(seed)
    weights = tile_weights(tile_voxels, kind)
    tiles = plan_tiles(shape, tile_voxels, overlap=overlap)
    pairs = [(tile, generator.normal(size=(2, *tile_voxels)).astype(np.float32)) for tile in tiles]
    total, expected = np.zeros(shape), np.zeros((2, *shape))
    for tile, logits in pairs:
        total[tile.slices] += weights[tile.core]
        expected[(slice(None), *tile.slices)] += logits[(slice(None), *tile.core)] * weights[
            tile.core
        ].astype(float)
    planned = stitched(shape, tiles, weights, pairs, 2)
    generator.shuffle(pairs)
    shuffled = stitched(shape, tiles, weights, pairs, 2)
    assert np.allclose(planned, expected / total, atol=1e-5)
    assert np.allclose(planned, shuffled, atol=1e-5)


def test_no_more_rows_are_held_than_a_tile_has_and_slabs_leave_early():
    shape, tile_voxels = (60, 6, 7), (8, 4, 5)
    tiles = plan_tiles(shape, tile_voxels, overlap=0.5)
    stitcher = Stitcher(tiles, tile_weights(tile_voxels, "gaussian"), 2)
    logits = np.zeros((2, *tile_voxels), np.float32)
    finished = 0
    for tile in tiles:
        slabs = stitcher.add(tile, logits)
        for slab in slabs:
            assert slab.start == finished, "in the planned order slabs leave by rising start"
            finished = slab.stop
        assert stitcher.held_rows <= tile_voxels[0]
        assert finished >= tile.start[0], "what no later tile touches has left"
    assert finished == shape[0]


def test_tiles_that_are_unknown_repeated_or_misshapen_are_refused():
    tiles = plan_tiles((5, 6, 7), (4, 4, 4), overlap=0.5)
    stitcher = Stitcher(tiles, tile_weights((4, 4, 4), "constant"), 2)
    logits = np.zeros((2, 4, 4, 4), np.float32)
    stitcher.add(tiles[0], logits)
    with pytest.raises(ConfigError, match="already"):
        stitcher.add(tiles[0], logits)
    with pytest.raises(ConfigError, match="shape"):
        stitcher.add(tiles[1], logits[:1])
    with pytest.raises(ConfigError, match="no tiles"):
        Stitcher([], tile_weights((4, 4, 4), "constant"), 2)
