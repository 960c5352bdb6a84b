import re
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.grids import affine_of
from volseg.cli.evaluate import evaluate
from volseg.errors import ConfigError
from volseg.evaluate import read_scores
from volseg.geometry import Grid
from volseg.io import write_label_map
from volseg.volume import LabelMap

GRID = Grid((15, 16, 17), affine_of(shear=0.2, flip=(False, True, False)))


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Three cases of an organ with two lesions; the second lesion of b is missed, c is marked elsewhere."""
    for name in ("predicted", "true"):
        (tmp_path / name).mkdir()
    for case in "abc":
        true = np.zeros(GRID.shape, np.uint8)
        true[2:10, 2:12, 2:14] = 1
        true[3:5, 3:5, 3:6] = true[7:9, 9:11, 9:13] = 2
        found = true.copy()
        if case == "b":
            found[7:9, 9:11, 9:13] = 1
        if case == "c":
            found = np.roll(true, (0, 0, 2), (0, 1, 2))
        write_label_map(LabelMap(found, GRID), tmp_path / "predicted" / f"{case}_seg.nii.gz")
        write_label_map(LabelMap(true, GRID), tmp_path / "true" / f"{case}.nii.gz")
    return [str(tmp_path / "predicted"), str(tmp_path / "true")]


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(evaluate)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_cases_summary_and_lesions_are_printed(folders: list[str], tmp_path: Path) -> None:
    target = tmp_path / "scores.csv"
    text = run(*folders, "--labels", "1=liver, 2=lesion", "--tolerance-mm", "2", "--csv", str(target))
    assert re.search(r"^ *a +lesion +1\.0000 +1\.0000 +0\.00 +1\.0000 +1\.0000", text, re.MULTILINE)
    assert "NSD 2 mm" in text
    assert re.search(
        r"^ *liver +Dice +0\.\d{4} +0\.\d{4} to 1\.0000 +0\.\d{4} +0\.\d{4}$", text, re.MULTILINE
    )
    assert re.search(r"^ *lesion +all +\d of 6 +0\.\d{3} +0\.\d{3} to 1\.000 +\d of 5", text, re.MULTILINE)
    assert re.search(r"^ *lesion +< 0\.1 ", text, re.MULTILINE)
    assert "voxel accuracy" in text
    assert text.count("lesion F1") == 1, "the liver is one piece"
    assert len(read_scores(target)) == 6


def test_regions_are_scored_after_the_labels(folders: list[str]) -> None:
    text = run(*folders, "--regions", "all of it=1,2", "--no-lesions")
    assert re.search(r"^ *b +all of it +1\.0000", text, re.MULTILINE)
    assert "recall" not in text


def test_older_brats_files_have_their_enhancing_tumour_as_4(tmp_path: Path) -> None:
    true = np.zeros(GRID.shape, np.uint8)
    true[2:10, 2:12, 2:14] = 2
    true[3:8, 3:8, 3:8] = 1
    true[4:6, 4:6, 4:6] = 4
    write_label_map(LabelMap(true, GRID), tmp_path / "x_seg.nii.gz")
    write_label_map(LabelMap(np.where(true == 4, 3, true), GRID), tmp_path / "x_pred.nii.gz")
    text = run(str(tmp_path / "x_pred.nii.gz"), str(tmp_path / "x_seg.nii.gz"), "--regions", "brats")
    assert len(re.findall(r"^ *x +\w+ \w+ +1\.0000 +1\.0000", text, re.MULTILINE)) == 6
    assert re.search(r"^ *x +whole tumour ", text, re.MULTILINE | re.IGNORECASE)


def test_sizes_are_asked_for_in_ml(folders: list[str]) -> None:
    text = run(*folders, "--lesions", "--lesion-sizes", "0.03")
    assert re.search(r"^ *label 2 +< 0\.03 ", text, re.MULTILINE)
    assert re.search(r"^ *label 1 +>= 0\.03 ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--labels", "front", "VALUE=NAME"),
        ("--regions", "whole", "NAME=VALUES"),
        ("--regions", "whole=1,x", "NAME=VALUES"),
        ("--lesion-sizes", "small", "limits in ml"),
    ],
)
def test_what_cannot_be_read_is_refused(folders: list[str], option: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(*folders, option, value)
