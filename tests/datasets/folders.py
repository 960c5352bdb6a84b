"""Folders whose files are empty: adapters read names and lists only."""

from collections.abc import Iterable
from pathlib import Path


def touch(root: Path, names: Iterable[str]) -> Path:
    """Empty files at these paths below a folder; the folder."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def brats_case(case: str, *, folder: str = "", without: tuple[str, ...] = ()) -> list[str]:
    """The files of a case in the spelling that its name has: with underscores, or with hyphens (2023 and later)."""
    new = case.upper().startswith("BRATS-")
    kinds = ("t2f", "t1n", "t1c", "t2w", "seg") if new else ("flair", "t1", "t1ce", "t2", "seg")
    mark = "-" if new else "_"
    return [f"{folder}{case}/{case}{mark}{kind}.nii.gz" for kind in kinds if kind not in without]
