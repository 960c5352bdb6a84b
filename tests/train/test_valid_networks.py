"""Training of networks whose logits are smaller than their patches."""

import numpy as np
import pytest
import torch

import volseg
from volseg.cli.app import run
from volseg.errors import ConfigError
from volseg.io import read_label_map, read_volume
from volseg.models.extents import ExtentRule
from volseg.package import load_package
from volseg.train.data import load_data
from volseg.train.distributed import Ranks
from volseg.train.loop import Trainer
from volseg.train.losses.heads import training_loss
from volseg.train.optimise import check_boxes, check_extents
from volseg.train.priors import channel_shares
from volseg.train.run import run_training
from volseg.train.samples.patches import Batch
from volseg.train.split import split_cases
from volseg.train.step import Stepper

VALID = (
    *("architecture.padding=valid", "architecture.widths=[8, 8]", "architecture.norm=batch"),
    *("steps=6", "validation.every_steps=3", "validation.previews=1"),
)
IN_3D = ("patch_voxels=[26, 24, 22]", "tile={tile_voxels: [30, 34, 26], overlap: 0}")
IN_2D = (
    *("architecture.dimensions=2", "architecture.name=unet", "patch_voxels=[26, 28, 1]", "batch_size=8"),
    *("tile={tile_voxels: [34, 30, 1], overlap: 0}", "augment.mirror_axes=[0]"),
)
RULE_OF_2015 = ExtentRule((16, 16), (12, 12), (92, 92), (188, 188))


def quiet(progress):
    pass


@pytest.mark.parametrize("overrides", [IN_3D, IN_2D], ids=["3d", "2d"])
def test_they_train_validate_and_predict_through_the_same_path(phantom_config, tmp_path, overrides):
    config = phantom_config(*VALID, *overrides)
    seen = []
    path = run_training(config, tmp_path / "run", device="cpu", report=seen.append)
    assert len(seen) == 6
    assert seen[-1].dice is not None
    package = load_package(path)
    assert package.info.architecture["padding"] == "valid"
    assert package.info.tile.tile_voxels == config.tile.tile_voxels
    scan = split_cases(config)[1][0].images[0]
    found = tmp_path / "found.nii.gz"
    assert run(["predict", str(scan), "-m", str(path), "-o", str(found), "--device", "cpu"]) == 0
    label_map = read_label_map(found)
    assert label_map.grid.shape == read_volume(scan).grid.shape
    assert np.array_equal(label_map.array, volseg.predict(scan, model=path, device="cpu").array)


@pytest.mark.slow
def test_they_learn(phantom_config, tmp_path):
    config = phantom_config(*VALID, *IN_3D, "steps=120", "validation.every_steps=120")
    path = run_training(config, tmp_path / "run", device="cpu", report=quiet)
    assert min(score.means["dice"] for score in load_package(path).info.scores) > 0.7


def test_the_truth_of_a_patch_is_the_middle_of_its_labels(phantom_config, tmp_path):
    """On patches whose margins say something else, and with margins that differ along the axes."""
    kernels = "architecture.kernel_sizes=[[3, 3, 1], [1, 3, 3]]"
    config = phantom_config(
        *VALID, *IN_3D[1:], "patch_voxels=[16, 24, 14]", kernels, "architecture.norm=none"
    )
    data = load_data(config, split_cases(config), tmp_path / "cache")
    torch.manual_seed(0)
    module = config.architecture.build(1, data.code.channels)
    margins = module.extents.margins
    assert margins == (4, 8, 4)
    stepper = Stepper(module, config, data.code, precision="fp32", ranks=Ranks())
    assert stepper.margins == margins
    images, labels = torch.randn(2, 1, 16, 24, 14), torch.randint(0, 3, (2, 16, 24, 14))
    loss = stepper.gradients([Batch(1, 0, images, labels)], progress=0.5)
    middle = labels[:, 4:12, 8:16, 4:10]
    expected = training_loss([*module(images)], data.code.encode(middle), config.loss, progress=0.5)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    changed = labels.clone()
    changed[:, :4] = changed[:, :, 16:] = changed[..., 10:] = 0
    assert stepper.gradients([Batch(1, 0, images, changed)], progress=0.5) == loss


def test_they_start_at_the_shares_of_the_labels(phantom_config, tmp_path):
    config = phantom_config(*VALID, *IN_2D)
    data = load_data(config, split_cases(config), tmp_path / "cache")
    trainer = Trainer(config, data, tmp_path, device="cpu")
    shares = channel_shares(data.training, data.code)
    for head in trainer.module.heads.values():
        assert torch.allclose(head.bias.softmax(0), shares / shares.sum(), atol=1e-6)


def test_the_message_names_the_extents_to_use_and_what_they_give():
    with pytest.raises(
        ConfigError, match=r"use \[572, 572, 1\], for which it gives logits of \[388, 388, 1\]"
    ):
        check_extents("patch_voxels", (560, 570, 1), RULE_OF_2015)
    with pytest.raises(ConfigError, match=r"use \[16, 32, 16\]\.$"):
        check_extents("patch_voxels", (16, 17, 16), ExtentRule.multiples_of((16, 16, 16)))


def test_tiles_that_would_leave_gaps_are_refused_before_the_training(phantom_config):
    config = phantom_config(*VALID, "patch_voxels=[188, 188, 1]", "tile={tile_voxels: [188, 188, 1]}")
    with pytest.raises(ConfigError, match=r"use tile.tile_voxels \[204, 204, 1\]"):
        check_boxes(config, RULE_OF_2015)
