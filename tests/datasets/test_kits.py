from pathlib import Path

import pytest

from tests.datasets.folders import touch
from volseg.datasets.kits import KiTS
from volseg.errors import InputError

PAIR = ("imaging.nii.gz", "segmentation.nii.gz")


def kits(root: Path, *cases: str, files: tuple[str, ...] = PAIR) -> Path:
    return touch(root, [f"{case}/{file}" for case in cases for file in files])


@pytest.mark.parametrize("folder", ["", "data/", "kits/data/"])
def test_cases_of_2019_have_no_cysts(tmp_path: Path, folder: str) -> None:
    root = touch(tmp_path / "root", ["data/kits.json"])
    kits(root, f"{folder}case_00000", f"{folder}case_00210", files=PAIR[:1])
    dataset = KiTS(root=kits(root, f"{folder}case_00000"))
    (case,) = dataset()
    assert case.id == "case_00000"
    assert [path.name for path in case.files] == list(PAIR)
    assert [label.name for label in dataset.labels()] == ["Kidney", "Tumour"]
    left, year = dataset.notes()
    assert left == "1 cases without a segmentation left out: case_00210"
    assert "KiTS19" in year


@pytest.mark.parametrize(
    "extra",
    [
        "case_00000/instances/cyst_instance-1_annotation-1.nii.gz",
        "case_00000/segmentations/kidney_instance-1_annotation-2.nii.gz",
        "case_00000/aggregated_OR_seg.nii.gz",
        "case_00588/imaging.nii.gz",
        "kits23.json",
    ],
)
def test_what_tells_cysts(tmp_path: Path, extra: str) -> None:
    dataset = KiTS(root=touch(kits(tmp_path / "root", "case_00000"), [extra]))
    assert [case.id for case in dataset()] == ["case_00000"]
    assert [label.name for label in dataset.labels()] == ["Kidney", "Tumour", "Cyst"]


@pytest.mark.parametrize("name", ["kits21", "KiTS23", "kits_2023"])
def test_the_folder_may_be_called_after_the_year(tmp_path: Path, name: str) -> None:
    assert len(KiTS(root=kits(tmp_path / name, "case_00000")).labels()) == 3
    assert len(KiTS(root=kits(tmp_path / name / "dataset", "case_00000")).labels()) == 3


def test_the_majority_vote_is_the_label_of_2021(tmp_path: Path) -> None:
    files = (
        "imaging.nii.gz",
        "aggregated_AND_seg.nii.gz",
        "aggregated_MAJ_seg.nii.gz",
        "aggregated_OR_seg.nii.gz",
    )
    (case,) = KiTS(root=kits(tmp_path, "case_00000", files=files))()
    assert case.label == tmp_path / "case_00000/aggregated_MAJ_seg.nii.gz"


def test_images_that_were_not_downloaded_are_missed(tmp_path: Path) -> None:
    kits(tmp_path, "case_00000", "case_00001", files=PAIR[1:])
    with pytest.raises(InputError, match=r"2 problems: case_00000 has no imaging.*case_00001.*script"):
        KiTS(root=tmp_path)()


def test_a_case_may_not_be_there_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both the imaging of case_00000"):
        KiTS(root=kits(tmp_path, "a/case_00000", "b/case_00000"))()


def test_leftovers_and_other_folders_are_passed_over(tmp_path: Path) -> None:
    kits(tmp_path, "case_00000", "predictions", "case_1")
    touch(tmp_path, ["case_00001/._imaging.nii.gz", "case_00001/._segmentation.nii.gz"])
    assert [case.id for case in KiTS(root=tmp_path)()] == ["case_00000"]
    assert KiTS.looks_like(tmp_path) == "1 folders are called case_NNNNN and hold a segmentation"
