"""A whole pre-training: what it writes, that it learns, stops, goes on exactly, and what it refuses."""

import hashlib
import json
import os
import signal
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import volseg
from volseg.config import load_config
from volseg.errors import ConfigError, InputError, OutputError, TrainingError
from volseg.models import MODELS
from volseg.pretrain import run
from volseg.pretrain.run import Listeners, run_pretraining, steps_within
from volseg.pretrain.settings import PretrainConfig, from_training, load_pretraining
from volseg.pretrain.step import Learner
from volseg.train.interrupt import PausedError
from volseg.train.records.log import read_log
from volseg.train.settings import TrainConfig

ROOT = Path(__file__).parents[2]


def test_the_folder_holds_what_was_learned_and_from_what(quick, tmp_path):
    config = quick("contrastive.weight=0.5")
    encoder = run_pretraining(config, tmp_path / "run", device="cpu")
    names = {path.name for path in encoder.parent.iterdir()}
    assert names >= {
        "encoder.safetensors",
        "pretrain.yaml",
        "scans.json",
        "log.csv",
        "curves.png",
        "preview.png",
    }
    network = MODELS.build({"name": "unetpp", "widths": [4, 8]}).build(1, 3)
    assert load_file(encoder).keys() == network.encoder.state_dict().keys()
    with safe_open(encoder, "pt") as opened:
        metadata = opened.metadata()
    seen = json.loads((tmp_path / "run" / "scans.json").read_text())
    assert metadata["case_count"] == "3"
    assert metadata["case_ids_sha256"] == hashlib.sha256("\n".join(seen["training"]).encode()).hexdigest()
    assert json.loads(metadata["architecture"])["widths"] == [4, 8]
    assert (metadata["steps"], metadata["tasks"]) == ("4", "masked contrastive")
    assert metadata["volseg_version"] == volseg.__version__
    assert load_config(tmp_path / "run" / "pretrain.yaml", PretrainConfig) == config
    rows = read_log(tmp_path / "run" / "log.csv")
    assert [row["step"] for row in rows] == [2, 4]
    assert json.loads(metadata["measured"])["held_out_error"] == pytest.approx(
        rows[-1]["held_out_error"], rel=1e-4
    )
    with pytest.raises(OutputError, match="holds a pre-training already"):
        run_pretraining(config, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("off", "columns"),
    [
        ("contrastive.weight=0", {"masked_loss", "held_out_error", "mean_error", "nearest_error"}),
        ("masked.weight=0", {"contrastive_loss", "pairs_found", "pairs_by_chance"}),
    ],
)
def test_a_task_that_is_off_leaves_nothing(quick, tmp_path, off, columns):
    fraction = "held_out.fraction=0.6"
    run_pretraining(quick(off, fraction, "split.fold=all"), tmp_path / "run", device="cpu")
    rows = read_log(tmp_path / "run" / "log.csv")
    always = {"step", "loss", "learning_rate", "seconds", "waited", "patches_per_second"}
    assert set(rows[-1]) - always == columns
    assert (tmp_path / "run" / "preview.png").exists() == ("masked_loss" in columns)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_2d_network_with_neighbour_slices_learns(quick, tmp_path, precision):
    config = quick(
        "architecture={name: unetpp, dimensions: 2, widths: [4, 8]}", "patch_voxels=[12,16,1]", "slices_around=1",
        f"precision={precision}", "masked.cube_voxels=null", "steps=2",
    )  # fmt: skip
    encoder = load_file(run_pretraining(config, tmp_path / "run", device="cpu"))
    assert encoder["stages.0.block.convs.0.weight"].shape[1] == 3


def test_hidden_parts_of_unseen_scans_are_said_better_than_by_their_mean(quick, tmp_path):
    overrides = [
        "steps=40",
        "held_out.every_steps=40",
        "contrastive.weight=0",
        "optimizer.learning_rate=1e-2",
    ]
    run_pretraining(quick(*overrides, "optimizer.ema_decay=0"), tmp_path / "run", device="cpu")
    row = read_log(tmp_path / "run" / "log.csv")[-1]
    assert row["held_out_error"] < 0.8 * row["mean_error"]


def test_an_interrupted_run_goes_on_bit_for_bit(quick, tmp_path):
    config = quick("steps=6", "augment.elastic_mm=2")
    straight = load_file(run_pretraining(config, tmp_path / "a", device="cpu"))

    def interrupt(progress):
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(PausedError, match="saved at step 3"):
        run_pretraining(config, tmp_path / "b", device="cpu", listeners=Listeners(progress=interrupt))
    resumed = load_file(run_pretraining(config, tmp_path / "b", device="cpu", resume=True))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    logs = [read_log(tmp_path / name / "log.csv") for name in "ab"]
    for one, other in zip(*logs, strict=True):
        kept = {name for name in one if name not in {"seconds", "waited", "patches_per_second"}}
        assert {name: one[name] for name in kept} == {name: other[name] for name in kept}


