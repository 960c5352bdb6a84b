"""`volseg plan` on the phantoms."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from volseg.cli.plan import plan
from volseg.config import load_config
from volseg.errors import VolsegError
from volseg.train.settings import TrainConfig

SAMPLES = Path(__file__).parents[2] / "data_samples"
app = typer.Typer()
app.command()(plan)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_plan_is_printed_and_written(tmp_path):
    outcome = run(SAMPLES / "msd_phantom", "-o", tmp_path / "plan", "--device", "cpu", "--max-ram", "2G")
    assert outcome.exit_code == 0, outcome.exception
    for words in (
        "right-left",
        "mm per voxel",
        "5 cases of 5 patients",
        "pieces",
        "U-Net++ in",
        "next    volseg train",
    ):
        assert words in outcome.output, words
    config = load_config(tmp_path / "plan" / "plan.yaml", TrainConfig)
    assert config.split.file == (tmp_path / "plan" / "splits.json").resolve()
    assert config.fingerprint == (tmp_path / "plan" / "fingerprint.json").resolve()


def test_slices_of_several_modalities_for_a_gpu(tmp_path):
    outcome = run(
        SAMPLES / "BraTS_phantom", "-o", tmp_path / "plan", "--dims", "2.5", "--regions", "--max-vram", "2G"
    )
    assert outcome.exit_code == 0, outcome.exception
    config = load_config(tmp_path / "plan" / "plan.yaml", TrainConfig)
    assert config.regions
    assert config.channels_last
    assert config.tile.slices_around >= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-vram", "much"), "'much' is no size of memory"),
        (("--regions",), "no nested regions"),
        (("--max-vram", "2G", "--device", "cpu"), "use --max-ram"),
    ],
)
def test_mistakes(tmp_path, options, message):
    outcome = run(SAMPLES / "msd_phantom", "-o", tmp_path / "plan", *options)
    assert isinstance(outcome.exception, VolsegError)
    assert message in str(outcome.exception)
    assert not (tmp_path / "plan").exists()
