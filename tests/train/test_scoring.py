from pathlib import Path

import pytest

from volseg.errors import ConfigError
from volseg.evaluate import read_scores
from volseg.package import load_package
from volseg.train.run import held_out_cases, run_training, split_cases

ROOT = Path(__file__).parents[2]
FAST = ("steps=4", "validation.every_steps=4", "architecture.widths=[8, 8]", "split.folds=2")


def quiet(progress):
    pass


@pytest.fixture
def train(phantom_config, tmp_path):
    def run(name, *overrides):
        config = phantom_config(*FAST, *overrides)
        return load_package(run_training(config, tmp_path / name, device="cpu", report=quiet))

    return run


def test_a_model_of_all_cases_quotes_the_folds_and_says_so(train, tmp_path):
    train("f0", "split.fold=0")
    train("f1", "split.fold=1", "steps=3")
    runs = f"cross_validation=[{tmp_path / 'f0'}, {tmp_path / 'f1'}]"
    info = train("all", "split.fold=all", runs).info
    assert info.training.case_count == 5
    assert {score.label: score.case_count for score in info.scores} == {"front": 5, "back": 5}
    folds = read_scores(tmp_path / "f0" / "scores.csv") + read_scores(tmp_path / "f1" / "scores.csv")
    front = [score.dice for score in folds if score.name == "front"]
    assert info.scores[0].means["dice"] == pytest.approx(sum(front) / 5, abs=1e-4)
    assert "did not see it" in info.scores[0].cases
    assert "but for steps" in info.scores[0].cases  # fold 1 was trained for less


def test_a_model_of_all_cases_without_folds_has_no_scores(train):
    package = train("all", "split.fold=all")
    assert package.info.scores == []
    assert "no case was held out" in package.card


def test_two_runs_of_one_fold_are_refused(train, tmp_path):
    train("f0", "split.fold=0")
    runs = f"cross_validation=[{tmp_path / 'f0'}, {tmp_path / 'f0'}]"
    with pytest.raises(ConfigError, match="held out by two runs"):
        train("all", "split.fold=all", runs)
    assert not (tmp_path / "all").exists()  # told before the training, not after it
    with pytest.raises(ConfigError, match=r"split.fold = all"):
        train("f1", "split.fold=1", runs)


def test_a_run_of_another_split_or_none_at_all_is_refused(train, tmp_path):
    train("other", "split.fold=0", "split.seed=1")
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
