from itertools import pairwise
from pathlib import Path

import pytest

from tests.datasets.folders import brats_case, touch
from volseg.datasets.brats import BraTS
from volseg.errors import InputError

OLD, NEW = "BraTS2021_00000", "BraTS-GLI-00000-000"


@pytest.mark.parametrize("folder", ["", "HGG/", "MICCAI BraTS 2018/HGG/"])
def test_both_spellings_give_the_same_channels(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, [*brats_case(OLD, folder=folder), *brats_case(NEW, folder=folder)])
    dataset = BraTS(root=tmp_path)
    new, old = dataset()
    assert [path.name.removeprefix(f"{OLD}_") for path in old.images] == [
        "flair.nii.gz",
        "t1.nii.gz",
        "t1ce.nii.gz",
        "t2.nii.gz",
    ]
    assert [path.name.removeprefix(f"{NEW}-") for path in new.images] == [
        "t2f.nii.gz",
        "t1n.nii.gz",
        "t1c.nii.gz",
        "t2w.nii.gz",
    ]
    assert dataset.channel_names() == ("FLAIR", "T1", "T1CE", "T2")
    assert old.label == tmp_path / f"{folder}{OLD}/{OLD}_seg.nii.gz"
    assert (
        BraTS.looks_like(tmp_path)
        == "1 cases are spelled CASE_flair ... CASE_seg and 1 cases are spelled CASE-t2f ... CASE-seg"
    )


def test_four_is_three_in_the_older_years_only(tmp_path: Path) -> None:
    new, old = BraTS(root=touch(tmp_path, [*brats_case(OLD), *brats_case(NEW)]))()
    assert (old.remap, new.remap) == ({4: 3}, {})


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("BraTS-GLI-00005-101", "BraTS-GLI-00005"),
        ("BraTS-MEN-00005-000", "BraTS-MEN-00005"),
        ("Brats18_TCIA02_370_1", "Brats18_TCIA02_370"),
        ("BraTS20_Training_001", ""),
        ("BraTS2021_00000", ""),
    ],
)
def test_time_points_belong_to_one_patient(tmp_path: Path, case: str, patient: str) -> None:
    assert [found.patient for found in BraTS(root=touch(tmp_path, brats_case(case)))()] == [patient]


def test_flat_folders_capitals_and_blanks(tmp_path: Path) -> None:
    names = [f"Jürgen 1_{kind}.NII" for kind in ("FLAIR", "T1", "T1ce", "t2", "Seg")]
    (case,) = BraTS(root=touch(tmp_path, [*names, *(f"._{name}" for name in names)]))()
    assert case.id == "Jürgen 1"
    assert [path.name for path in case.files] == names


def test_missing_modalities_are_named_together(tmp_path: Path) -> None:
    touch(tmp_path, brats_case("a", without=("t1ce",)) + brats_case("b", without=("flair", "t2")))
    touch(tmp_path, brats_case("c"))
    touch(tmp_path, ["copy/c_t1.nii"])
    with pytest.raises(
        InputError, match=r"3 problems: .*case c.*T1, case a has no T1CE, case b has no FLAIR and no T2"
    ):
        BraTS(root=tmp_path)()


def test_a_segmentation_alone_is_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, [*brats_case("a"), "b/b_seg.nii.gz"])
    with pytest.raises(InputError, match="case b has no FLAIR and no T1 and no T1CE and no T2"):
        BraTS(root=tmp_path)()


def test_validation_cases_are_left_out_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, brats_case("a") + brats_case("b", without=("seg",)) + brats_case("c", without=("seg",)))
    dataset = BraTS(root=tmp_path)
    assert [case.id for case in dataset()] == ["a"]
    assert dataset.notes() == ("2 cases without a segmentation left out: b, c",)


def test_t1_and_t2_alone_are_not_brats(tmp_path: Path) -> None:
    assert not BraTS.looks_like(touch(tmp_path, ["s_t1.nii", "s_t2.nii", "s_seg.nii"]))


def test_regions_are_nested_and_paint_the_labels_back(tmp_path: Path) -> None:
    dataset = BraTS(root=tmp_path)
    regions = dataset.regions()
    assert [label.name for label in dataset.labels()] == [
        "Necrotic and non-enhancing core",
        "Oedema",
        "Enhancing",
    ]
    assert all(set(inner.values) < set(outer.values) for outer, inner in pairwise(regions))
    for value in dataset.labels().values:
        painted = [region.paint for region in regions if value in region.values]
        assert painted[-1] == value
