"""KiTS: CT of kidneys with tumours and cysts, a folder for each case."""

import re
from pathlib import Path
from typing import ClassVar, Literal

from volseg.datasets import DATASETS, Case, Dataset, checked_cases
from volseg.datasets.listing import find_images, left_out
from volseg.io.formats import stem
from volseg.labels import LabelTable

_CASE = re.compile(r"case_(?P<number>\d{5})", re.IGNORECASE)
_WITH_CYSTS = re.compile(r"kits[-_ ]?(20)?2[13]", re.IGNORECASE)
_SEGMENTATIONS = ("segmentation", "aggregated_maj_seg")
"""Of 2019 and 2023; the majority of the annotators of 2021."""
_INSTANCE = re.compile(r"(kidney|tumor|cyst)_instance-\d+_annotation-\d+", re.IGNORECASE)
_FIRST_OF_2023 = 300
"""The cases of 2019 and 2021 end at case_00299."""


@DATASETS.add
class KiTS(Dataset):
    """The Kidney Tumor Segmentation Challenges of 2019, 2021 and 2023 (Heller et al., arXiv:1904.00445, 2307.01984).

    `case_NNNNN/imaging.nii.gz` with `segmentation.nii.gz` (2019, 2023) or `aggregated_MAJ_seg.nii.gz` (2021, the
    majority vote). Cysts are a label of 2021 and 2023 only. Names tell those years apart from 2019: aggregated_*_seg
    files, files of single instances, a case number above 299, or a folder or list called kits21 or kits23. Where none
    of these is there, the labels are those of 2019; a 3 in the files is then an unknown value, which a check names.
    Cases without a segmentation, such as those of the test set, are left out.
    """

    name: Literal["kits"] = "kits"
    layout: ClassVar[str] = (
        "case_NNNNN/imaging.nii[.gz] with segmentation.nii[.gz] or aggregated_MAJ_seg.nii[.gz], at any depth"
    )
    searches_subfolders: ClassVar[bool] = True

    @classmethod
    def looks_like(cls, root: Path) -> str:
        """Case folders with an image or a segmentation called as in one of the years."""
        cases = _find(root)
        labelled = sum(any(kind in files for kind in _SEGMENTATIONS) for files in cases.values())
        if not labelled:
            return ""
        return f"{labelled} folders are called case_NNNNN and hold a segmentation"

    def __call__(self) -> list[Case]:
        """The cases that have a segmentation.

        Raises:
            InputError: there is none, a segmentation lacks its image, or a case is there twice.
        """
        cases = _find(self.root)
        faulty = [
            (case, f"{paths[0]} and {paths[1]} are both the {kind} of {case}")
            for case, files in cases.items()
            for kind, paths in files.items()
            if kind in ("imaging", *_SEGMENTATIONS) and len(paths) > 1
        ]
        faulty += [
            (case, f"{case} has no imaging.nii.gz")
            for case, files in cases.items()
            if _segmentation(files) and "imaging" not in files
        ]
        wrong = {case for case, _ in faulty}
        return checked_cases(
            (
                Case(case, (files["imaging"][0],), label)
                for case, files in cases.items()
                if case not in wrong and (label := _segmentation(files))
            ),
            self.root,
            faulty=faulty,
            advice="The images are downloaded by a script of their own that comes with the collection.",
        )

    def labels(self) -> LabelTable:
        """1 kidney, 2 tumour and, in 2021 and 2023, 3 cyst."""
        names = ("Kidney", "Tumour", "Cyst") if self._has_cysts() else ("Kidney", "Tumour")
        return LabelTable.from_names(names)

    def channel_names(self) -> tuple[str, ...]:
        """One."""
        return ("CT",)

    def modality(self) -> str:
        """CT."""
        return "CT"

    @property
    def title(self) -> str:
        """The collection's name."""
        return "KiTS (Kidney Tumor Segmentation)"

    def licence(self) -> str:
        """As the collection's README states it."""
        return "CC BY-NC-SA 4.0 (github.com/neheller/kits23)"

    def notes(self) -> tuple[str, ...]:
        """The cases that are left out, and how the year was told."""
        unlabelled = [case for case, files in _find(self.root).items() if not _segmentation(files)]
        year = (
            "files or names tell KiTS21 or KiTS23, which mark cysts as 3"
            if self._has_cysts()
            else "nothing tells KiTS21 or KiTS23, so there are kidney and tumour but no cysts, as in KiTS19"
        )
        return (*left_out(unlabelled, "cases without a segmentation"), year)

    def _has_cysts(self) -> bool:
        root = self.root.resolve()
        names = [root.name, root.parent.name]
        names += [path.name for path in root.iterdir()] if root.is_dir() else []
        cases = _find(self.root)
        kinds = {kind for files in cases.values() for kind in files}
        return (
            any(_WITH_CYSTS.match(name) for name in names)
            or any(kind.startswith("aggregated_") or _INSTANCE.fullmatch(kind) for kind in kinds)
            or any(int(case[-5:]) >= _FIRST_OF_2023 for case in cases)
        )


def _find(root: Path) -> dict[str, dict[str, list[Path]]]:
    """The files by case and by their names in lower case without suffix; those of instances lie a folder deeper."""
    cases: dict[str, dict[str, list[Path]]] = {}
    for path in find_images(root):
        folder = path.parents[1] if _INSTANCE.fullmatch(stem(path)) else path.parent
        if _CASE.fullmatch(folder.name):
            kind = stem(path).lower()
            cases.setdefault(folder.name.lower(), {}).setdefault(kind, []).append(path)
    return cases


def _segmentation(files: dict[str, list[Path]]) -> Path | None:
    return next((files[kind][0] for kind in _SEGMENTATIONS if kind in files), None)
