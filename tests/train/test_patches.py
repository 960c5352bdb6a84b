import numpy as np
import pytest
import torch

from volseg.preprocess import PREPROCESS
from volseg.train.cache import build_cache
from volseg.train.patches import PatchSampler
from volseg.train.settings import AugmentConfig

STILL = AugmentConfig(spatial_probability=0, intensity_probability=0)


@pytest.fixture
def cases(make_case, tmp_path):
    steps = [PREPROCESS.build({"name": "zscore"})]
    made = [make_case("a"), make_case("b", shape=(20, 23, 12))]
    return build_cache(made, steps, (1, 4), tmp_path / "cache")


def test_a_patch_depends_on_seed_step_index_and_rank_alone(cases):
    def draw(seed=0, step=1, index=0, rank=0):
        return PatchSampler(cases, 3, (6, 8, 4), 0.5, AugmentConfig(), seed, rank).patch(step, index)[0]

    assert torch.equal(draw(), draw())
    for other in (draw(seed=1), draw(step=2), draw(index=1), draw(rank=1)):
        assert not torch.equal(draw(), other)


def test_threads_do_not_change_order_or_content(cases):
    sampler = PatchSampler(cases, 3, (6, 8, 4), 0.5, AugmentConfig(), 0)
    alone = [sampler.batch(step, 2) for step in range(3, 10)]
    ahead = list(sampler.batches(3, 9, 2, workers=3))
    assert [batch.step for batch in ahead] == list(range(3, 10))
    for first, second in zip(alone, ahead, strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)


def test_foreground_patches_hold_every_label_equally_often(cases):
    sampler = PatchSampler(cases, 3, (3, 3, 3), 1.0, STILL, 0)
    centres = [int(sampler.patch(step, 0)[1][1, 1, 1]) for step in range(60)]
    counts = np.bincount(centres, minlength=3)
    assert counts[0] == 0
    assert counts[1:].min() > 15


def test_a_still_patch_is_a_cut_of_the_volume(cases):
    sampler = PatchSampler(cases[:1], 3, (5, 5, 5), 0.0, STILL, 0)
    image, labels = cases[0].image[:][0], cases[0].labels[:]
    patch, _ = PatchSampler(cases[:1], 3, (9, 12, 7), 0.0, STILL, 0).patch(0, 0)  # the whole volume
    assert np.allclose(patch[0].numpy(), image, atol=1e-5)
    assert sampler.patch(0, 0)[0].shape == (1, 5, 5, 5)
    assert labels.shape == (9, 12, 7)


def test_a_volume_smaller_than_the_patch_is_centred_and_mirrored(cases):
    patch, labels = PatchSampler(cases[:1], 3, (15, 12, 7), 0.0, STILL, 0).patch(0, 0)
    image = torch.from_numpy(cases[0].image[:])
    assert torch.allclose(patch[:, 3:12], image, atol=1e-4)
    assert torch.allclose(patch[:, :3], image[:, 1:4].flip(1), atol=1e-4)
    assert labels.shape == (15, 12, 7)
