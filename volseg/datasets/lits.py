"""LiTS: CT of the abdomen with liver and lesions, as volume-N and segmentation-N."""

import re
from pathlib import Path
from typing import ClassVar, Literal

from volseg.datasets import DATASETS, Case, Dataset, checked_cases
from volseg.datasets.listing import find_images, left_out
from volseg.io.formats import stem
from volseg.labels import LabelTable

_NAME = re.compile(r"(?P<kind>volume|segmentation|test-volume)-(?P<number>\d+)", re.IGNORECASE)

_Found = dict[str, dict[int, list[Path]]]
"""Files by kind and number."""


@DATASETS.add
class LiTS(Dataset):
    """The Liver Tumor Segmentation Benchmark (Bilic et al. 2023, doi:10.1016/j.media.2022.102680).

    `volume-N.nii[.gz]` with `segmentation-N.nii[.gz]`, in one folder or spread over subfolders in any way. Volumes
    without a segmentation, such as those of the test set, are left out.
    """

    name: Literal["lits"] = "lits"
    layout: ClassVar[str] = "volume-N.nii[.gz] and segmentation-N.nii[.gz], at any depth"
    searches_subfolders: ClassVar[bool] = True

    @classmethod
    def looks_like(cls, root: Path) -> str:
        """Volumes and segmentations by name."""
        found = _find(root)
        volumes, segmentations = len(found["volume"]), len(found["segmentation"])
        if not volumes or not segmentations:
            return ""
        return f"{volumes} files are called volume-N and {segmentations} segmentation-N"

    def __call__(self) -> list[Case]:
        """The volumes that have a segmentation.

        Raises:
            InputError: there is none, a segmentation lacks its volume, or two files have one number.
        """
        found = _find(self.root)
        faulty = [
            (f"volume-{number}", f"{paths[0]} and {paths[1]} are both {kind}-{number}")
            for kind in ("volume", "segmentation")
            for number, paths in sorted(found[kind].items())
            if len(paths) > 1
        ]
        faulty += [
            (f"volume-{number}", f"{found['segmentation'][number][0]} has no volume-{number}")
            for number in sorted(found["segmentation"].keys() - found["volume"].keys())
        ]
        pairs = {
            f"volume-{n}": (found["volume"].get(n, []), paths) for n, paths in found["segmentation"].items()
        }
        wrong = {case for case, _ in faulty}
        return checked_cases(
            (
                Case(case, (image[0],), label[0])
                for case, (image, label) in pairs.items()
                if case not in wrong
            ),
            self.root,
            faulty=faulty,
            advice="Keep one file of each number, and put the missing volumes beside.",
        )

    def labels(self) -> LabelTable:
        """1 liver, 2 lesion."""
        return LabelTable.from_names(("Liver", "Lesion"))

    def channel_names(self) -> tuple[str, ...]:
        """One."""
        return ("CT",)

    def modality(self) -> str:
        """CT."""
        return "CT"

    @property
    def title(self) -> str:
        """The collection's name."""
        return "LiTS (Liver Tumor Segmentation)"

    def licence(self) -> str:
        """As the challenge states it."""
        return "CC BY-NC-ND 4.0 (competitions.codalab.org/competitions/17094)"

    def notes(self) -> tuple[str, ...]:
        """The volumes that are left out."""
        found = _find(self.root)
        numbers = found["volume"].keys() - found["segmentation"].keys()
        unlabelled = [path.name for number in numbers for path in found["volume"][number]]
        tests = [path.name for paths in found["test-volume"].values() for path in paths]
        return left_out([*unlabelled, *tests], "volumes without a segmentation")


def _find(root: Path) -> _Found:
    found: _Found = {"volume": {}, "segmentation": {}, "test-volume": {}}
    for path in find_images(root):
        match = _NAME.fullmatch(stem(path))
        if match:
            found[match["kind"].lower()].setdefault(int(match["number"]), []).append(path)
    return found
