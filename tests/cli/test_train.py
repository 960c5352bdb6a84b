import json

"""`volseg train` through the command line, on the phantom."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/smoke/train_phantom.yaml"
DATA = f"dataset.root={ROOT / 'data_samples' / 'msd_phantom'}"
FAST = ("architecture.widths=[8, 8]", "validation.every_steps=2", "validation.previews=1")


def test_a_training_is_packed_and_can_be_used(volseg_cli, tmp_path):
    run = tmp_path / "run"
    outcome = volseg_cli("train", "-c", CONFIG, "-o", run, DATA, *FAST, "steps=2", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert f"wrote   {run / 'phantom.volseg'}" in outcome.out.replace("\n", "\n")
    assert "step 2/2" in outcome.out
    assert "validation Dice 0." in outcome.out
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "steps: 2" in (run / "config.yaml").read_text()
    info = volseg_cli("info", run / "phantom.volseg")
    assert info.code == 0
    assert "held-out fold 0 of 5" in info.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("setps=2",), "setps: no such setting. Did you mean 'steps'?"),
        (("dataset.root=/nowhere",), "/nowhere"),
        (("split.fold=7",), "fold = 7"),
        (
            (
                "patch_voxels=[16, 24, 24]",
                "tile.tile_voxels=[16, 24, 24]",
                "precision=bf16",
                "architecture.widths=[8, 8, 8, 8]",
            ),
            "precision=fp32",
        ),
        (
            ("patch_voxels=[21, 24, 20]",),
            "patch_voxels [21, 24, 20] does not suit the network; use [22, 24, 20]",
        ),
        (("tile.tile_voxels=[21, 24, 20]",), "tile.tile_voxels [21, 24, 20] does not suit"),
        (
            ("architecture.dimensions=2",),
            "patch_voxels [20, 24, 20] does not suit the network; use [20, 24, 1]",
        ),
    ],
)
def test_mistakes_are_told_in_one_paragraph(volseg_cli, tmp_path, arguments, message):
    outcome = volseg_cli(
        "train", "-c", CONFIG, "-o", tmp_path / "run", DATA, *FAST, *arguments, "--device", "cpu"
    )
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_missing_config(volseg_cli, tmp_path):
    outcome = volseg_cli("train", "-c", tmp_path / "no.yaml", "-o", tmp_path / "run")
    assert outcome.code == 2
    assert "no.yaml: cannot be read" in outcome.err


@pytest.mark.parametrize("fold", ["x", "-1", "1.5"])
def test_what_is_no_fold_is_told_by_its_option(volseg_cli, tmp_path, fold):
    outcome = volseg_cli("train", "-c", CONFIG, "-o", tmp_path / "run", DATA, "--fold", fold)
    assert outcome.code == 2
    assert "is no fold; give 0, 1, ... or all" in " ".join(outcome.err.replace("│", " ").split())


def test_a_dataset_whose_path_looks_like_a_setting(volseg_cli, tmp_path):
    (tmp_path / "steps=3").mkdir()
    outcome = volseg_cli("train", tmp_path / "steps=3", "-o", tmp_path / "run")
    assert outcome.code == 2
    assert "steps=3: no known layout of a dataset" in outcome.err


def test_more_labels_than_a_byte_can_tell_apart(volseg_cli, tmp_path):
    (tmp_path / "labels.json").write_text(
        json.dumps({"labels": {str(n): f"part {n}" for n in range(1, 302)}})
    )
    (tmp_path / "labels.csv").write_text("id,image,label\na,a.nii,a.nii\nb,b.nii,b.nii\n")
    for name in "ab":
        (tmp_path / f"{name}.nii").touch()
    data = f"dataset={{name: table, root: {tmp_path / 'labels.csv'}}}", "split={fold: all}"
    outcome = volseg_cli("train", "-c", CONFIG, "-o", tmp_path / "run", *data, "--device", "cpu")
    assert outcome.code == 2
    assert "has 301 labels, and a training can tell 255 apart" in outcome.err
