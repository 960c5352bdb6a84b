"""Which layout a folder is in, told by what it holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from volseg.datasets import DATASETS, Dataset
from volseg.datasets.listing import is_hidden
from volseg.errors import InputError, few
from volseg.io.stream import readable


@dataclass(frozen=True)
class Recognition:
    """The dataset that a folder holds."""

    dataset: Dataset
    why: str
    """In words, such as "LiTS (Liver Tumor Segmentation): 3 files are called volume-N and 3 segmentation-N"."""


class _Match(NamedTuple):
    adapter: type[Dataset]
    name: str
    root: Path
    why: str


def recognise(root: Path, layout: str | None = None) -> Recognition:
    """The dataset in a folder, in one of its subfolders, or in a table of paths.

    Args:
        root: a folder as it was downloaded, the folder around it, or a CSV or JSON file.
        layout: the name of the dataset kind, where a folder could be several.

    Raises:
        ConfigError: no layout of that name.
        InputError: there is no such folder; it is in no known layout (what was looked for is listed), or in several; or
            a list in it cannot be read.
    """
    root = Path(root)
    if not root.exists():
        raise InputError(f"{root}: there is no such folder or file; check the path.")
    wanted = DATASETS.names() if layout is None else [DATASETS.get(layout).model_fields["name"].default]
    matches = _matches(root, wanted)
    if not matches:
        raise InputError(_nothing(root, wanted))
    if len(matches) > 1:
        raise InputError(_several(root, matches))
    match = matches[0]
    # Absolute, so that a plan can be used from any folder.
    dataset = match.adapter.model_validate({"root": match.root.absolute()})
    inside = "" if match.root == root else f" (in {match.root.name}/)"
    return Recognition(dataset, f"{dataset.title}{inside}: {match.why}")


def _matches(root: Path, names: Sequence[str]) -> list[_Match]:
    """What fits: the root, and each folder in it for layouts that are told by their root alone."""
    found: list[_Match] = []
    folders = [path for path in _listed(root) if path.is_dir()]
    for name in names:
        adapter = DATASETS.get(name)
        for place in (root, *([] if adapter.searches_subfolders else folders)):
            why = adapter.looks_like(place)
            if why:
                found.append(_Match(adapter, name, place, why))
    return found


def _nothing(root: Path, names: Sequence[str]) -> str:
    looked_for = "; ".join(f"{name}: {DATASETS.get(name).layout}" for name in names)
    hint = ""
    if root.name == "dataset.json":
        hint = f" Give the folder of dataset.json instead: {root.parent}."
    tables = [path.name for path in _listed(root) if path.suffix.lower() == ".csv"]
    if tables:
        hint = f" If {' or '.join(tables[:3])} lists the cases, give that file."
    return (
        f"{root}: no known layout of a dataset. Looked for {looked_for}. Found {_contents(root)}.{hint} Give the folder that "
        "holds one of these, or write a table of paths (CSV) and give that."
    )


def _several(root: Path, matches: list[_Match]) -> str:
    told = "; ".join(
        f"{match.name}{'' if match.root == root else f' in {match.root.name}/'} ({match.why})"
        for match in matches
    )
    places = {match.root for match in matches}
    choice = "give one of these folders" if len(places) > 1 else f"say which: --layout {matches[0].name}"
    return f"{root}: could be {len(matches)} datasets: {told}. To choose, {choice}, or give a subfolder that holds only one."


def _contents(root: Path) -> str:
    """What there is, a few names."""
    if root.is_file():
        return "a file"
    names = [f"{path.name}/" if path.is_dir() else path.name for path in _listed(root)]
    return f"there {few(names, 8)}" if names else "nothing there"


def _listed(root: Path) -> list[Path]:
    """What is in a folder, by name, without hidden files; nothing for a file."""
    if not root.is_dir():
        return []
    with readable(root):
        return sorted(path for path in root.iterdir() if not is_hidden(path.name))
