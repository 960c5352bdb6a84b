import pytest

from volseg import zoo
from volseg.errors import PackageError
from volseg.zoo import find, packages


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
