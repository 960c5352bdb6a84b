import json
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.folders import touch
from volseg.datasets.msd import MSD
from volseg.datasets.nnunet_raw import NnunetRaw
from volseg.errors import ConfigError, InputError
from volseg.labels import LabelRegion

REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def write_raw(root: Path, **changes: Any) -> Path:
    """Two cases of two channels; a change of None takes a key out."""
    description = {
        "channel_names": {"0": "T2", "1": "ADC"},
        "labels": {"background": 0, "PZ": 1, "TZ": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **changes,
    }
    ending = description["file_ending"] or ".nii.gz"
    touch(root, [f"imagesTr/{case}_000{n}{ending}" for case in ("b 1", "a_0000") for n in (0, 1)])
    touch(root, [f"labelsTr/{case}{ending}" for case in ("b 1", "a_0000")])
    kept = {key: value for key, value in description.items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(kept))
    return root


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_channels_are_gathered_by_case(tmp_path: Path, ending: str) -> None:
    write_raw(tmp_path, file_ending=ending)
    touch(tmp_path, ["imagesTr/._b 1_0000.nii.gz", "labelsTr/._b 1.nii.gz", "imagesTs/c_0000.nii.gz"])
    first, second = NnunetRaw(root=tmp_path)()
    assert first.id == "a_0000"
    assert second.id == "b 1"
    assert second.images == tuple(tmp_path / f"imagesTr/b 1_000{n}{ending}" for n in (0, 1))
    assert second.label == tmp_path / f"labelsTr/b 1{ending}"


def test_words_of_the_collection(tmp_path: Path) -> None:
    dataset = NnunetRaw(root=write_raw(tmp_path / "Dataset005_Prostate"))
    assert dataset.channel_names() == ("T2", "ADC")
    assert dataset.modality() == "MR"
    assert [(label.value, label.name) for label in dataset.labels()] == [(1, "PZ"), (2, "TZ")]
    assert dataset.regions() == ()
    assert dataset.title == "Prostate (nnU-Net layout)"
    assert dataset.notes() == ()
    assert dataset.licence() == ""


def test_version_1_is_told_from_the_decathlon(tmp_path: Path) -> None:
    entries = [{"image": "./imagesTr/a_0000.nii.gz", "label": "./labelsTr/a_0000.nii.gz"}]
    root = write_raw(
        tmp_path,
        channel_names=None,
        file_ending=None,
        modality={"0": "CT", "1": "CT late"},
        labels={"0": "background", "1": "spleen"},
        training=entries,
    )
    assert NnunetRaw.looks_like(root) == "its images are called NAME_0000"
    assert not MSD.looks_like(root)
    dataset = NnunetRaw(root=root)
    assert [label.name for label in dataset.labels()] == ["spleen"]
    assert dataset.modality() == "CT"
    assert len(dataset()) == 2


def test_lists_of_values_are_regions(tmp_path: Path) -> None:
    dataset = NnunetRaw(root=write_raw(tmp_path, labels=REGIONS, regions_class_order=[1, 2, 3]))
    assert dataset.regions() == (
        LabelRegion("whole", (1, 2, 3), 1),
        LabelRegion("core", (2, 3), 2),
        LabelRegion("enhancing", (3,), 3),
    )
    assert [(label.value, label.name) for label in dataset.labels()] == [
        (1, "whole only"),
        (2, "core only"),
        (3, "enhancing"),
    ]


def test_values_without_a_region_of_their_own_are_numbered(tmp_path: Path) -> None:
    labels = {"background": [0], "organ": [1, 2, 3]}
    dataset = NnunetRaw(root=write_raw(tmp_path, labels=labels, regions_class_order=[2]))
    assert [label.name for label in dataset.labels()] == ["organ (value 1)", "organ only", "organ (value 3)"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": REGIONS}, InputError, "3 regions.*regions_class_order.*None"),
        ({"labels": REGIONS, "regions_class_order": [1, 1, 3]}, ConfigError, "region 'core'.*paints 1"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, InputError, "ignore"),
        ({"labels": {"background": 0}}, InputError, "no label but the background"),
        ({"labels": None}, InputError, "labels"),
        ({"labels": {"a": 1, "b": 1}}, InputError, "one number to two names"),
    ],
)
def test_labels_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        NnunetRaw(root=write_raw(tmp_path, **changes)).labels()


def test_missing_channels_and_labels_are_named_together(tmp_path: Path) -> None:
    root = touch(
        write_raw(tmp_path), ["imagesTr/c_0000.nii.gz", "imagesTr/c_0001.nii.gz", "labelsTr/d.nii.gz"]
    )
    (root / "imagesTr/b 1_0000.nii.gz").unlink()
    message = (
        r"3 problems: case b 1 has the channels 0001, case d has the channels none, case c has no label map"
    )
    with pytest.raises(InputError, match=message):
        NnunetRaw(root=root)()


def test_a_file_of_a_known_ending_needs_a_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scan\.nii\.gz: its name does not end in a channel number"):
        NnunetRaw(root=touch(write_raw(tmp_path), ["imagesTr/scan.nii.gz"]))()


def test_endings_that_are_not_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"end in '\.png'"):
        NnunetRaw(root=write_raw(tmp_path, file_ending=".png"))()


def test_cases_may_be_listed(tmp_path: Path) -> None:
    listed = {
        "one": {
            "images": ["imagesTr/b 1_0001.nii.gz", "imagesTr/b 1_0000.nii.gz"],
            "label": "labelsTr/b 1.nii.gz",
        }
    }
    (case,) = NnunetRaw(root=write_raw(tmp_path, dataset=listed))()
    assert case.id == "one"
    assert [path.name for path in case.images] == ["b 1_0001.nii.gz", "b 1_0000.nii.gz"]
    with pytest.raises(InputError, match="expected 2 images"):
        NnunetRaw(root=write_raw(tmp_path, dataset={"one": {"images": ["x"], "label": "y"}}))()


def test_another_number_of_cases_is_noted(tmp_path: Path) -> None:
    dataset = NnunetRaw(root=write_raw(tmp_path, numTraining=32))
    assert dataset.notes() == ("dataset.json announces 32 training cases, and labelsTr holds 2",)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = touch(tmp_path, ["imagesTr/a_0000.nii.gz"])
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}))
    with pytest.raises(InputError, match="labelsTr: cannot be read"):
        NnunetRaw(root=root)()
