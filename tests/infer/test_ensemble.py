"""Several models as one: the mean of their logits, of models that belong together only."""

import numpy as np
import pytest
import torch

from tests.infer.test_predictor import noise, oblique_grid
from tests.locate.heads import read_template
from volseg.errors import PackageError
from volseg.infer.engines import package_engine
from volseg.infer.ensemble import load_ensemble
from volseg.infer.predictor import Predictor
from volseg.infer.sliding import logit_slabs
from volseg.package import LabelInfo, Package, TileInfo
from volseg.volume import Volume


@pytest.fixture
def make_fold(make_info):
    """As make_package, with other thresholds: label 2 from `low`, label 7 from `high`."""

    def make(low=1.0, high=3.0, **fields):
        weights = {"scale": np.float32([0, 1, 2]), "offset": np.float32([0, -low, -low - high])}
        return Package.pack(make_info(**fields), weights=weights, card="", golden=None)

    return make


@pytest.mark.parametrize("count", [2, 3, 5])
def test_identical_models_give_what_one_gives_bit_for_bit(make_fold, count):
    volume = noise()
    single = Predictor(make_fold(), device="cpu").predict(volume, keep_probabilities=True)
    several = Predictor([make_fold()] * count, device="cpu").predict(volume, keep_probabilities=True)
    assert np.array_equal(single.label_map.array, several.label_map.array)
    assert single.probabilities is not None
    assert several.probabilities is not None
    assert np.array_equal(single.probabilities.array, several.probabilities.array)
    assert several.warnings == ()


def test_the_logits_are_averaged_before_the_label_is_chosen(make_fold):
    packages = [make_fold(1, 3), make_fold(2, 4), make_fold(0, 1)]
    volume = noise()
    logits = np.mean(
        [
            np.stack([0 * volume.array[0], volume.array[0] - low, 2 * volume.array[0] - low - high])
            for low, high in ((1, 3), (2, 4), (0, 1))
        ],
        axis=0,
    )
    found = Predictor(packages, device="cpu").predict(volume, keep_probabilities=True)
    assert np.array_equal(found.label_map.array, np.array([0, 2, 7])[logits.argmax(axis=0)])
    softmax = np.exp(logits) / np.exp(logits).sum(axis=0)
    assert found.probabilities is not None
    assert np.allclose(found.probabilities.array, softmax, atol=1e-5)
    assert found.channel_names == ("background", "bright", "brightest")


def test_the_mean_is_taken_over_flips_of_each_model_too(make_info, make_package):
    plain, mirrored = make_package(), make_package(mirror_axes=[0])
    batch = np.random.default_rng(0).normal(size=(2, 1, 4, 5, 3)).astype(np.float32)
    wanted = (package_engine(plain, device="cpu")(batch) + package_engine(mirrored, device="cpu")(batch)) / 2
    assert np.allclose(load_ensemble([plain, mirrored], device="cpu")(batch), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("preprocess", {"preprocess": [{"name": "zscore", "region": "all"}]}),
        ("tile", {"tile": TileInfo(tile_voxels=(4, 5, 3), overlap=0.25)}),
        ("channels", {"channels": [{"name": "T2", "modality": "MR"}]}),
        ("labels", {"labels": [LabelInfo(value=v, name=str(v), colour=(v, 0, 0)) for v in (1, 2)]}),
        ("locate", {"locate": {"name": "crop"}}),
        ("largest_mm", {"largest_mm": (10, 10, 10)}),
        ("regions", {"regions": [{"name": n, "values": [2], "paint": 2} for n in "abc"]}),
    ],
)
def test_models_that_do_not_belong_together_are_refused_by_what_differs(make_fold, name, fields):
    with pytest.raises(PackageError, match=f"cannot answer as one: they differ in {name} "):
        Predictor([make_fold(), make_fold(), make_fold(**fields)], device="cpu")


def test_models_with_other_templates_are_refused(make_info, make_fold):
    first = make_fold()
    second = Package.pack(first.info, weights=first.weights(), card="", golden=None, template=read_template())
    with pytest.raises(PackageError, match="differ in the template"):
        Predictor([first, second], device="cpu")


def test_no_model_at_all():
    with pytest.raises(PackageError, match="no model package"):
        Predictor([], device="cpu")


def test_the_order_in_which_labels_are_listed_does_not_matter(make_fold, make_info):
    turned = make_fold(labels=list(reversed(make_info().labels)))
    assert len(Predictor([make_fold(), turned], device="cpu").packages) == 2


def test_postprocess_steps_are_those_that_most_models_have(make_fold):
    largest, holes = {"name": "keep_largest"}, {"name": "fill_holes"}
    array = np.zeros((9, 8, 7), np.float32)
    array[1:4, 1:4, 1:4] = 4
    array[2, 2, 2] = 0
    array[7, 6, 5] = 4
    volume = Volume(array, oblique_grid(array.shape))
    folds = [make_fold(postprocess=[largest, holes]), make_fold(postprocess=[largest]), make_fold()]
    found = Predictor(folds, device="cpu").predict(volume)
    assert np.count_nonzero(found.label_map.array) == 26
    assert len(found.warnings) == 1
    assert "3 models differ in their postprocess" in found.warnings[0]
    assert "keep_largest" in found.warnings[0]
    assert "fill_holes" not in found.warnings[0]
    tied = Predictor(folds[1:], device="cpu").predict(volume)
    assert np.count_nonzero(tied.label_map.array) == 27
    assert tied.warnings[0].endswith("none")


def test_memory_that_runs_out_in_one_model_loses_no_tile(make_fold, monkeypatch):
    packages = [make_fold(), make_fold(2, 4)]
    volume = noise((12, 11, 9))
    wanted = Predictor(packages, device="cpu").predict(volume).label_map.array
    ensemble = load_ensemble(packages, device="cpu")
    weak = ensemble._engines[1]
    weak.device, weak.tiles_per_batch = torch.device("cuda"), 4
    run, seen = weak._run, []

    def run_or_fail(batch):
        seen.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return run_on_cpu(batch)

    def run_on_cpu(batch):
        weak.device = torch.device("cpu")
        try:
            return run(batch)
        finally:
            weak.device = torch.device("cuda")

    monkeypatch.setattr(weak, "_run", run_or_fail)
    info = packages[0].info
    slabs = list(logit_slabs(volume.array, ensemble, info.tile, info.channel_count))
    assert [slab.start for slab in slabs] == [0, *(slab.stop for slab in slabs[:-1])]
    assert slabs[-1].stop == 12
    logits = np.concatenate([slab.logits for slab in slabs], axis=1)
    assert np.array_equal(np.array([0, 2, 7])[logits.argmax(axis=0)], wanted)
    assert max(seen[1:]) == 2
