import os
import signal
from itertools import pairwise

import numpy as np
import pytest
import torch

from volseg.errors import ConfigError, TrainingError
from volseg.preprocess import PREPROCESS
from volseg.train.samples import feeders, sampling
from volseg.train.samples.augment_settings import AugmentConfig
from volseg.train.samples.boxes import read_box
from volseg.train.samples.cache import build_cache
from volseg.train.samples.patches import BatchSource
from volseg.train.samples.sampling import PatchSampler, label_weights
from volseg.train.settings import SamplingConfig

CPU = torch.device("cpu")
STILL = AugmentConfig(spatial_probability=0, intensity_probability=0)


@pytest.fixture
def cases(make_case, tmp_path):
    steps = [PREPROCESS.build({"name": "zscore"})]
    made = [make_case("a"), make_case("b", shape=(20, 23, 12))]
    return build_cache(made, steps, (1, 4), tmp_path / "cache")


@pytest.fixture
def source(cases, phantom_config):
    def make(*overrides, patch="[6, 8, 4]", rank=0, device=CPU):
        config = phantom_config(f"patch_voxels={patch}", "batch_size=2", *overrides)
        return BatchSource(config, cases, 3, device=device, rank=rank)

    return make


def sampler_of(
    cases, patch=(6, 8, 4), augment=STILL, weights=(1.0, 1.0), around=0, seed=0, margins=(0, 0, 0), **fields
):
    sampling = SamplingConfig(**fields)
    return PatchSampler(cases, patch, sampling, augment, weights, around, seed, margins=margins)


def drawn(source, first=3, last=6):
    with source:
        return [(b.step, b.micro, b.images.clone(), b.labels.clone()) for b in source.batches(first, last)]


def same(first, second):
    return len(first) == len(second) and all(
        a[:2] == b[:2] and torch.equal(a[2], b[2]) and torch.equal(a[3], b[3])
        for a, b in zip(first, second, strict=True)
    )


def test_batches_come_in_order_with_all_micro_batches(source):
    batches = drawn(source("accumulate=3"), 2, 4)
    assert [batch[:2] for batch in batches] == [(step, micro) for step in (2, 3, 4) for micro in (0, 1, 2)]
    assert batches[0][2].shape == (2, 1, 6, 8, 4)
    assert batches[0][2].dtype == torch.float32
    assert batches[0][3].shape == (2, 6, 8, 4)
    assert batches[0][3].dtype == torch.int64
    assert not list(source().batches(5, 4))


def test_a_patch_depends_on_seed_step_index_and_rank_alone(source):
    whole = drawn(source("accumulate=2"), 1, 4)
    assert same(drawn(source("accumulate=2"), 3, 4), whole[4:]), "a resumed run"
    assert same(drawn(source("accumulate=4", "batch_size=1"), 1, 1)[2:3], [
        (1, 2, whole[1][2][:1], whole[1][3][:1])
    ]), "the index counts over the micro-batches"  # fmt: skip
    for other in (source("accumulate=2", rank=1), source("accumulate=2", "seed=7")):
        assert not same(drawn(other, 1, 4), whole)
    assert all(not torch.equal(a[2], b[2]) for a, b in pairwise(whole))


def test_workers_do_not_change_order_or_content_nor_the_training_its_threads(source):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    alone = drawn(source("workers=1"))
    assert same(drawn(source("workers=3")), alone)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_processes_give_the_same_patches_and_one_that_dies_is_an_error(source):
    expected = drawn(source("workers=2"))
    state = torch.get_rng_state()
    with source("workers=2", "augment.where=processes") as processes:
        assert processes.where == "processes"
        for (_, _, images, labels), batch in zip(expected, processes.batches(3, 6), strict=True):
            assert torch.equal(batch.images, images)
            assert torch.equal(batch.labels, labels)
        assert torch.equal(torch.get_rng_state(), state)
        assert processes.waited_seconds > 0
        half = processes.batches(3, 300)
        next(half)
        again = next(iter(processes.batches(3, 300)))
        assert torch.equal(again.images, expected[0][2]), "what was left over is dropped"
        workers = [worker.pid for worker in processes._feeder._iterator._workers]
        for worker in workers:  # as a scheduler signals the whole group
            os.kill(worker, signal.SIGTERM)
        rest = processes.batches(3, 100_000)
        next(rest)
        os.kill(workers[0], signal.SIGKILL)
        with pytest.raises(TrainingError, match="a process that prepares patches died"):
            list(rest)
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_an_error_in_a_worker_reaches_the_caller(source, monkeypatch):
    def broken(sampler, step, index):
        raise ValueError("disk on fire")

    monkeypatch.setattr(PatchSampler, "raw", broken)
    with source("workers=2") as broken_source, pytest.raises(ValueError, match="disk on fire"):
        next(broken_source.batches(1, 100))


