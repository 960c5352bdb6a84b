import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from volseg.cases import read_case
from volseg.config import dump_config
from volseg.errors import ConfigError
from volseg.evaluate import read_scores, write_scores
from volseg.labels import LabelRegion, LabelTable
from volseg.package import load_package
from volseg.postprocess.components import KeepLargest
from volseg.train.outcome.scoring import (
    cases_in_words,
    chosen_predictions,
    cross_validation_scores,
    folds_postprocess,
    held_out_predictions,
    score_cases,
    score_prediction,
)
from volseg.train.run import run_training
from volseg.train.split import held_out_cases, split_cases

ROOT = Path(__file__).parents[3]
FAST = ("steps=4", "validation.every_steps=4", "architecture.widths=[8, 8]", "split.folds=2")


def quiet(progress):
    pass


def run(phantom_config, folder, *overrides):
    config = phantom_config(*FAST, *overrides)
    return load_package(run_training(config, folder, device="cpu", report=quiet))


@pytest.fixture(scope="module")
def folds(phantom_config, tmp_path_factory):
    """Finished runs of both folds, f0 and f1; the second one was trained for less."""
    folder, keep = tmp_path_factory.mktemp("folds"), "postprocess=[{name: keep_largest, labels: [1]}]"
    run(phantom_config, folder / "f0", "split.fold=0", keep)
    run(phantom_config, folder / "f1", "split.fold=1", "steps=3", keep)
    return folder


@pytest.fixture
def train(phantom_config, tmp_path):
    return lambda name, *overrides: run(phantom_config, tmp_path / name, *overrides)


def test_a_model_of_all_cases_quotes_the_folds_and_takes_their_steps(train, folds, tmp_path):
    shutil.copytree(folds, tmp_path, dirs_exist_ok=True)
    runs = f"cross_validation=[{tmp_path / 'f0'}, {tmp_path / 'f1'}]"
    package = train("all", "split.fold=all", "postprocess=choose", runs)
    info = package.info
    assert info.training.case_count == 5
    assert {score.label: score.case_count for score in info.scores} == {"front": 5, "back": 5}
    scores = read_scores(tmp_path / "f0" / "scores.csv") + read_scores(tmp_path / "f1" / "scores.csv")
    front = [score.dice for score in scores if score.name == "front"]
    assert info.scores[0].means["dice"] == pytest.approx(sum(front) / 5, abs=1e-4)
    assert "did not see it" in info.scores[0].cases
    assert re.search(r"but for .*steps", info.scores[0].cases), "fold 1 was trained for less"
    assert [(step["name"], step["labels"]) for step in info.postprocess] == [("keep_largest", [1])]
    assert "2 runs of the folds" in package.card
    (tmp_path / "f1" / "phantom.volseg").unlink()
    with pytest.raises(ConfigError, match=r"phantom\.volseg: the package .* is missing"):
        train("again", "split.fold=all", "postprocess=choose", runs)
    assert not (tmp_path / "again").exists()


def test_a_model_of_all_cases_without_folds_has_no_scores(train):
    package = train("all", "split.fold=all")
    assert package.info.scores == []
    assert "no case was held out" in package.card


def test_two_runs_of_one_fold_are_refused(train, folds, tmp_path):
    runs = f"cross_validation=[{folds / 'f0'}, {folds / 'f0'}]"
    with pytest.raises(ConfigError, match="held out by two runs"):
        train("all", "split.fold=all", runs)
    assert not (tmp_path / "all").exists()  # told before the training, not after it
    with pytest.raises(ConfigError, match=r"split.fold = all"):
        train("f1", "split.fold=1", runs)


def test_a_run_of_another_split_or_none_at_all_is_refused(train, folds, phantom_config, tmp_path):
    shutil.copytree(folds / "f0", tmp_path / "other")
    other = phantom_config(*FAST, "split.fold=0", "split.seed=1")
    (tmp_path / "other" / "config.yaml").write_text(dump_config(other))
    with pytest.raises(ConfigError, match="another split"):
        train("all", "split.fold=all", f"cross_validation=[{tmp_path / 'other'}]")
    with pytest.raises(ConfigError, match="no finished training run"):
        train("all2", "split.fold=all", f"cross_validation=[{tmp_path / 'nothing'}]")


