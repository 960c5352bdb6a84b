"""`volseg train ROOT` on a folder as it was downloaded: planned, trained, validated, postprocessed, packed."""

import os
import re
import signal
from pathlib import Path

import pytest

from volseg.cli import training_progress
from volseg.package import load_package

SAMPLES = Path(__file__).parents[2] / "data_samples"
QUICK = (
    "steps=2",
    "batch_size=1",
    "optimizer.warmup_steps=1",
    "validation.every_steps=2",
    "validation.previews=1",
)


@pytest.fixture
def trained(volseg_cli, tmp_path):
    def run(*arguments):
        return volseg_cli(
            *("train", SAMPLES / "msd_phantom", "-o", tmp_path / "run", "--device", "cpu", "--max-ram", "1G"),
            *QUICK, *arguments,
        )  # fmt: skip

    return run


def test_a_folder_becomes_a_package_by_one_command(trained, tmp_path):
    outcome = trained()
    assert outcome.code == 0, outcome.err
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} >= {
        "plan.yaml",
        "splits.json",
        "fingerprint.json",
        "cache",
        "fold0",
    }
    (packed,) = (run / "fold0").glob("*.volseg")
    info = load_package(packed).info
    assert {score.label: score.case_count for score in info.scores} == {"front": 1, "back": 1}
    assert info.training.fingerprint is not None
    plan = (run / "plan.yaml").read_text()
    refused = trained()
    assert refused.code != 0
    assert "is not empty" in refused.err
    outcome = trained("--fold", "all")
    assert outcome.code == 0, outcome.err
    assert (run / "plan.yaml").read_text() == plan, "a plan that is there is kept"
    (packed,) = (run / "foldall").glob("*.volseg")
    info = load_package(packed).info
    assert info.training.case_count == 5
    assert "fold 0" in info.scores[0].cases, "the finished fold speaks for the model of all cases"


def test_sigterm_saves_leaves_with_0_and_the_same_command_with_resume_goes_on(
    volseg_cli, tmp_path, monkeypatch
):
    words = (
        *("train", "-c", SAMPLES.parent / "configs/smoke/train_phantom.yaml", "-o", tmp_path / "run", *QUICK),
        *(
            f"dataset.root={SAMPLES / 'msd_phantom'}",
            "architecture.widths=[8, 8]",
            "steps=5",
            "--device",
            "cpu",
        ),
    )
    with monkeypatch.context() as patch:
        patch.setattr(
            training_progress, "_print_epoch", lambda progress: os.kill(os.getpid(), signal.SIGTERM)
        )
        stopped = volseg_cli(*words)
    assert stopped.code == 0, stopped.err
    (step,) = re.findall(r"^saved at step (\d); go on with --resume$", stopped.out, re.MULTILINE)
    assert 0 < int(step) < 5
    assert not list((tmp_path / "run").glob("*.volseg"))
    done = volseg_cli(*words, "--resume")
    assert done.code == 0, done.err
    assert "step 5/5" in done.out
    assert f"step {step}/5" not in done.out
    assert load_package(tmp_path / "run" / "phantom.volseg").info.training.steps == 5