def test_the_device_makes_the_same_patches_as_threads_when_it_is_the_cpu(source):
    expected = drawn(source())
    for (_, _, images, labels), other in zip(
        expected, drawn(source("augment.where=device", "workers=2")), strict=True
    ):
        assert torch.allclose(other[2], images, atol=1e-4)
        assert torch.equal(other[3], labels)


def test_auto_measures_and_stays_with_threads_for_quick_patches(source):
    with source("workers=2") as measured:
        assert measured.where == "auto"
        next(measured.batches(3, 6))
        assert measured.where == "threads"


def test_the_faster_way_wins_and_what_fails_is_passed_over(monkeypatch):
    class Way:
        def __init__(self, where, rate):
            self.where, self.rate, self.closed = where, rate, False

        def close(self):
            self.closed = True

    def rate(feeder, workers, *, ahead):
        if feeder.rate is None:
            raise RuntimeError("no shared memory")
        return feeder.rate

    monkeypatch.setattr(feeders, "_rate", rate)
    threads, slow, fast, broken = (
        Way("threads", 10),
        Way("processes", 9),
        Way("processes", 11),
        Way("processes", None),
    )
    assert feeders._faster((10, threads), slow, 2) == (10, threads)
    assert feeders._faster((10, threads), broken, 2) == (10, threads)
    assert feeders._faster((10, threads), Way("device", 19), 2, gain=2) == (10, threads)
    assert not threads.closed
    assert slow.closed
    assert broken.closed
    assert feeders._faster((10, threads), fast, 2) == (11, fast)
    assert threads.closed


def test_foreground_patches_are_centred_on_labels_by_weight(cases):
    def centre_labels(count, **options):
        sampler = sampler_of(cases[1:], (3, 3, 3), foreground_fraction=1.0, **options)
        centres = [int(sampler.patch(step, 0)[1][1, 1, 1]) for step in range(count)]
        return np.bincount(centres, minlength=3)

    even = centre_labels(100)
    assert even[0] == 0
    assert even[1:].min() > 30
    weighted = centre_labels(100, weights=(1.0, 9.0))
    assert weighted[2] > 75
    assert centre_labels(20, weights=(0.0, 1.0)).tolist() == [0, 0, 20]


def test_weights_go_by_name_and_unknown_names_are_refused(phantom_config):
    config = phantom_config()
    names = [label.name for label in config.dataset.labels()]
    weighted = phantom_config(f"sampling.label_weights.{names[1]}=3")
    assert label_weights(config, 3) == (1.0, 1.0)
    assert label_weights(weighted, 3) == (1.0, 3.0)
    with pytest.raises(ConfigError, match=r"label_weights names nonsense, but the labels are"):
        label_weights(phantom_config("sampling.label_weights.nonsense=3"), 3)


def test_small_components_are_met_as_often_as_large_ones_when_asked(cases, monkeypatch):
    labels = np.zeros((20, 23, 12), np.uint8)
    labels[2:12, 2:12, 2:10] = 1
    labels[16, 18, 5] = 1
    places = sampling.CachedCase(cases[1].id, cases[1].grid, cases[1].folder, find(labels))

    def share_of_the_small_one(fraction):
        sampler = sampler_of([places], (3, 3, 3), foreground_fraction=1.0, component_fraction=fraction)
        rng = np.random.default_rng(0)
        return np.mean([sampler._centre(places, rng)[0] == 16 for _ in range(400)])

    assert share_of_the_small_one(1.0) == pytest.approx(0.5, abs=0.08)
    assert share_of_the_small_one(0.5) == pytest.approx(0.25, abs=0.08)
    assert share_of_the_small_one(0.0) < 0.02


