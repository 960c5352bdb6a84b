import pytest

from volseg import zoo
from volseg.errors import PackageError
from volseg.zoo import find, find_all, packages


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in ("hippocampus", "liver"):
        (folder / f"{name}.volseg").touch()
    (folder / "notes.txt").touch()
    monkeypatch.setattr(zoo, "_FOLDER", folder)
    return folder


def test_bundled_packages_by_name(bundled):
    assert packages() == {name: bundled / f"{name}.volseg" for name in ("hippocampus", "liver")}
    assert find("liver") == bundled / "liver.volseg"


def test_a_path_is_taken_as_it_is(bundled, tmp_path):
    own = tmp_path / "own.volseg"
    own.touch()
    assert find(own) == own
    assert find(str(own)) == own


def test_a_name_that_is_almost_right_gets_a_hint(bundled):
    with pytest.raises(
        PackageError, match=r"Did you mean 'hippocampus'\? Bundled models: hippocampus, liver"
    ):
        find("hipocampus")


@pytest.mark.parametrize("path", ["missing.volseg", "somewhere/missing"])
def test_a_path_that_is_not_there(bundled, path):
    with pytest.raises(PackageError, match="no such model package file"):
        find(path)


def test_no_models_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path)
    with pytest.raises(PackageError, match="Bundled models: none"):
        find("liver")


def run_folder(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_run_folder_stands_for_the_packages_of_its_folds(bundled, tmp_path):
    run = run_folder(
        tmp_path / "run", "fold1/liver.volseg", "fold0/liver.volseg", "foldall/liver.volseg", "fold0/last.pt"
    )
    assert find_all(run) == [run / "fold0/liver.volseg", run / "fold1/liver.volseg"]
    assert find_all(str(run / "fold1")) == [run / "fold1/liver.volseg"]
    assert find_all(["liver", run / "fold1/liver.volseg", run]) == [
        bundled / "liver.volseg",
        run / "fold1/liver.volseg",
        run / "fold0/liver.volseg",
        run / "fold1/liver.volseg",
    ]


def test_a_run_folder_without_folds_stands_for_the_package_of_all_cases(bundled, tmp_path):
    run = run_folder(tmp_path / "run", "foldall/liver.volseg", "foldall/last.pt")
    assert find_all(run) == [run / "foldall/liver.volseg"]


def test_a_folder_of_several_packages_lists_them(bundled, tmp_path):
    run = run_folder(tmp_path / "run", "fold0/liver.volseg", "fold1/liver.volseg", "fold1/lungs.volseg")
    with pytest.raises(PackageError, match=r"several names.*: liver\.volseg, lungs\.volseg"):
        find_all(run)


def test_a_folder_without_packages(bundled, tmp_path):
    with pytest.raises(PackageError, match="no model package in this folder"):
        find_all(tmp_path / "zoo" / "..")


def test_a_bundled_name_comes_before_a_folder_of_that_name(bundled, tmp_path, monkeypatch):
    run_folder(tmp_path / "liver", "fold0/mine.volseg")
    run_folder(tmp_path / "run", "fold0/mine.volseg")
    monkeypatch.chdir(tmp_path)
    assert find_all("liver") == [bundled / "liver.volseg"]
    assert [str(path) for path in find_all("run")] == ["run/fold0/mine.volseg"]


@pytest.mark.parametrize("models", [[], ()])
def test_no_model_given(models):
    with pytest.raises(PackageError, match="no model is given"):
        find_all(models)
