"""Labelled collections: one adapter per folder layout, each giving the same list of cases.

A dataset is a Step with a root folder. It reads lists and file names only; voxels are read later, case by case.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from volseg.errors import InputError, few
from volseg.labels import LabelRegion, LabelTable
from volseg.registry import Registry, Step


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
    def files(self) -> tuple[Path, ...]:
        """Every file of the case, images first."""
        return self.images if self.label is None else (*self.images, self.label)


class Dataset(Step):
    """What every dataset adapter offers."""

    root: Path
    """The folder that holds the collection."""

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

    def regions(self) -> tuple[LabelRegion, ...]:
        """The nested regions, outermost first, that may be trained instead of the labels; () where there are none."""
        return ()


DATASETS = Registry[Dataset]("dataset", "volseg.datasets")


def checked_cases(cases: Iterable[Case], source: Path) -> list[Case]:
    """The cases by rising id, once it is sure that they can be read.

    Args:
        cases: the cases an adapter found.
        source: the folder or list they come from, for messages.

    Raises:
        InputError: there is no case, an id occurs twice, or files are missing (the first few are named).
    """
    ordered = sorted(cases, key=lambda case: case.id)
    if not ordered:
        raise InputError(f"{source}: found no labelled case; expected at least one image with its label map.")
    repeated = sorted({first.id for first, second in pairwise(ordered) if first.id == second.id})
    if repeated:
        raise InputError(f"{source}: {few(repeated, 3)} listed more than once; every case needs its own id.")
    missing = [str(path) for case in ordered for path in case.files if not path.is_file()]
    if missing:
        raise InputError(
            f"{source}: {len(missing)} of {sum(len(case.files) for case in ordered)} listed files are missing: "
            f"{few(missing, 3)}. Unpack the collection completely, or take the missing cases off the list."
        )
    return ordered
