"""A folder keeps its plan, and only for the collection it was made for."""

import json
import shutil
from pathlib import Path

import pytest

from volseg.config import load_config
from volseg.errors import ConfigError, OutputError
from volseg.plan.prepare import prepare
from volseg.plan.request import PlanRequest
from volseg.train.settings import TrainConfig

PHANTOM = Path(__file__).parents[2] / "data_samples" / "msd_phantom"
SLICES = PlanRequest(device="cpu", max_ram=1 << 30, dims="2")


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """Two collections of one name in different places, the first of them planned."""
    folder = tmp_path_factory.mktemp("collections")
    for place in ("a", "b"):
        shutil.copytree(PHANTOM, folder / place / "Phantom")
    prepare(folder / "a" / "Phantom", folder / "run", SLICES)
    return folder


@pytest.fixture
def folder(collections, tmp_path):
    """Both collections and the plan, to be changed."""
    shutil.copytree(collections / "run", tmp_path / "run")
    shutil.copytree(collections / "b", tmp_path / "b")
    return tmp_path


def test_a_plan_is_kept(collections, folder):
    assert prepare(collections / "a" / "Phantom", folder / "run", SLICES).plan is None


def test_what_is_not_asked_for_is_as_planned(collections, folder):
    root = collections / "a" / "Phantom"
    assert prepare(root, folder / "run", PlanRequest()).plan is None
    with pytest.raises(ConfigError, match=r"planned with another dims .then 2, now 3"):
        prepare(root, folder / "run", SLICES.model_copy(update={"dims": "3"}))


def test_a_request_that_cannot_be_met_is_told_before_anything_is_measured(folder):
    seen = []
    for changes, message in (
        ({"regions": True}, "no nested regions"),
        ({"max_vram": 1 << 30}, "use --max-ram"),
    ):
        with pytest.raises(ConfigError, match=message):
            prepare(
                folder / "b" / "Phantom",
                folder / "new",
                SLICES.model_copy(update=changes),
                report=lambda done, total: seen.append(done),
            )
    assert not seen


def test_what_was_measured_outlives_a_plan_that_fails(folder):
    with pytest.raises(ConfigError, match="smallest useful size"):
        prepare(folder / "b" / "Phantom", folder / "new", SLICES.model_copy(update={"max_ram": 1 << 20}))
    assert (folder / "new" / "fingerprint.json").is_file()


def test_a_plan_of_another_collection_is_not_taken(folder):
    with pytest.raises(ConfigError, match=r"was planned for .*Give --output another folder"):
        prepare(folder / "b" / "Phantom", folder / "run", SLICES)


def test_another_collection_is_measured_anew(folder):
    root = folder / "b" / "Phantom"
    description = json.loads((root / "dataset.json").read_text())
    description["training"] = description["training"][1:]
    (root / "dataset.json").write_text(json.dumps(description))
    (folder / "run" / "plan.yaml").unlink()
    seen = []
    prepared = prepare(root, folder / "run", SLICES, report=lambda done, total: seen.append(total))
    assert seen == [len(description["training"])] * len(description["training"])
    assert prepared.plan is not None
    assert prepared.plan.fingerprint.cases == len(description["training"])


def test_a_plan_can_be_used_from_any_folder(collections, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "run" / "plan.yaml").unlink()
    prepared = prepare(Path("b") / "Phantom", Path("run"), SLICES)
    monkeypatch.chdir(collections)
    config = load_config(folder / prepared.path, TrainConfig)
    assert len(config.dataset()) == 5
    assert config.dataset.root == folder / "b" / "Phantom"


def test_a_folder_that_cannot_be_is_told_before_anything_is_measured(folder):
    (folder / "file").touch()
    seen = []
    with pytest.raises(OutputError, match="cannot be made"):
        prepare(
            folder / "b" / "Phantom", folder / "file", SLICES, report=lambda done, total: seen.append(done)
        )
    assert not seen