def find(labels):
    from volseg.train.samples.places import find_places

    return find_places(labels)


def test_a_still_patch_is_a_cut_of_the_volume_and_lies_inside(cases):
    image, labels = cases[0].image[:], cases[0].labels[:]
    whole, classes = sampler_of(cases[:1], (9, 12, 7), foreground_fraction=0).patch(0, 0)
    assert np.array_equal(whole, image)
    assert np.array_equal(classes, labels)
    for step in range(10):
        patch, _ = sampler_of(cases[:1], (6, 5, 4), foreground_fraction=step % 2).patch(step, 0)
        windows = np.lib.stride_tricks.sliding_window_view(image[0], (6, 5, 4))
        assert (windows == patch[0].numpy()).all(axis=(3, 4, 5)).sum() == 1


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_margins_reach_beyond_the_case_and_what_is_answered_for_stays_inside(cases, fraction):
    """Otherwise the outermost voxels would never be trained."""
    image, labels = cases[0].image[:], cases[0].labels[:]
    margins, answered = (4, 2, 9), (3, 4, 2)
    patch = tuple(extent + 2 * margin for extent, margin in zip(answered, margins, strict=True))
    sampler = sampler_of(cases[:1], patch, margins=margins, foreground_fraction=fraction)
    padded, classes = (
        np.pad(array, [(0, 0)] * (array.ndim - 3) + [(m, m) for m in margins], mode="reflect")
        for array in (image, labels)
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded[0], patch)
    hits = np.zeros(labels.shape, int)
    for step in range(150):
        drawn, truth = sampler.patch(step, 0)
        (found,) = np.argwhere((windows == drawn[0].numpy()).all(axis=(3, 4, 5)))
        assert np.array_equal(
            truth, classes[tuple(slice(f, f + n) for f, n in zip(found, patch, strict=True))]
        )
        box = tuple(slice(f, f + n) for f, n in zip(found, answered, strict=True))
        assert fraction == 0 or labels[box].any()
        hits[box] += 1
    faces = [hits.take(side, axis) for axis in range(3) for side in (0, -1)]
    assert fraction == 1 or all(face.any() for face in faces)


def test_a_patch_that_is_looked_up_is_mirrored_in_its_margins_as_a_cut_is(cases):
    """A spatial change of nothing, taken through the look-up instead of as a cut."""
    margins, patch = (4, 2, 9), (11, 8, 20)
    still = {"rotation_degrees": 0, "scale": (1, 1), "axis_scale": 0, "elastic_mm": 0}
    looking_up = AugmentConfig(spatial_probability=1, intensity_probability=0, **still)
    whole = np.pad(cases[0].image[:], [(0, 0), *((m, m) for m in margins)], mode="reflect")[0]
    windows = np.lib.stride_tricks.sliding_window_view(whole, patch)
    for seed in range(6):
        raw = sampler_of(cases[:1], patch, looking_up, margins=margins, seed=seed).raw(0, 0)
        assert raw.patch_map.flips is None
        image, _ = raw.augmented(looking_up, CPU)
        assert np.abs(windows - image[0].numpy()).max(axis=(3, 4, 5)).min() < 1e-4


def test_a_volume_smaller_than_the_patch_is_centred_and_mirrored(cases):
    patch, labels = sampler_of(cases[:1], (15, 12, 7)).patch(0, 0)
    image = torch.from_numpy(cases[0].image[:])
    assert torch.equal(patch[:, 3:12], image)
    assert torch.equal(patch[:, :3], image[:, 1:4].flip(1))
    assert labels.shape == (15, 12, 7)


