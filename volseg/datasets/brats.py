"""BraTS: MR of gliomas in four modalities, in the spelling of 2017 to 2021 and in that of 2023 and later."""

import re
from pathlib import Path
from typing import ClassVar, Literal

from volseg.datasets import DATASETS, Case, Dataset, checked_cases
from volseg.datasets.listing import find_images, left_out
from volseg.io.formats import stem
from volseg.labels import LabelRegion, LabelTable

CHANNELS = ("FLAIR", "T1", "T1CE", "T2")

_OLD = re.compile(r"(?P<case>.+)_(?P<kind>flair|t1|t1ce|t2|seg)", re.IGNORECASE)
_NEW = re.compile(r"(?P<case>.+)-(?P<kind>t1n|t1c|t2w|t2f|seg)", re.IGNORECASE)
_KINDS = {
    "flair": "FLAIR", "t1": "T1", "t1ce": "T1CE", "t2": "T2",
    "t2f": "FLAIR", "t1n": "T1", "t1c": "T1CE", "t2w": "T2",
    "seg": "seg",
}  # fmt: skip
_TIME_POINT = re.compile(
    r"(?P<patient>BraTS-[A-Z]+-\d+)-\d+|(?P<old_patient>Brats1[789]_.+)_\d+", re.IGNORECASE
)
_OLD_ENHANCING = {4: 3}


class _Scans:
    """The files of one case, by channel name and "seg"."""

    def __init__(self) -> None:
        self.files: dict[str, list[Path]] = {}
        self.is_new = False
        """Whether any file is spelled as in 2023 and later."""

    @property
    def missing(self) -> list[str]:
        return [channel for channel in CHANNELS if channel not in self.files]


@DATASETS.add
class BraTS(Dataset):
    """The Multimodal Brain Tumor Segmentation Challenge (Menze et al. 2015, doi:10.1109/TMI.2014.2377694).

    `CASE_{flair,t1,t1ce,t2,seg}.nii[.gz]` (2017 to 2021) and `CASE-{t2f,t1n,t1c,t2w,seg}.nii[.gz]` (2023 and later), in
    folders by case, by grade (HGG, LGG) or in none; both give the same channels in the same order. The enhancing tumour
    is 4 in the older years and 3 in the newer; it is 3 here. A 4 in the newer spelling is something else (the resection
    cavity of 2024, for one) and stays a 4, which a check then names as unknown. Cases without a segmentation, such as
    those of the validation set, are left out.
    """

    name: Literal["brats"] = "brats"
    layout: ClassVar[str] = (
        "CASE_{flair,t1,t1ce,t2,seg}.nii[.gz] or CASE-{t2f,t1n,t1c,t2w,seg}.nii[.gz], at any depth"
    )
    searches_subfolders: ClassVar[bool] = True

    @classmethod
    def looks_like(cls, root: Path) -> str:
        """Segmentations, and at least one of them with all four modalities."""
        labelled = [scans for scans in _find(root).values() if "seg" in scans.files]
        if not any(not scans.missing for scans in labelled):
            return ""
        new = sum(scans.is_new for scans in labelled)
        spellings = [(len(labelled) - new, "CASE_flair ... CASE_seg"), (new, "CASE-t2f ... CASE-seg")]
        return " and ".join(f"{count} cases are spelled {how}" for count, how in spellings if count)

    def __call__(self) -> list[Case]:
        """The cases that have a segmentation.

        Raises:
            InputError: there is none, modalities are missing, a segmentation has no image, or a file is there twice.
        """
        cases = _find(self.root)
        faulty = [
            (case, f"case {case}: {paths[0]} and {paths[1]} are both its {kind}")
            for case, scans in cases.items()
            for kind, paths in scans.files.items()
            if len(paths) > 1
        ]
        faulty += [
            (case, f"case {case} has no {' and no '.join(scans.missing)}")
            for case, scans in cases.items()
            if scans.missing and "seg" in scans.files
        ]
        wrong = {case for case, _ in faulty}
        labelled = [(case, scans) for case, scans in cases.items() if "seg" in scans.files]
        return checked_cases(
            (_case(case, scans) for case, scans in labelled if case not in wrong),
            self.root,
            faulty=faulty,
            advice="Every case needs FLAIR, T1, T1CE and T2 once; unpack it again or take it out.",
        )

    def labels(self) -> LabelTable:
        """1 necrotic and non-enhancing core, 2 oedema, 3 enhancing tumour (4 in the files of 2017 to 2021)."""
        return LabelTable.from_names(("Necrotic and non-enhancing core", "Oedema", "Enhancing"))

    def regions(self) -> tuple[LabelRegion, ...]:
        """Whole tumour, tumour core, enhancing tumour: what the challenge scores."""
        return (
            LabelRegion("Whole tumour", (1, 2, 3), paint=2),
            LabelRegion("Tumour core", (1, 3), paint=1),
            LabelRegion("Enhancing tumour", (3,), paint=3),
        )

    def channel_names(self) -> tuple[str, ...]:
        """FLAIR, T1, T1CE, T2."""
        return CHANNELS

    def modality(self) -> str:
        """MR."""
        return "MR"

    @property
    def title(self) -> str:
        """The collection's name."""
        return "BraTS (Brain Tumor Segmentation)"

    def licence(self) -> str:
        """The years differ."""
        return "the terms of the BraTS challenge of the year (data of 2017 to 2020: med.upenn.edu/cbica; later: synapse.org)"

    def notes(self) -> tuple[str, ...]:
        """The cases that are left out."""
        unlabelled = [case for case, scans in _find(self.root).items() if "seg" not in scans.files]
        return left_out(unlabelled, "cases without a segmentation")


def _find(root: Path) -> dict[str, _Scans]:
    cases: dict[str, _Scans] = {}
    for path in find_images(root):
        name = stem(path)
        new = _NEW.fullmatch(name)
        match = new or _OLD.fullmatch(name)
        if match:
            scans = cases.setdefault(match["case"], _Scans())
            scans.files.setdefault(_KINDS[match["kind"].lower()], []).append(path)
            scans.is_new |= new is not None
    return cases


def _case(name: str, scans: _Scans) -> Case:
    time_point = _TIME_POINT.fullmatch(name)
    return Case(
        name,
        tuple(scans.files[channel][0] for channel in CHANNELS),
        scans.files["seg"][0],
        patient=(time_point["patient"] or time_point["old_patient"]) if time_point else "",
        remap={} if scans.is_new else _OLD_ENHANCING,
    )
