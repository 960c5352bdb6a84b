"""From logits to labels by either rule, against the definition written out in NumPy."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.grids import affine_of, grids
from volseg.errors import InputError, IntensityError
from volseg.geometry import Grid
from volseg.infer.restore import label_probabilities, restore_labels
from volseg.infer.stitch import Slab
from volseg.labels import ChannelRule
from volseg.resample import logits_to_labels, sampling

PAINT = (2, 300, 4)
REGIONS = ChannelRule(PAINT, exclusive=False)
SOURCE = Grid((9, 8, 7), affine_of(flip=(False, True, False)))
CLOSE = 2e-3
"""Of logits of about 5: float32 sums, and indices taken as whole within 1e-4 voxel."""


def smooth(shape, channels=3, seed=0):
    noise = np.random.default_rng(seed).normal(size=(channels, *shape))
    return (ndimage.gaussian_filter(noise, (0, 1, 1, 1)) * 15).astype(np.float32)


def by_definition(logits, source, target):
    """Trilinear logits [N, ...] in float64, and whether each target voxel lies in the source's voxels, clearly or not."""
    indices = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), axis=-1)
    points = np.moveaxis(source.world_to_index(target.index_to_world(indices)), -1, 0)
    extents = np.array(source.shape).reshape(3, 1, 1, 1)
    beyond = np.maximum(-0.5 - points, points - (extents - 0.5)).max(axis=0)
    clipped = np.clip(points, 0, extents - 1)
    base = np.minimum(np.floor(clipped).astype(int), np.maximum(extents - 2, 0))
    values = np.zeros((len(logits), *target.shape))
    for corner in itertools.product((0, 1), repeat=3):
        where = np.minimum(base + np.reshape(corner, (3, 1, 1, 1)), extents - 1)
        weights = np.where(np.reshape(corner, (3, 1, 1, 1)), clipped - base, 1 - (clipped - base)).prod(
            axis=0
        )
        values += weights * logits[:, where[0], where[1], where[2]]
    return values, beyond


def painted(values, beyond):
    labels = np.zeros(values.shape[1:], int)
    for value, logits in zip(PAINT, values, strict=True):
        labels[logits > 0] = value
    labels[beyond > 0] = 0
    return labels


def slabs_of(logits, cuts):
    edges = [0, *cuts, logits.shape[1]]
    return [Slab(a, b, logits[:, a:b].copy()) for a, b in itertools.pairwise(edges)]