@pytest.mark.parametrize(("first", "extents"), [((1, 2, 3), (3, 4, 2)), ((-3, 5, -30), (9, 9, 70))])
def test_boxes_are_mirrored_beyond_the_border_and_only_the_inside_is_read(first, extents):
    volume = np.random.default_rng(0).normal(size=(2, 5, 8, 7))
    read = []

    class Array:
        shape = volume.shape

        def __getitem__(self, box):
            part = volume[box]
            read.append(part.size)
            return part

    found = read_box(Array(), np.array(first), np.array(extents))
    padded = np.pad(volume, [(0, 0)] + [(50, 50)] * 3, mode="reflect")
    box = tuple(slice(f + 50, f + 50 + e) for f, e in zip(first, extents, strict=True))
    assert np.array_equal(found, padded[:, *box])
    assert read[0] <= 2 * np.prod(np.minimum(extents, volume.shape[1:]))


def test_only_the_region_is_read(cases, monkeypatch):
    read = []

    class Watched:
        def __init__(self, array):
            self.array, self.shape = array, array.shape

        def __getitem__(self, box):
            read.append(self.array[box].size)
            return self.array[box]

    image, labels = cases[1].image[:], cases[1].labels[:]
    monkeypatch.setattr(sampling.CachedCase, "image", property(lambda _: Watched(image)))
    monkeypatch.setattr(sampling.CachedCase, "labels", property(lambda _: Watched(labels)))
    sampler_of(cases[1:], (4, 5, 3)).patch(0, 0)
    assert read == [60, 60]
    read.clear()
    turned = AugmentConfig(spatial_probability=1, rotation_degrees=10, elastic_mm=0.5)
    sampler_of(cases[1:], (4, 5, 3), augment=turned).patch(0, 0)
    assert max(read) < 5 * 60 < labels.size / 10


def test_2d_patches_are_slices_and_neighbours_become_channels(cases, source):
    image, labels = cases[1].image[:], cases[1].labels[:]
    sampler = sampler_of(cases[1:], (20, 23, 1), around=2, foreground_fraction=1.0)
    middles = set()
    for step in range(12):
        patch, classes = sampler.patch(step, 0)
        assert patch.shape == (5, 20, 23, 1)
        middle = [k for k in range(12) if np.array_equal(patch[2, ..., 0], image[0, ..., k])]
        assert len(middle) == 1
        assert np.array_equal(classes[..., 0], labels[..., middle[0]])
        for offset in range(-2, 3):
            k = abs(middle[0] + offset)
            k = min(k, 22 - k)
            assert np.array_equal(patch[offset + 2, ..., 0], image[0, ..., k]), "mirrored at the border"
        middles.add(middle[0])
    assert len(middles) > 1
    batch = drawn(source("tile.slices_around=1", patch="[6, 8, 1]"), 1, 1)[0]
    assert batch[2].shape == (2, 3, 6, 8, 1)
    assert batch[3].shape == (2, 6, 8, 1)
    with pytest.raises(ConfigError, match="set its last extent to 1"):
        source("tile.slices_around=1")


def test_channels_of_25d_patches_are_channel_major(make_case, cases, monkeypatch):
    volume = np.stack([np.zeros((20, 23, 12), np.float32), np.ones((20, 23, 12), np.float32)])
    volume += np.arange(12, dtype=np.float32) * 10
    monkeypatch.setattr(sampling.CachedCase, "image", property(lambda _: volume))
    turned = AugmentConfig(spatial_probability=1, rotation_degrees=20, intensity_probability=0)
    patch, _ = sampler_of(cases[1:], (6, 8, 1), augment=turned, around=1).patch(3, 0)
    values = patch.amax(dim=(1, 2, 3))
    assert torch.equal(values, patch.amin(dim=(1, 2, 3))), "slices are not mixed"
    assert (values[3:] - values[:3] == 1).all()
    assert (values[:3].diff().abs() == 10).all()


@pytest.mark.parametrize("error", [ConnectionResetError, EOFError])
def test_a_process_that_dies_while_it_hands_over_a_patch_is_told_as_such(error):
    class Broken:
        def __iter__(self):
            raise error

    feeder = object.__new__(feeders.ProcessFeeder)
    feeder._groups, feeder._loader = [], Broken()
    with pytest.raises(TrainingError, match="a process that prepares patches died"):
        list(feeder.feed([]))
