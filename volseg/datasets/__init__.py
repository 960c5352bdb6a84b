"""Labelled collections: one adapter per folder layout, each giving the same list of cases.

A dataset is a Step with a root folder. It reads lists and file names only; voxels are read later, case by case.
"""

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from volseg.errors import InputError, counted, few
from volseg.labels import LabelRegion, LabelTable
from volseg.registry import Registry, Step

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]|^[.-]")


@dataclass(frozen=True)
class Case:
    """One patient's scan set: its images (each holds one or several channels, in order) and its label map."""

    id: str
    images: tuple[Path, ...]
    """Image files, or folders, archives and files of DICOM."""
    label: Path | None = None
    """A label map, a DICOM SEG or an RTSTRUCT."""
    patient: str = ""
    """Cases of one patient never lie on both sides of a split; "" is a patient of its own."""
    series: tuple[str, ...] = ()
    """For DICOM: the key of the series to read (see volseg.io.dicom.index) for each image; () for other files."""
    remap: Mapping[int, int] = field(default_factory=dict, hash=False)
    """Label values in the file that stand for another value of the dataset's table; 0 is background."""

    @property
    def file_name(self) -> str:
        """The id as part of a file name, on any file system; ids that differ stay different."""
        name = _UNSAFE.sub("_", self.id)
        return name if name == self.id else f"{name}-{sha256(self.id.encode()).hexdigest()[:6]}"

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the case, images first."""
        return self.images if self.label is None else (*self.images, self.label)


class Dataset(Step):
    """What every dataset adapter offers."""

    layout: ClassVar[str] = ""
    """What the adapter looks for, in words."""
    searches_subfolders: ClassVar[bool] = False
    """Whether it finds its files at any depth below the root."""

    root: Path
    """The folder that holds the collection; for a table of paths, the table."""

    @classmethod
    @abstractmethod
    def looks_like(cls, root: Path) -> str:
        """Why a folder or file is of this layout, in words, from names and lists alone; "" where it is not.

        Raises:
            InputError: a list or folder that would tell cannot be read.
        """

    @abstractmethod
    def __call__(self) -> list[Case]:
        """The cases, by rising id; every file was seen to exist and every id is unique."""

    @abstractmethod
    def labels(self) -> LabelTable:
        """The labels that the label maps may hold, background left out."""

    @abstractmethod
    def channel_names(self) -> tuple[str, ...]:
        """The names of the channels of a case, in array order [C]."""

    def modality(self) -> str:
        """The DICOM modality of all channels, "CT" or "MR"; "" where the collection does not tell."""
        return ""

    @property
    def title(self) -> str:
        """A short name of the collection for people, such as "LiTS (Liver Tumor Segmentation)"."""
        return self.root.resolve().stem

    def licence(self) -> str:
        """The licence of the data and where it is written; "" where nothing is known."""
        return ""

    def notes(self) -> tuple[str, ...]:
        """What a person should know before training: what was left out, what was assumed. One sentence each."""
        return ()

    def regions(self) -> tuple[LabelRegion, ...]:
        """The nested regions, outermost first, that may be trained instead of the labels; () where there are none."""
        return ()


DATASETS = Registry[Dataset]("dataset", "volseg.datasets")


class IncompleteError(InputError):
    """Files of some cases are missing or there twice; a check goes on with the others."""

    def __init__(self, message: str, *, cases: Iterable[Case], problems: Iterable[tuple[str, str]]) -> None:
        super().__init__(message)
        self.cases = tuple(cases)
        """Those that are complete."""
        self.problems = tuple(problems)
        """The id of each other case ("" where unknown), and what is wrong with its files."""


def checked_cases(
    cases: Iterable[Case], source: Path, *, faulty: Iterable[tuple[str, str]] = (), advice: str = ""
) -> list[Case]:
    """The cases by rising id, once it is sure that they can be read.

    Args:
        cases: the cases an adapter found.
        source: the folder or list they come from, for messages.
        faulty: the id of each further case ("" where unknown), and what of its files is missing or there twice.
        advice: what to do about those, as a sentence.

    Raises:
        InputError: there is no case, or an id occurs twice.
        IncompleteError: files are missing or there twice (the first few are named).
    """
    ordered = sorted(cases, key=lambda case: case.id)
    faulty = list(faulty)
    if not ordered and not faulty:
        raise InputError(f"{source}: found no labelled case; expected at least one image with its label map.")
    repeated = sorted({first.id for first, second in pairwise(ordered) if first.id == second.id})
    if repeated:
        raise InputError(f"{source}: {few(repeated, 3)} listed more than once; every case needs its own id.")
    lost = {case.id: [str(path) for path in case.files if not path.exists()] for case in ordered}
    missing = [path for paths in lost.values() for path in paths]
    if not missing and not faulty:
        return ordered
    told = (
        [f"{counted(len(faulty), 'problem')}: {few([text for _, text in faulty], 12)}. {advice}"]
        if faulty
        else []
    )
    if missing:
        told.append(
            f"{len(missing)} of {sum(len(case.files) for case in ordered)} listed files are missing: {few(missing, 3)}. "
            "Unpack the collection completely, or take the missing cases off the list."
        )
    faulty += [(name, f"missing: {few(paths, 5)}") for name, paths in lost.items() if paths]
    complete = [case for case in ordered if not lost[case.id]]
    raise IncompleteError(f"{source}: {' '.join(told)}", cases=complete, problems=faulty)