def test_a_run_goes_on_with_its_own_settings_and_scans_only(quick, tmp_path):
    run_pretraining(quick("steps=2"), tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match="was written with another masked"):
        run_pretraining(quick("steps=2", "masked.hidden=0.3"), tmp_path / "run", device="cpu", resume=True)
    with pytest.raises(InputError, match="the run began with 3 scans"):
        run_pretraining(quick("steps=2", "held_out.fraction=0"), tmp_path / "run", device="cpu", resume=True)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch(quick, tmp_path, monkeypatch):
    from volseg.pretrain import step

    monkeypatch.setattr(step, "reconstruction_error", lambda found, *_: found.sum() * np.nan)
    with pytest.raises(TrainingError, match="the loss became nan at step 1"):
        run_pretraining(quick(), tmp_path / "run", device="cpu")
    images = load_file(tmp_path / "run" / "nan_batch.safetensors")["images"]
    assert images.shape == (4, 1, 12, 16, 12)
    assert not (tmp_path / "run" / "encoder.safetensors").exists()


def test_a_patch_that_does_not_suit_the_network_is_refused_before_scans_are_read(quick, tmp_path):
    config = quick("patch_voxels=[12,15,12]", "dataset.root=/nowhere")
    with pytest.raises(
        ConfigError, match=r"patch_voxels \[12, 15, 12\] does not suit the network; use \[12, 16, 12\]"
    ):
        run_pretraining(config, tmp_path / "run", device="cpu")


def test_a_budget_becomes_steps(quick, monkeypatch):
    """By a clock on which every step takes half a second."""
    ticks = count(0, 0.5)
    monkeypatch.setattr(run.time, "perf_counter", lambda: next(ticks))
    config = quick("optimizer.warmup_steps=2")
    begun = run._TIMED_STEPS * 0.5
    assert steps_within(begun + 100.0, config, 1, device="cpu") == int(run._BUDGET_SHARE * 200)
    with pytest.raises(ConfigError, match=r"a step takes 0\.5 s here, so 1 steps fit .* fewer than the 3 of"):
        steps_within(begun + 1.0, config, 1, device="cpu")


def test_views_of_one_place_follow_each_other_and_lie_apart(quick, tmp_path):
    from volseg.pretrain.data import load_scans
    from volseg.pretrain.measure import patch_sampler
    from volseg.pretrain.scans import find_cases

    config = quick("augment.spatial_probability=0", "augment.mirror_axes=[]", "patch_voxels=[8,8,8]")
    config = config.model_copy(
        update={"augment": config.augment.model_copy(update={"intensity_probability": 0})}
    )
    data = load_scans(find_cases(config), config, tmp_path / "cache")
    sampler = patch_sampler(config, data.training)
    starts = []
    for step in range(40):
        one, other = sampler.raw(step, 2), sampler.raw(step, 3)
        arrays = [np.asarray(case.image[:]) for case in data.training]
        places = [_place(arrays, raw.image.numpy()) for raw in (one, other)]
        assert places[0][0] == places[1][0], "of one case"
        starts.append(np.array(places[1][1:]) - places[0][1:])
    apart = np.abs(starts)
    assert apart.max() <= np.ceil(8 * (1 - config.contrastive.overlap))
    assert (apart > 0).any(axis=1).mean() > 0.5
    assert any(
        _place(arrays, sampler.raw(1, 0).image.numpy()) != _place(arrays, sampler.raw(1, n).image.numpy())
        for n in (2, 4)
    )


def _place(arrays, cut):
    """Case and first voxel of a cut."""
    for number, array in enumerate(arrays):
        windows = np.lib.stride_tricks.sliding_window_view(array[0], cut.shape[1:])
        found = np.argwhere((windows == cut[0]).all(axis=(3, 4, 5)))
        if len(found):
            return (number, *found[0].tolist())
    raise AssertionError


def test_the_encoder_of_a_training_is_meant_where_its_file_is_given(tmp_path):
    training = load_config(ROOT / "configs/smoke/train_phantom.yaml", TrainConfig)
    config = load_pretraining(ROOT / "configs/smoke/train_phantom.yaml", ["steps=7"])
    assert config == from_training(training).model_copy(update={"steps": 7})
    for name in ("dataset", "split", "preprocess", "architecture", "patch_voxels", "augment"):
        assert getattr(config, name) == getattr(training, name)
    assert config.batch_size == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["masked.weight=0", "contrastive.weight=0"], "no task to learn"),
        (["batch_size=3"], "batch_size must be even"),
        (["slices_around=1"], "2D network"),
        (["optimizer.schedule=plateau"], "take cosine or poly"),
    ],
)
def test_settings_that_make_no_sense_are_refused(quick, overrides, message):
    with pytest.raises(ConfigError, match=message):
        quick(*overrides)


def test_the_hidden_cubes_of_a_step_do_not_depend_on_what_came_before(quick):
    learner = Learner(quick(), 1, torch.device("cpu"))
    images = torch.randn(4, 1, 12, 16, 12)
    first = learner.hidden(images, (0, 5)).hidden
    torch.randn(9)
    assert torch.equal(learner.hidden(images, (0, 5)).hidden, first)
    assert not torch.equal(learner.hidden(images, (0, 6)).hidden, first)
