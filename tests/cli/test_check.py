"""`volseg check` through the command line, on folders as they are downloaded."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

AFFINE = np.diag([-0.7, 0.9, 2.5, 1.0])
AFFINE[:3, 3] = 12.5, -20, 31
SHAPE = (17, 19, 7)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 300, SHAPE).astype(np.int16)


def labels(seed: int, values: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, *values], SHAPE).astype(np.uint8)


@pytest.fixture
def lits(tmp_path: Path) -> Path:
    for number in range(3):
        save(tmp_path / "LiTS" / f"volume-{number}.nii.gz", noise(number))
        save(tmp_path / "LiTS" / f"segmentation-{number}.nii.gz", labels(number, (1, 2)))
    return tmp_path / "LiTS"


@pytest.fixture
def brats(tmp_path: Path) -> Path:
    for number, case in enumerate(("Brats18_X_A_1", "Brats18_X_B_1", "Brats18_X_C_1")):
        folder = tmp_path / "BraTS" / case
        for channel, kind in enumerate(("flair", "t1", "t1ce", "t2")):
            save(folder / f"{case}_{kind}.nii.gz", noise(10 * number + channel))
        save(folder / f"{case}_seg.nii.gz", labels(number, (1, 2, 4)))
    return tmp_path / "BraTS"


def test_a_clean_folder(volseg_cli, lits):
    outcome = volseg_cli("check", lits)
    assert outcome.code == 0, outcome.err
    assert "LiTS" in outcome.out.splitlines()[0]
    assert "3 files are called volume-N" in outcome.out
    assert outcome.out.splitlines()[-1] == "3 cases, no problem found"
    assert outcome.err == ""


def test_errors_come_first_with_their_counts_and_what_to_do(volseg_cli, lits, tmp_path):
    save(lits / "segmentation-1.nii.gz", labels(1, (1, 5)))
    save(lits / "segmentation-2.nii.gz", labels(2, (0,)))
    outcome = volseg_cli("check", lits, "--csv", tmp_path / "problems.csv")
    assert outcome.code == 2
    lines = [line.split() for line in outcome.out.splitlines() if line.strip()]
    assert lines[1] == ["severity", "code", "case", "found"]
    assert lines[2][:3] == ["error", "unknown-label", "volume-1"]
    assert lines[3][:3] == ["warning", "empty-label", "volume-2"]
    assert "The labels are 1 (Liver), 2 (Lesion)." in outcome.out
    assert "3 cases, 1 of them with errors" in outcome.out
    assert "1 error: unknown-label 1" in outcome.out
    with (tmp_path / "problems.csv").open() as rows:
        assert [row["code"] for row in csv.DictReader(rows)] == ["unknown-label", "empty-label"]


def test_rows_alike_are_one_and_many_are_cut(volseg_cli, tmp_path):
    for number in range(15):
        save(tmp_path / "L" / f"volume-{number}.nii.gz", noise(number))
        save(
            tmp_path / "L" / f"segmentation-{number}.nii.gz",
            labels(number, (1, 2)) if number else labels(0, (0,)),
        )
    values = np.zeros(SHAPE, np.uint8)
    for number in range(1, 15):
        values.ravel()[number] = 9
        save(tmp_path / "L" / f"segmentation-{number}.nii.gz", values)
    outcome = volseg_cli("check", tmp_path / "L")
    assert outcome.out.count("the label map holds 9") == 12
    assert "... and 2 more rows of unknown-label" in outcome.out
    assert "14 errors: unknown-label 14" in outcome.out
    values[:] = 0
    for number in range(1, 15):
        save(tmp_path / "L" / f"segmentation-{number}.nii.gz", values)
    outcome = volseg_cli("check", tmp_path / "L")
    assert outcome.code == 0
    assert "volume-0, volume-1, volume-10 and 12 more" in outcome.out


def test_a_repaired_copy_is_clean(volseg_cli, brats, tmp_path):
    (brats / "Brats18_X_B_1" / "Brats18_X_B_1_t2.nii.gz").unlink()
    outcome = volseg_cli("check", brats, "--fix", tmp_path / "out")
    assert outcome.code == 2  # the folder itself still has its error
    assert "no T2" in outcome.out
    assert "the value 4 in 2 label maps is read as 3" in outcome.out
    assert f"wrote   {tmp_path / 'out'}: 2 of 3 cases" in outcome.out
    assert "2 x images copied; label values 4 to 3" in outcome.out
    assert "not the regions Whole tumour" in outcome.out
    expected = labels(2, (1, 2, 4))
    expected[expected == 4] = 3
    written = np.asarray(nib.load(tmp_path / "out" / "labelsTr" / "Brats18_X_C_1.nii.gz").dataobj)
    assert np.array_equal(written, expected)
    again = volseg_cli("check", tmp_path / "out")
    assert again.code == 0
    assert "2 cases, no problem found" in again.out


def test_mistakes_are_told_in_one_paragraph(volseg_cli, lits, tmp_path):
    outcome = volseg_cli("check", tmp_path / "nowhere")
    assert outcome.code == 2
    assert "nowhere" in outcome.err
    outcome = volseg_cli("check", lits, "--fix", lits / "out")
    assert outcome.code == 2
    assert "lies inside" in outcome.err
    assert not (lits / "out").exists()


def test_a_terminal_wraps_what_was_found(lits, capsys, monkeypatch):
    from volseg.check import Problem, Report
    from volseg.cli import check

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    check._print_problems(Report((Problem("error", "a", "grid-mismatch", "word " * 40),), 1))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 90
    assert sum(line.count("word") for line in lines) == 40