@given(target=grids(most_degrees=45), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_regions_are_painted_in_order_on_any_grid(target, seed):
    source = Grid((9, 8, 7), affine_of(origin_mm=tuple(target.index_to_world([0, 0, 0]).tolist())))
    logits = smooth(source.shape, seed=seed)
    values, beyond = by_definition(logits, source, target)
    sure = (np.abs(values).min(axis=0) > CLOSE) & (np.abs(beyond) > 1e-3)
    found = logits_to_labels(logits, source, target, REGIONS)
    assert found.dtype == np.uint16
    assert np.array_equal(found[sure], painted(values, beyond)[sure])


@pytest.mark.parametrize("codes", ["RAS", "PIL", "SLA"])
def test_regions_come_back_slab_by_slab_as_from_the_whole(codes):
    target = SOURCE.with_spacing((0.4, 1.1, 2.0)).reoriented(codes).box((-2, -1, -3), (12, 14, 15))
    logits = smooth(SOURCE.shape)
    values, beyond = by_definition(logits, SOURCE, target)
    sure = (np.abs(values).min(axis=0) > CLOSE) & (np.abs(beyond) > 1e-3)
    found = restore_labels(iter(slabs_of(logits, [1, 4, 5])), SOURCE, target, REGIONS)
    assert set(np.unique(found)) == {0, *PAINT}
    assert np.array_equal(found[sure], painted(values, beyond)[sure])


def test_the_innermost_region_wins_whatever_its_logit():
    logits = np.array([[5.0, 5, -1, 5], [9, -1, 3, 0], [0.1, -2, -2, -1]], np.float32).reshape(3, 4, 1, 1)
    grid = Grid.from_spacing((4, 1, 1), (0.7, 0.9, 2.5))
    assert logits_to_labels(logits, grid, grid, REGIONS).ravel().tolist() == [4, 2, 300, 2]


@pytest.mark.parametrize("rotated", [False, True])
def test_one_region_is_two_channels_whose_difference_is_its_logit(rotated):
    target = Grid((8, 9, 5), affine_of(degrees=(5, 10, -20) if rotated else (20, -15, 40)))
    logits = smooth(SOURCE.shape, channels=2)
    region = logits[1:] - logits[:1]
    labels = ChannelRule((0, 3))
    alone = ChannelRule((3,), exclusive=False)
    first = logits_to_labels(logits, SOURCE, target, labels)
    second = logits_to_labels(region, SOURCE, target, alone)
    softmax = label_probabilities(logits, SOURCE, target, labels)
    sigmoid = label_probabilities(region, SOURCE, target, alone)
    assert sigmoid.shape == (1, *target.shape)
    assert np.allclose(sigmoid[0], softmax[1], atol=1e-6)
    sure = np.abs(sigmoid[0] - 0.5) > 1e-4
    assert np.array_equal(first[sure], second[sure])
    assert first.any()


def test_probabilities_of_regions_are_sigmoids_and_zero_outside():
    target = SOURCE.with_spacing((0.5, 1.1, 2.0)).box((-4, -1, -3), (18, 14, 15))
    logits = smooth(SOURCE.shape)
    kept = logits.copy()
    values, beyond = by_definition(logits, SOURCE, target)
    found = label_probabilities(logits, SOURCE, target, REGIONS)
    inside = beyond < -1e-3
    assert np.allclose(found[:, inside], 1 / (1 + np.exp(-values[:, inside])), atol=1e-3)
    assert found[:, beyond > 1e-3].max() < 1e-20
    same = label_probabilities(logits, SOURCE, SOURCE, REGIONS)
    assert np.allclose(same, 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert np.array_equal(logits, kept)


def test_probabilities_of_labels_sum_to_one():
    rule = ChannelRule((0, 2, 7))
    logits = smooth(SOURCE.shape) + 300  # an offset that all channels share means nothing
    found = label_probabilities(logits, SOURCE, SOURCE, rule)
    expected = np.exp(logits - logits.max(axis=0))
    assert np.allclose(found, expected / expected.sum(axis=0), atol=1e-5)


def test_nan_and_a_wrong_number_of_channels_are_refused():
    logits = smooth(SOURCE.shape)
    with pytest.raises(InputError, match="3 channels"):
        logits_to_labels(logits, SOURCE, SOURCE, ChannelRule((1, 2), exclusive=False))
    logits[2, 3, 4, 5] = np.nan
    with pytest.raises(IntensityError, match="NaN"):
        logits_to_labels(logits, SOURCE, SOURCE, REGIONS)


@pytest.mark.parametrize("exclusive", [True, False])
def test_memory_is_the_same_for_a_hundred_labels(exclusive):
    source = Grid.from_spacing((30, 30, 25), (2.0, 2.0, 3.0))
    target = source.with_spacing((0.5, 0.5, 1.5))
    peaks = []
    for count in (3, 100):
        logits = np.random.default_rng(0).normal(size=(count, *source.shape)).astype(np.float16)
        tracemalloc.start()
        labels = logits_to_labels(logits, source, target, ChannelRule(tuple(range(count)), exclusive))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert peaks[-1] <= labels.nbytes + sampling.SLAB_BYTES
    assert peaks[1] < 1.15 * peaks[0]
    assert 100 * 4 * np.prod(target.shape) > 10 * peaks[1]
