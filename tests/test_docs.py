"""The README and the pages keep their word: links lead somewhere, Python runs, commands are the ones CI runs."""

import re
import runpy
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SNIPPETS = [
    pytest.param(code, id=f"{name}-{number}")
    for page, name in zip(PAGES, NAMES, strict=True)
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
    if code.startswith("import volseg")
]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("code", SNIPPETS)
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "data_samples").symlink_to(ROOT / "data_samples")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "snippet.py").write_text(code, encoding="utf-8")
    runpy.run_path(str(tmp_path / "snippet.py"))


@pytest.mark.parametrize("name", ["predict", "test"])
def test_readme_has_the_commands_that_ci_runs(name: str):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"^<!-- command: {name} -->\n```bash\n([^\n]+)\n```$", readme, re.MULTILINE)
    assert "-c constraints.txt" in command
    for path in re.findall(r"data_samples/\S+", command):
        assert (ROOT / path).exists()


def test_constraints_pin_every_dependency():
    pinned = {_canonical(line.split("==")[0]) for line in _lines(ROOT / "constraints.txt")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {
        _canonical(re.split(r"[\[<>=~! ]", requirement)[0])
        for requirement in chain(project["dependencies"], *extras.values())
    }
    assert wanted - {"volseg"} <= pinned


def _lines(path: Path) -> list[str]:
    return [
        line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
