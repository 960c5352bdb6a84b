import numpy as np
import pytest
import torch

from volseg.errors import InputError, OutputError, TrainingError
from volseg.infer.predictor import check_golden
from volseg.io import read_label_map, read_volume
from volseg.package import load_package
from volseg.train.checkpoint import load_checkpoint
from volseg.train.data import load_data
from volseg.train.loop import Trainer
from volseg.train.records.log import read_log
from volseg.train.run import run_training
from volseg.train.settings import TrainConfig
from volseg.train.split import split_cases


def quiet(progress):
    pass


FAST = ("steps=6", "validation.every_steps=3", "validation.previews=1", "architecture.widths=[8, 8]")


@pytest.fixture(scope="module")
def learned(phantom_config, tmp_path_factory):
    """Half of the smoke training: its settings, its package and what a display was told."""
    seen = []
    golden = f"golden={phantom_config().dataset.root / 'imagesTr'}/phantom_001.nii.gz"
    config = phantom_config(golden, "steps=80", "validation.every_steps=20")
    folder = tmp_path_factory.mktemp("learned") / "run"
    return config, run_training(config, folder, device="cpu", report=seen.append), seen


def test_training_learns_the_phantom_and_the_package_finds_it(learned):
    config, path, seen = learned
    assert [progress.step for progress in seen] == list(range(1, 81))
    assert seen[-1].loss < seen[0].loss / 2
    package = load_package(path)
    assert {score.label: score.case_count for score in package.info.scores} == {"front": 1, "back": 1}
    assert min(score.means["dice"] for score in package.info.scores) > 0.7
    assert check_golden(package) > 0.99
    assert "not a medical device" in package.card
    names = {entry.name for entry in path.parent.iterdir()}
    assert names >= {
        "config.yaml",
        "log.csv",
        "curves.png",
        "last.pt",
        "best.pt",
        "scores.csv",
        "phantom.volseg",
    }
    (case,) = split_cases(config)[1]
    previews = {entry.name for entry in (path.parent / "previews").iterdir()}
    assert previews == {f"worst_1_{case.id}_{kind}.png" for kind in ("found", "true")}
    log = read_log(path.parent / "log.csv")
    assert [row["step"] for row in log if "dice_front" in row] == [20, 40, 60, 80]


def test_a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does(phantom_config, tmp_path):
    config = phantom_config(*FAST)
    run_training(config, tmp_path / "whole", device="cpu", report=quiet)

    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(config, tmp_path / "parts", device="cpu", report=stop)
    assert load_checkpoint(tmp_path / "parts" / "last.pt").step == 3, "the last validation"
    run_training(config, tmp_path / "parts", device="cpu", resume=True, report=quiet)
    whole, parts = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    for name in whole.state["module"]:
        assert torch.equal(whole.state["module"][name], parts.state["module"][name])
        assert torch.equal(whole.state["average"][name], parts.state["average"][name])
    assert whole.losses == parts.losses
    logs = [read_log(tmp_path / name / "log.csv") for name in ("whole", "parts")]
    for row in (*logs[0], *logs[1]):
        for name in ("seconds", "waited", "patches_per_second"):
            row.pop(name, None)
    assert logs[0] == logs[1]
    packages = [load_package(tmp_path / name / "phantom.volseg") for name in ("whole", "parts")]
    assert packages[0].members["weights.safetensors"] == packages[1].members["weights.safetensors"]


def test_held_out_cases_are_never_trained_on(phantom_config):
    training, held_out = split_cases(phantom_config())
    assert len(training) == 4
    assert len(held_out) == 1
    assert not {case.id for case in training} & {case.id for case in held_out}


def test_a_run_folder_is_not_overwritten_and_a_resume_needs_the_same_settings(phantom_config, tmp_path):
    config = phantom_config(*FAST, "steps=2")
    run_training(config, tmp_path, device="cpu", report=quiet)
    with pytest.raises(OutputError, match="is not empty"):
        run_training(config, tmp_path, device="cpu", report=quiet)
    other = phantom_config(*FAST, "steps=2", "seed=1", "optimizer.learning_rate=1")
    with pytest.raises(InputError, match="written with another optimizer and seed"):
        run_training(other, tmp_path, device="cpu", resume=True, report=quiet)
    renamed = phantom_config(*FAST, "steps=2", "card.name=renamed")
    assert run_training(renamed, tmp_path, device="cpu", resume=True, report=quiet).name == "renamed.volseg"


def test_2d_models_train_and_predict_through_the_same_path(phantom_config, tmp_path):
    config = phantom_config(
        *FAST, "architecture.dimensions=2", "patch_voxels=[20, 24, 1]", "tile.tile_voxels=[20, 24, 1]"
    )
    assert isinstance(config, TrainConfig)
    path = run_training(config, tmp_path, device="cpu", report=quiet)
    package = load_package(path)
    assert package.weights()["encoder.stages.0.block.convs.0.weight"].ndim == 4
    assert package.info.architecture["dimensions"] == 2


def test_scores_in_the_card_are_those_of_the_packed_model(learned):
    import volseg

    config, path, _ = learned
    _, held_out = split_cases(config)
    found = volseg.predict(read_volume(held_out[0].images), model=path).array
    true = read_label_map(held_out[0].label).array
    for score, value in zip(load_package(path).info.scores, (1, 2), strict=True):
        both = np.count_nonzero((found == value) & (true == value))
        sizes = np.count_nonzero(found == value) + np.count_nonzero(true == value)
        assert score.means["dice"] == pytest.approx(2 * both / sizes, abs=1e-4)


def test_a_training_that_diverges_stops_and_leaves_the_checkpoint_before(phantom_config, tmp_path):
    def poison(progress):
        if progress.step == 3:
            with torch.no_grad():
                trainer.module.heads["1"].bias.fill_(float("nan"))

    config = phantom_config(*FAST, "validation.every_steps=2")
    trainer = Trainer(
        config, load_data(config, split_cases(config), tmp_path / "cache"), tmp_path, device="cpu"
    )
    with pytest.raises(TrainingError, match="loss became nan at step 4"):
        trainer.run(poison)
    assert load_checkpoint(tmp_path / "last.pt").step == 2