def test_all_means_that_every_case_is_trained_on(phantom_config):
    training, held_out = split_cases(phantom_config("split.fold=all"))
    assert len(training) == 5
    assert held_out == []


def test_a_model_of_all_cases_cannot_be_scored_on_held_out_ones():
    config = ROOT / "configs" / "smoke" / "train_phantom.yaml"
    overrides = [f"dataset.root={ROOT / 'data_samples' / 'msd_phantom'}"]
    assert len(held_out_cases(config, overrides)) == 1
    with pytest.raises(ConfigError, match=r"split\.fold=0"):
        held_out_cases(config, [*overrides, "split.fold=all"])


class SpeckledTruth:
    """Stands for a model: it finds the truth, and a speck of label 1 far away."""

    calls = 0

    def __init__(self, package, *, device):
        self._references = package.references

    def predict(self, volume):
        type(self).calls += 1
        reference = self._references[volume.grid.affine[0, 3]]
        array = reference.array.copy()
        array[0, 0, 6] = 1
        return SimpleNamespace(label_map=reference.with_array(array))


@pytest.fixture
def speckled(make_case, monkeypatch):
    """A package in name, and three cases: labels 1 and 4, and their union as a region."""
    monkeypatch.setattr("volseg.train.outcome.scoring.Predictor", SpeckledTruth)
    SpeckledTruth.calls = 0
    cases = [make_case(name) for name in "abc"]
    _, reference = read_case(cases[0])
    labels = LabelTable.from_names(["front", "two", "three", "back"])
    info = SimpleNamespace(label_table=labels, label_regions=(LabelRegion("both", (1, 4), 1),))
    return SimpleNamespace(info=info, references={reference.grid.affine[0, 3]: reference}), cases


def test_one_pass_of_the_network_serves_choosing_and_scoring(speckled):
    package, cases = speckled
    raw = score_cases(package, cases, device="cpu")
    assert [(score.case, score.name) for score in raw[:5]] == [
        ("a", name) for name in ("front", "two", "three", "back", "both")
    ]
    assert raw[0].dice < 1
    SpeckledTruth.calls = 0
    choice, predictions = chosen_predictions(package, cases, device="cpu")
    assert choice.steps == (KeepLargest(united=True),)
    found = list(predictions)
    assert SpeckledTruth.calls == 3
    assert [held_out.case.id for held_out in found] == ["a", "b", "c"]
    for held_out, plain in zip(found, held_out_predictions(package, cases, device="cpu"), strict=True):
        np.testing.assert_array_equal(held_out.found.array, choice.steps[0](plain.found).array)
        np.testing.assert_array_equal(held_out.reference.array, plain.reference.array)
        assert held_out.found.array.dtype == plain.found.array.dtype
        assert held_out.found.grid is plain.found.grid or held_out.found.grid.is_same(plain.found.grid)
        assert {score.dice for score in score_prediction(held_out, package.info)} == {1.0}


def test_regions_of_one_case_are_not_taken_for_two_runs(speckled, phantom_config, tmp_path):
    package, cases = speckled
    package.info.label_regions += (LabelRegion("back alone", (4,), 4),)
    (tmp_path / "f0").mkdir()
    (tmp_path / "f0" / "config.yaml").write_text(dump_config(phantom_config("split.fold=0")))
    scores = score_cases(package, cases, device="cpu")
    write_scores(scores, tmp_path / "f0" / "scores.csv")
    config = phantom_config("split.fold=all", f"cross_validation=[{tmp_path / 'f0'}]")
    assert cross_validation_scores(config, ["a", "b", "c"]) == scores
    with pytest.raises(ConfigError, match="c is no case"):
        cross_validation_scores(config, ["a", "b"])


def test_the_words_say_where_postprocessing_was_chosen(phantom_config, tmp_path):
    assert "chosen" not in cases_in_words(phantom_config())
    assert "chosen on these same cases" in cases_in_words(phantom_config("postprocess=choose"))
    alone = folds_postprocess(phantom_config("postprocess=choose", "split.fold=all"))
    assert alone.steps == ()
    assert "no held-out case" in alone.notes[0]
    words = cases_in_words(phantom_config(f"split.file={tmp_path / 'splits.json'}"))
    assert words == "held-out fold 0 (of splits.json), not used in training"
