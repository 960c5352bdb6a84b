"""`volseg pretrain` as a user runs it, up to a training that begins with its weights."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHANTOM = ROOT / "data_samples" / "msd_phantom"
TRAINING = ROOT / "configs/smoke/train_phantom.yaml"
FAST = (
    "patch_voxels=[12,16,12]",
    "architecture.widths=[8,8]",
    "optimizer.warmup_steps=1",
    "held_out.every_steps=2",
)


@pytest.fixture
def pretrained(volseg_cli, tmp_path):
    def run(*arguments, folder="run"):
        return volseg_cli("pretrain", *arguments, "-o", tmp_path / folder, "--device", "cpu", *FAST)

    return run


def test_a_training_begins_with_the_weights_by_the_command_that_is_printed(pretrained, volseg_cli, tmp_path):
    outcome = pretrained(PHANTOM, "-c", TRAINING, "--steps", 2)
    assert outcome.code == 0, outcome.err
    assert (
        "pre-training on 3 scans (1 other set aside to measure): masked and contrastive, 2 steps"
        in outcome.out
    )
    assert re.search(r"error on held-out scans \d\.\d+ \(mean of the visible \d", outcome.out)
    (command,) = re.findall(r"^next    volseg (train .*)$", outcome.out, re.MULTILINE)
    assert f"dataset.root={PHANTOM}" in command
    words = command.replace("-o RUN", f"-o {tmp_path / 'training'}").split()
    quick = (
        *("architecture.widths=[8,8]", "steps=1", "batch_size=1", "patch_voxels=[12,16,12]"),
        *("tile.tile_voxels=[12,16,12]", "validation.previews=0", "optimizer.warmup_steps=1"),
    )
    trained = volseg_cli(*words, *quick, "--device", "cpu")
    assert trained.code == 0, trained.err
    digest = sha256((tmp_path / "run" / "encoder.safetensors").read_bytes()).hexdigest()
    assert f"encoder weights encoder.safetensors, SHA-256 {digest}" in trained.out
    told = (tmp_path / "training" / "encoder_weights.txt").read_text().strip()
    assert digest in told
    assert f"encoder began with {told}" in trained.out


def test_a_collection_is_planned_into_the_run_folder(volseg_cli, tmp_path):
    words = (
        *("pretrain", PHANTOM, "-o", tmp_path / "run", "--device", "cpu", "--steps", 1),
        *("batch_size=4", "optimizer.warmup_steps=1"),
    )
    outcome = volseg_cli(*words, "--fold", "1")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "plan.yaml").exists()
    assert (
        f"volseg train -c {tmp_path / 'run' / 'plan.yaml'} split.fold=1 -o RUN encoder_weights="
        in outcome.out
    )
    refused = volseg_cli(*words)
    assert refused.code == 2
    assert "holds a pre-training already" in refused.err


def test_a_folder_of_scans_needs_to_be_told_for_which_network(pretrained, tmp_path, scan):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.nii.gz").write_bytes(scan.read_bytes())
    (folder / "broken.nii.gz").write_text("nothing")
    outcome = pretrained(folder)
    assert outcome.code == 2
    assert "nothing says for which network" in outcome.err
    outcome = pretrained(folder, "-c", TRAINING, "dataset=null", "--steps", 2)
    assert outcome.code == 0, outcome.err
    assert "a folder in which every scan is a case" in outcome.out
    assert "scan broken.nii.gz is left out" in outcome.err
    assert "pre-training on 2 scans" in outcome.out


def test_a_run_goes_on_by_resume_alone(pretrained, volseg_cli, tmp_path):
    assert pretrained(PHANTOM, "-c", TRAINING, "--steps", 2).code == 0
    (tmp_path / "run" / "encoder.safetensors").unlink()
    outcome = volseg_cli("pretrain", "-o", tmp_path / "run", "--resume", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "encoder.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a folder of scans"),
        (("--steps", 2, "--budget", "5m", PHANTOM), "not both"),
        ((PHANTOM, "--fold", "x"), "is no fold"),
        ((PHANTOM, "masked.hiden=0.5"), "Did you mean 'hidden'?"),
        (("/nowhere/at/all", "-c", TRAINING), "there is no such folder"),
        ((PHANTOM, PHANTOM), "give one folder"),
    ],
)
def test_mistakes_are_told(pretrained, arguments, message):
    outcome = pretrained(*arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.replace("│", " ").split())
