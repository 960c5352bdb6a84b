import json
from pathlib import Path

import pytest

from tests.datasets.folders import brats_case, touch
from tests.datasets.test_msd import write_task
from tests.datasets.test_nnunet_raw import write_raw
from volseg.datasets import DATASETS
from volseg.datasets.recognise import recognise
from volseg.errors import ConfigError, InputError

LITS = ["volume-0.nii", "segmentation-0.nii"]
KITS = ["case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"]


def write_layout(name: str, root: Path) -> Path:
    """A small collection of a layout; what to give as root."""
    if name == "msd":
        return write_task(root)
    if name == "nnunet_raw":
        return write_raw(root)
    if name == "table":
        (touch(root, LITS) / "cases.csv").write_text("image,label\nvolume-0.nii,segmentation-0.nii\n")
        return root / "cases.csv"
    return touch(root, {"lits": LITS, "brats": brats_case("a"), "kits": KITS}[name])


LAYOUTS = ("brats", "kits", "lits", "msd", "nnunet_raw", "table")


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_recognised_by_what_it_holds(tmp_path: Path, name: str) -> None:
    found = recognise(write_layout(name, tmp_path / "Daten 1"))
    assert isinstance(found.dataset, DATASETS.get(name))
    assert found.why.startswith(found.dataset.title)
    assert found.dataset()


@pytest.mark.parametrize("name", ["msd", "nnunet_raw"])
def test_the_folder_around_will_do(tmp_path: Path, name: str) -> None:
    write_layout(name, tmp_path / "inner")
    touch(tmp_path, ["readme.txt", ".hidden/x", "other/x"])
    found = recognise(tmp_path)
    assert found.dataset.root == tmp_path / "inner"
    assert "(in inner/)" in found.why


def test_several_layouts_are_an_error_that_says_how_to_choose(tmp_path: Path) -> None:
    touch(tmp_path, [*LITS, *KITS])
    message = r"could be 2 datasets: kits \(1 folders.*\); lits \(.*\)\. To choose, say which: --layout kits"
    with pytest.raises(InputError, match=message):
        recognise(tmp_path)


def test_several_folders_are_an_error_that_names_them(tmp_path: Path) -> None:
    write_layout("msd", tmp_path / "Task01")
    write_layout("msd", tmp_path / "Task02")
    with pytest.raises(InputError, match=r"msd in Task01/ .*msd in Task02/ .*give one of these folders"):
        recognise(tmp_path)


def test_an_unknown_folder_is_told_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, ["scan.nii.gz", "my cases.csv", "sub/x.txt", "._volume-0.nii"])
    with pytest.raises(InputError) as caught:
        recognise(tmp_path)
    text = str(caught.value)
    for name in DATASETS.names():
        assert f"{name}: {DATASETS.get(name).layout}" in text
    assert "Found there my cases.csv, scan.nii.gz, sub/." in text
    assert "If my cases.csv lists the cases, give that file" in text
    assert "\n" not in text


def test_what_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        recognise(tmp_path / "gone")
    with pytest.raises(InputError, match="Found nothing there"):
        recognise(tmp_path)


def test_a_broken_list_is_said_to_be_broken(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="no valid JSON"):
        recognise(tmp_path)


def test_dataset_json_itself_is_not_the_root(tmp_path: Path) -> None:
    root = write_layout("msd", tmp_path)
    with pytest.raises(InputError, match=r"Give the folder of dataset\.json instead"):
        recognise(root / "dataset.json")


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', '{"training": {}}'])
def test_other_json_is_no_dataset(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match="no known layout"):
        recognise(tmp_path)


def test_keys_of_nnunet_win_over_a_training_list(tmp_path: Path) -> None:
    root = write_raw(tmp_path, training=[{"image": "a", "label": "b"}])
    assert recognise(root).dataset.model_dump()["name"] == "nnunet_raw"
    description = json.loads((root / "dataset.json").read_text())
    assert "training" in description


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_adapter_keeps_the_contract(tmp_path: Path, name: str) -> None:
    root = write_layout(name, tmp_path / "root")
    adapter = DATASETS.get(name)
    assert adapter.layout
    assert adapter.looks_like(root)
    dataset = DATASETS.build({"name": name, "root": str(root)})
    assert dataset.title
    cases = dataset()
    assert [case.id for case in cases] == sorted({case.id for case in cases})
    assert {len(case.images) for case in cases} <= {1, len(dataset.channel_names())}
    assert dataset.modality() in ("CT", "MR", "")
    assert all(isinstance(note, str) for note in dataset.notes())
    if name != "table":
        values = set(dataset.labels().values)
        assert all(set(region.values) <= values for region in dataset.regions())
    (tmp_path / "empty").mkdir()
    assert adapter.looks_like(tmp_path / "empty") == ""
    (tmp_path / "file.txt").touch()
    assert adapter.looks_like(tmp_path / "file.txt") == ""


DATA = Path(__file__).parents[2] / "../shared/data"


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "name", "count"),
    [("LiTS", "lits", 3), ("BraTS18", "brats", 8), ("Task04_Hippocampus", "msd", 208)],
)
def test_downloaded_folders(folder: str, name: str, count: int) -> None:
    if not (DATA / folder).is_dir():
        pytest.skip(f"{DATA / folder} is not there; it holds the real {folder}")
    dataset = recognise(DATA / folder).dataset
    assert dataset.model_dump()["name"] == name
    assert len(dataset()) == count


def test_a_folder_of_two_kinds_is_read_as_the_one_that_is_named(tmp_path):
    for name in ("case_00000/imaging", "case_00000/segmentation", "volume-0", "segmentation-0"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert recognise(tmp_path, "lits").dataset.name == "lits"
    assert recognise(tmp_path, "kits").dataset.name == "kits"
    with pytest.raises(InputError, match=r"no known layout of a dataset\. Looked for brats: "):
        recognise(tmp_path, "brats")
    with pytest.raises(ConfigError, match="no dataset called 'kitz'"):
        recognise(tmp_path, "kitz")
