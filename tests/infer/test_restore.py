import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.grids import affine_of
from volseg.geometry import Grid
from volseg.infer.restore import restore_labels, whole_logits
from volseg.infer.stitch import Slab
from volseg.labels import ChannelRule
from volseg.resample import logits_to_labels

VALUES = (0, 2, 7)
RULE = ChannelRule(VALUES)


def oblique(shape):
    return Grid(shape, affine_of(flip=(False, True, False)))


def smooth_logits(shape, seed=0):
    noise = np.random.default_rng(seed).normal(size=(3, *shape))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 2)).astype(np.float32) * 10


def cut(logits, cuts):
    edges = [0, *cuts, logits.shape[1]]
    return [Slab(a, b, logits[:, a:b].copy()) for a, b in itertools.pairwise(edges)]


@given(
    codes=st.permutations(["RL", "AP", "SI"]).flatmap(lambda pairs: st.tuples(*map(st.sampled_from, pairs))),
    spacing=st.tuples(*[st.sampled_from([0.45, 0.7, 1.0, 1.9])] * 3),
    cuts=st.sets(st.integers(1, 12)).map(sorted),
    seed=st.integers(0, 1000),
)
@hypothesis_settings(max_examples=50, deadline=None)
def test_slabs_give_the_labels_of_the_whole_in_any_orientation_and_spacing(codes, spacing, cuts, seed):
    source = oblique((13, 9, 11))
    target = source.with_spacing(tuple(np.multiply(source.spacing_mm, spacing).tolist())).reoriented(
        "".join(codes)
    )
    logits = smooth_logits(source.shape, seed)
    whole = logits_to_labels(logits, source, target, RULE)
    parts = restore_labels(iter(cut(logits, cuts)), source, target, RULE)
    assert parts.dtype == whole.dtype
    # the boxes' own affines round differently: only exact ties of two logits may go the other way
    assert np.count_nonzero(parts != whole) <= 2


def test_on_the_same_grid_it_is_argmax():
    grid = oblique((13, 9, 11))
    logits = smooth_logits(grid.shape)
    expected = np.array(VALUES)[logits.argmax(axis=0)]
    assert np.array_equal(restore_labels(cut(logits, [1, 5, 12]), grid, grid, RULE), expected)


def test_an_oblique_target_is_served_too():
    source, target = Grid.from_spacing((13, 9, 11), (1, 1, 1)), oblique((7, 8, 5))
    logits = smooth_logits(source.shape)
    whole = logits_to_labels(logits, source, target, RULE)
    assert np.array_equal(restore_labels(cut(logits, [4, 5]), source, target, RULE), whole)


def test_outside_the_source_is_background():
    source = Grid.from_spacing((6, 5, 4), (1, 1, 1))
    logits = np.zeros((2, *source.shape), np.float32)
    logits[1] = 1
    labels = restore_labels(cut(logits, [3]), source, source.box((-2, 0, 0), (9, 5, 4)), ChannelRule((0, 1)))
    assert labels[:, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("codes", ["RAS", "SLP"])
def test_memory_stays_far_below_the_whole_logits(codes):
    source = Grid.from_spacing((200, 90, 80), (1, 1, 1))
    target = source.with_spacing((0.9, 1, 1)).reoriented(codes)
    whole_bytes = 3 * 200 * 90 * 80 * 4

    def slabs():
        for start in range(0, 200, 10):
            yield Slab(
                start,
                start + 10,
                np.random.default_rng(start).normal(size=(3, 10, 90, 80)).astype(np.float32),
            )

    tracemalloc.start()
    labels = restore_labels(slabs(), source, target, RULE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < labels.nbytes + whole_bytes / 2


def test_whole_logits_joins_the_slabs():
    logits = smooth_logits((13, 4, 5))
    assert np.array_equal(whole_logits(cut(logits, [2, 7]), 3, (13, 4, 5)), logits)
