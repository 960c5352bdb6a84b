from pathlib import Path

import pytest

from tests.datasets.folders import touch
from volseg.datasets.lits import LiTS
from volseg.errors import InputError

LAYOUTS = {
    "one folder": ("volume-{}.nii", "segmentation-{}.nii"),
    "packed": ("volume-{}.nii.gz", "segmentation-{}.nii.gz"),
    "one packed": ("volume-{}.nii", "segmentation-{}.nii.gz"),
    "split": ("ct/volume-{}.nii", "seg/segmentation-{}.nii"),
    "batches": ("Training Batch 1/volume-{}.nii", "media/x/Training Batch 1/segmentation-{}.nii"),
    "capitals": ("Volume-{}.NII.GZ", "SEGMENTATION-{}.Nii"),
    "unicode": ("lésions 肝/volume-{}.nii", "lésions 肝/segmentation-{}.nii"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_are_found_in_any_arrangement(tmp_path: Path, layout: str) -> None:
    volume, segmentation = LAYOUTS[layout]
    touch(tmp_path, [pattern.format(n) for n in (0, 2, 10) for pattern in (volume, segmentation)])
    dataset = LiTS(root=tmp_path)
    cases = dataset()
    assert [case.id for case in cases] == ["volume-0", "volume-10", "volume-2"]
    assert [case.images for case in cases] == [(tmp_path / volume.format(n),) for n in (0, 10, 2)]
    assert [case.label for case in cases] == [tmp_path / segmentation.format(n) for n in (0, 10, 2)]
    assert dataset.notes() == ()
    assert LiTS.looks_like(tmp_path) == "3 files are called volume-N and 3 segmentation-N"


def test_test_volumes_are_left_out_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, ["volume-0.nii", "segmentation-0.nii", "volume-1.nii", "test/test-volume-0.nii"])
    dataset = LiTS(root=tmp_path)
    assert [case.id for case in dataset()] == ["volume-0"]
    assert dataset.notes() == ("2 volumes without a segmentation left out: test-volume-0.nii, volume-1.nii",)


def test_archive_leftovers_are_passed_over(tmp_path: Path) -> None:
    names = ["volume-0.nii", "segmentation-0.nii"]
    touch(tmp_path, [*names, *(f"._{name}" for name in names), *(f"__MACOSX/{name}" for name in names)])
    touch(tmp_path, [".cache/volume-1.nii", "volume-0.nii.txt", "segmentation-0 (1).nii"])
    assert len(LiTS(root=tmp_path)()) == 1


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    touch(tmp_path, ["volume-0.nii", "a/volume-0.nii", "segmentation-0.nii", "segmentation-4.nii"])
    with pytest.raises(InputError, match=r"2 problems: .*both volume-0.*segmentation-4\.nii has no volume-4"):
        LiTS(root=tmp_path)()


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    store = touch(tmp_path / "store", ["volume-0.nii", "segmentation-0.nii"])
    root = tmp_path / "root"
    root.mkdir()
    (root / "a link").symlink_to(store)
    (root / "loop").symlink_to(root)
    assert [case.images for case in LiTS(root=root)()] == [(root / "a link/volume-0.nii",)]


def test_a_link_to_nowhere_is_missed(tmp_path: Path) -> None:
    touch(tmp_path, ["segmentation-0.nii"])
    (tmp_path / "volume-0.nii").symlink_to(tmp_path / "gone.nii")
    with pytest.raises(InputError, match=r"1 of 2 listed files are missing.*volume-0"):
        LiTS(root=tmp_path)()


def test_words_of_the_collection(tmp_path: Path) -> None:
    dataset = LiTS(root=tmp_path)
    assert [(label.value, label.name) for label in dataset.labels()] == [(1, "Liver"), (2, "Lesion")]
    assert dataset.modality() == "CT"
    assert dataset.channel_names() == ("CT",)
    assert dataset.title == "LiTS (Liver Tumor Segmentation)"
    with pytest.raises(InputError, match="no labelled case"):
        dataset()
