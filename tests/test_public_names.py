"""The public names of volseg: few, lazy, documented, and never shadowed by a module."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import volseg

ROOT = Path(__file__).parents[1]


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return result.stdout.strip()


@pytest.mark.parametrize("name", volseg.__all__)
def test_each_public_name_is_there_and_documented(name: str):
    thing = getattr(volseg, name)
    assert inspect.getdoc(thing)
    assert thing.__module__.startswith("volseg.")
    assert thing.__name__ == name


def test_dir_lists_them_before_they_are_imported():
    assert set(volseg.__all__) <= set(dir(volseg))
    assert len(volseg.__all__) <= 21, "about a score"


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="segment"):
        _ = volseg.segment


def test_importing_every_module_shadows_no_public_name():
    for module in pkgutil.walk_packages(volseg.__path__, "volseg."):
        if module.name != "volseg.__main__":
            importlib.import_module(module.name)
    for name in volseg.__all__:
        assert not inspect.ismodule(getattr(volseg, name)), name


def test_import_volseg_is_light():
    loaded = run_python("import sys, volseg; print(*(name.split('.')[0] for name in sys.modules))").split()
    assert {"torch", "numpy", "nibabel", "monai", "SimpleITK", "scipy", "pydantic", "matplotlib"}.isdisjoint(
        loaded
    )


def test_predict_path_never_imports_monai():
    loaded = run_python(
        "import sys, volseg.api; print(*(name.split('.')[0] for name in sys.modules))"
    ).split()
    assert "torch" in loaded
    assert "monai" not in loaded


def test_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert volseg.__version__ == project["version"]
