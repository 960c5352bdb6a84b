import json
from pathlib import Path
from typing import Any

import pytest

from volseg.datasets import DATASETS, Case
from volseg.datasets.msd import MSD
from volseg.errors import ConfigError, InputError


def write_task(root: Path, names: tuple[str, ...] = ("b_2", "a_1"), **changes: Any) -> Path:
    """A folder in Decathlon layout whose files are empty: the adapter reads names only."""
    description = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "edema", "2": "Tumour core"},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in names],
        **changes,
    }
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / f"{name}.nii.gz").touch()
    kept = {key: value for key, value in description.items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(kept))
    return root


def test_cases_come_by_rising_id_with_their_files(tmp_path: Path) -> None:
    cases = MSD(root=write_task(tmp_path))()
    assert cases == [
        Case(name, (tmp_path / f"imagesTr/{name}.nii.gz",), tmp_path / f"labelsTr/{name}.nii.gz")
        for name in ("a_1", "b_2")
    ]
    assert len(cases[0].files) == 2


def test_is_found_by_name(tmp_path: Path) -> None:
    assert "msd" in DATASETS.names()
    dataset = DATASETS.build({"name": "msd", "root": str(write_task(tmp_path))})
    assert [case.id for case in dataset()] == ["a_1", "b_2"]
    with pytest.raises(ConfigError, match="root"):
        DATASETS.build({"name": "msd"})


def test_archive_leftovers_are_no_cases(tmp_path: Path) -> None:
    entries = [
        {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("a_1", "._a_1")
    ]
    cases = MSD(root=write_task(tmp_path, training=entries))()
    assert [case.id for case in cases] == ["a_1"]


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "edema", "2": "Tumour core"},
        {"2": "Tumour core", "0": "background", "1": "edema"},
        {"background": 0, "edema": 1, "Tumour core": 2},
        {"background": "0", "Tumour core": "2", "edema": "1"},
    ],
)
def test_labels_are_read_in_both_directions(tmp_path: Path, labels: dict[str, Any]) -> None:
    table = MSD(root=write_task(tmp_path, labels=labels)).labels()
    assert [(label.value, label.name) for label in table] == [(1, "edema"), (2, "Tumour core")]


def test_channels_are_ordered_by_number_not_by_spelling(tmp_path: Path) -> None:
    modality = {str(n): f"echo {n}" for n in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    names = MSD(root=write_task(tmp_path, modality=modality)).channel_names()
    assert names == tuple(f"echo {n}" for n in range(11))


def test_missing_files_are_counted_and_named(tmp_path: Path) -> None:
    root = write_task(tmp_path, names=tuple(f"case_{n}" for n in range(6)))
    for n in range(1, 6):
        (root / f"labelsTr/case_{n}.nii.gz").unlink()
    with pytest.raises(InputError, match=r"5 of 12 listed files .*case_1.*case_3.* and 2 more"):
        MSD(root=root)()


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.json: not found.*root"):
        MSD(root=tmp_path)()
    with pytest.raises(InputError, match="not found"):
        MSD(root=tmp_path / "nowhere").labels()


@pytest.mark.parametrize("text", ["{", '{"training": [', b"\xff\xfe\x00", "[]", "3"])
def test_broken_json_is_refused(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"dataset\.json"):
        MSD(root=tmp_path)()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": None}, "training.*nothing"),
        ({"training": []}, "training"),
        ({"training": {"a": 1}}, "training"),
        ({"training": ["imagesTr/a_1.nii.gz"]}, "image"),
        ({"training": [{"image": "imagesTr/a_1.nii.gz"}]}, "label"),
        (
            {"training": [{"image": "imagesTr/a_1.nii.gz", "label": "labelsTr/a_1.nii.gz"}] * 2},
            "a_1 listed more",
        ),
        (
            {"training": [{"image": "imagesTr/._a.nii.gz", "label": "labelsTr/._a.nii.gz"}]},
            "no labelled case",
        ),
    ],
)
def test_wrong_case_lists_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MSD(root=write_task(tmp_path, **changes))()


@pytest.mark.parametrize(
    "labels", [{"whole": [1, 2]}, {"1": 2.5}, {"edema": 1.5}, {"edema": None}, {"edema": -1}]
)
def test_wrong_labels_are_refused(tmp_path: Path, labels: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="labels"):
        MSD(root=write_task(tmp_path, labels=labels)).labels()


def test_a_value_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1"):
        MSD(root=write_task(tmp_path, labels={"edema": 1, "core": 1})).labels()


@pytest.mark.parametrize("modality", [{"1": "T1w"}, {"0": "FLAIR", "2": "T1w"}, {"T1w": 0}, ["T1w"]])
def test_wrong_modalities_are_refused(tmp_path: Path, modality: Any) -> None:
    with pytest.raises(InputError, match="modality"):
        MSD(root=write_task(tmp_path, modality=modality)).channel_names()


@pytest.mark.data
def test_the_real_hippocampus_task() -> None:
    root = Path(__file__).resolve().parents[3] / "shared/data/Task04_Hippocampus"
    if not root.is_dir():
        pytest.skip(f"needs the Medical Segmentation Decathlon task at {root}")
    dataset = MSD(root=root)
    assert len(dataset()) == 208
    assert [label.name for label in dataset.labels()] == ["Anterior", "Posterior"]
    assert dataset.channel_names() == ("MRI",)
