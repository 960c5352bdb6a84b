"""What is hidden, what is compared, and how the errors count; against independent computations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.pretrain.contrast import contrastive_loss, pairs_found
from volseg.pretrain.masking import hide_cubes, mask_batch, nearest_visible, reconstruction_error


def hidden_in(extents, cube, fraction, patches=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return hide_cubes(extents, cube, fraction, patches=patches, generator=generator)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(4, 21), min_size=2, max_size=3),
    st.integers(1, 9),
    st.floats(0.05, 0.95),
    st.integers(0, 99),
)
def test_something_is_hidden_and_something_is_seen(extents, size, fraction, seed):
    cube = [size] * len(extents)
    hidden = hidden_in(extents, cube, fraction, patches=3, seed=seed)
    assert hidden.shape == (3, 1, *extents)
    if any(size < extent for extent in extents):
        for patch in hidden:
            assert 0 < patch.sum() < patch.numel()


def test_cubes_are_whole_cells_with_the_extents_of_their_axis():
    hidden = hidden_in((40, 60, 20), (4, 6, 5), 0.5, seed=3)[0, 0].numpy()
    for axis, size in enumerate((4, 6, 5)):
        changes = np.flatnonzero(np.diff(hidden.astype(int), axis=axis).any(axis=tuple({0, 1, 2} - {axis})))
        assert len(changes) > 1
        assert len(set((changes + 1) % size)) == 1, f"borders along axis {axis} are {size} voxels apart"


def test_the_share_of_what_is_hidden_is_what_was_asked_for():
    hidden = hidden_in((64, 64, 64), (4, 4, 4), 0.6, patches=4)
    assert hidden.float().mean() == pytest.approx(0.6, abs=0.02)
    assert not torch.equal(hidden[0], hidden[1])
    assert torch.equal(hidden, hidden_in((64, 64, 64), (4, 4, 4), 0.6, patches=4))
    assert not torch.equal(hidden, hidden_in((64, 64, 64), (4, 4, 4), 0.6, patches=4, seed=1))


def test_target_and_what_is_seen_come_from_visible_voxels_alone():
    images = torch.randn((2, 3, 7, 6, 5), generator=torch.Generator().manual_seed(0)) * 4 + 9
    hidden = hidden_in((7, 6, 5), (3, 2, 2), 0.5, patches=2)
    batch = mask_batch(images, hidden)
    other = mask_batch(torch.where(hidden, 1e4, images), hidden)
    assert torch.equal(batch.image, other.image)
    assert torch.equal(batch.deviation, other.deviation)
    visible = images[1, 2][~hidden[1, 0]].numpy()
    assert batch.image[1, 2][hidden[1, 0]].unique().item() == pytest.approx(visible.mean(), rel=1e-5)
    expected = (images[1, 2].numpy() - visible.mean()) / visible.std()
    np.testing.assert_allclose(batch.target[1, 2].numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("error", ["l1", "mse"])
def test_only_hidden_voxels_count(error):
    images = torch.randn((2, 2, 6, 5, 4), generator=torch.Generator().manual_seed(1))
    hidden = hidden_in((6, 5, 4), (2, 2, 2), 0.4, patches=2)
    batch = mask_batch(images, hidden)
    found = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    difference = (found - batch.target).numpy()[np.broadcast_to(hidden.numpy(), images.shape)]
    expected = np.abs(difference).mean() if error == "l1" else np.square(difference).mean()
    assert reconstruction_error(found, batch, error).item() == pytest.approx(expected, rel=1e-5)
    elsewhere = torch.where(hidden, found, found + 100)
    assert reconstruction_error(elsewhere, batch, error).item() == pytest.approx(expected, rel=1e-5)


def test_nearest_visible_is_found_by_search():
    images = torch.randn((1, 1, 5, 6, 4), generator=torch.Generator().manual_seed(3))
    hidden = hidden_in((5, 6, 4), (2, 3, 2), 0.6)
    batch = mask_batch(images, hidden)
    found = nearest_visible(batch)[0, 0].numpy()
    seen = np.argwhere(~hidden[0, 0].numpy())
    for place in np.argwhere(hidden[0, 0].numpy()):
        squares = np.square(seen - place).sum(axis=1)
        near = [batch.target[0, 0][tuple(voxel)].item() for voxel in seen[squares == squares.min()]]
        assert any(found[tuple(place)] == pytest.approx(value) for value in near)


def test_contrastive_loss_is_that_of_the_paper():
    z = torch.randn((6, 5), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    numbers, tau = z.numpy(), 0.3

    def cosine(i, j):
        return numbers[i] @ numbers[j] / np.linalg.norm(numbers[i]) / np.linalg.norm(numbers[j])

    terms = []
    for i in range(6):
        j = i + 1 if i % 2 == 0 else i - 1
        others = sum(math.exp(cosine(i, k) / tau) for k in range(6) if k != i)
        terms.append(-math.log(math.exp(cosine(i, j) / tau) / others))
    assert contrastive_loss(z, tau).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_views_of_one_place_are_found_and_no_knowledge_is_the_logarithm_of_the_others():
    places = torch.eye(4).repeat_interleave(2, dim=0)
    assert pairs_found(places) == 1
    assert contrastive_loss(places, 0.05).item() < 1e-6
    assert contrastive_loss(torch.ones(8, 3), 0.1).item() == pytest.approx(math.log(7), rel=1e-5)
    assert pairs_found(places[[0, 2, 1, 3, 4, 6, 5, 7]]) == 0
