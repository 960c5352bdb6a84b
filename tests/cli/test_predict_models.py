"""`volseg predict` with several models, with the folds of a run folder, and with a model of regions."""

import json
import shutil

import numpy as np
import pytest
import torch

import volseg
from tests.cli.conftest import tiny_info
from volseg.models.unetpp import UNetPlusPlus
from volseg.package import write_package


def write_fold(path, *, seed, **changes):
    """The untrained network of `tiny_package` with other weights."""
    info = tiny_info(1)
    info = type(info).model_validate({**info.model_dump(mode="json"), **changes})
    torch.manual_seed(seed)
    network = UNetPlusPlus(dimensions=3, widths=(4, 6)).build(info.in_channels, info.channel_count)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_package(path, info=info, weights=weights, card="# Tiny\n", golden=None)
    return path


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    run = tmp_path_factory.mktemp("models") / "run"
    for fold in range(3):
        write_fold(run / f"fold{fold}" / "tiny.volseg", seed=fold)
    return run


REGIONS = [
    {"name": "whole", "values": [1, 4], "paint": 1},
    {"name": "core", "values": [4], "paint": 4},
]


@pytest.fixture(scope="module")
def region_package(tmp_path_factory):
    return write_fold(tmp_path_factory.mktemp("models") / "regions.volseg", seed=5, regions=REGIONS)


def test_the_same_package_twice_gives_what_it_gives_alone(volseg_cli, scan, tiny_package, tmp_path):
    copy = shutil.copy(tiny_package, tmp_path / "copy.volseg")
    assert volseg_cli("predict", scan, "-m", tiny_package, "-o", tmp_path / "one.nii.gz").code == 0
    outcome = volseg_cli("predict", scan, "-m", tiny_package, "-m", copy, "-o", tmp_path / "two.nii.gz")
    assert (outcome.code, outcome.err) == (0, "")
    one, two = (volseg.read_label_map(tmp_path / f"{name}.nii.gz").array for name in ("one", "two"))
    assert np.array_equal(one, two)
    assert "tiny 0.1 on cpu, the mean of 2:" in outcome.out
    assert f"        {copy}\n" in outcome.out


def test_a_run_folder_is_the_mean_of_its_folds(volseg_cli, scan, run_folder, tmp_path):
    folds = sorted(run_folder.glob("fold*/tiny.volseg"))
    separately = [argument for fold in folds for argument in ("-m", fold)]
    outcome = volseg_cli("predict", scan, "-m", run_folder, "--json", "-o", tmp_path / "run.nii.gz")
    assert (outcome.code, outcome.err) == (0, "")
    assert volseg_cli("predict", scan, *separately, "-o", tmp_path / "folds.nii.gz").code == 0
    first, second = (volseg.read_label_map(tmp_path / f"{name}.nii.gz") for name in ("run", "folds"))
    assert np.array_equal(first.array, second.array)
    for fold in folds:
        assert str(fold) in outcome.out
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["model"]["packages"] == [str(fold) for fold in folds]
    in_python = volseg.predict(scan, model=folds, device="cpu")
    assert np.array_equal(in_python.array, first.array)
    alone = [volseg.predict(scan, model=fold, device="cpu").array for fold in folds]
    assert not any(np.array_equal(in_python.array, array) for array in alone)


def test_models_that_do_not_belong_together_are_refused(volseg_cli, scan, tiny_package, region_package):
    outcome = volseg_cli("predict", scan, "-m", tiny_package, "-m", region_package)
    assert outcome.code == 2
    assert "differ in regions" in outcome.err


def test_a_model_of_regions_says_what_its_probabilities_are(volseg_cli, scan, region_package, tmp_path):
    target = tmp_path / "out.nii.gz"
    options = ("--save-probabilities", "--json", "--preview", tmp_path / "out.png")
    outcome = volseg_cli("predict", scan, "-m", region_package, "-o", target, *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert "probabilities of: whole, core" in outcome.out
    probabilities = volseg.read_volume(tmp_path / "out_prob.nii.gz").array
    labels = volseg.read_label_map(target).array
    assert probabilities.shape == (2, *labels.shape)
    painted = np.where(probabilities[1] > 0.5, 4, np.where(probabilities[0] > 0.5, 1, 0))
    assert (painted == labels).mean() > 0.999
    assert json.loads((tmp_path / "out.json").read_text())["probabilities"] == ["whole", "core"]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
