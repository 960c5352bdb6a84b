"""DICOM as it leaves an archive: series, and the SEG or RTSTRUCT objects that refer to them."""

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from volseg.datasets import DATASETS, Case, Dataset, checked_cases
from volseg.datasets.listing import left_out
from volseg.labels import Code, Label, LabelTable, default_colour

if TYPE_CHECKING:
    from volseg.io.dicom.pairing import Pair, Pairing


@DATASETS.add
class DicomPairs(Dataset):
    """DICOM series in folders of any kind, each with one SEG or RTSTRUCT that refers to it.

    What belongs together is told by the UIDs in the headers. Labels are matched by name over all files, whatever their
    numbers and the case of their letters, and numbered 1, 2, ... in the order of the alphabet. Ids are the keys of the
    series and patients are pseudonyms such as "patient 3". Series that nothing refers to are left out.
    """

    name: Literal["dicom_pairs"] = "dicom_pairs"
    layout: ClassVar[str] = "DICOM SEG or RTSTRUCT files beside the series they refer to, at any depth"
    searches_subfolders: ClassVar[bool] = True

    @classmethod
    def looks_like(cls, root: Path) -> str:
        """The first SEG or RTSTRUCT that is met."""
        from volseg.io.dicom.annotations import find_annotations  # noqa: PLC0415 - pydicom loads when it is needed

        found = next(find_annotations(root), None) if root.is_dir() else None
        return "it holds DICOM segmentations (SEG or RTSTRUCT)" if found else ""

    def __call__(self) -> list[Case]:
        """The series that a SEG or RTSTRUCT refers to.

        Raises:
            InputError: there is none; a series that is referred to is missing, cannot be read or is meant by several.
        """
        advice = (
            "Export the series that are missing; move the files whose series cannot be read, and all but one of those of "
            "the same series, out of the folder."
        )
        values = {_key(label.name): label.value for label in self.labels()}
        return checked_cases(
            (_case(pair, values) for pair in self._pairing.pairs),
            self.root,
            faulty=[("", text) for text in self._pairing.problems],
            advice=advice,
        )

    def labels(self) -> LabelTable:
        """The names of the segments and regions, each once, in the order of the alphabet."""
        spellings: dict[str, Counter[str]] = {}
        codes: dict[str, Code] = {}
        for pair in self._pairing.pairs:
            for number, name in pair.annotation.names.items():
                spellings.setdefault(_key(name), Counter())[" ".join(name.split())] += 1
                if number in pair.annotation.codes:
                    codes.setdefault(_key(name), pair.annotation.codes[number])
        return LabelTable(
            tuple(
                Label(n + 1, _most_frequent(spellings[key]), default_colour(n), codes.get(key))
                for n, key in enumerate(sorted(spellings))
            )
        )

    def channel_names(self) -> tuple[str, ...]:
        """One, called after its modality."""
        return (self.modality() or "image",)

    def modality(self) -> str:
        """That of all series; "" where they differ."""
        found = {pair.volume.modality for pair in self._pairing.pairs}
        return found.pop() if len(found) == 1 else ""

    def notes(self) -> tuple[str, ...]:
        """The series that are left out, and labels that not every case has."""
        pairs = self._pairing.pairs
        counts = Counter(key for pair in pairs for key in set(map(_key, pair.annotation.names.values())))
        rare = [
            f"'{label.name}' is named in {counts[_key(label.name)]} of {len(pairs)} cases"
            for label in self.labels()
            if counts[_key(label.name)] < len(pairs)
        ]
        unlabelled = [volume.key for volume in self._pairing.unpaired]
        return (*left_out(unlabelled, "series without a segmentation"), *rare)

    @cached_property
    def _pairing(self) -> "Pairing":
        from volseg.io.dicom.pairing import pair_annotations  # noqa: PLC0415 - pydicom loads when it is needed

        return pair_annotations(self.root)


def _case(pair: "Pair", values: dict[str, int]) -> Case:
    remap = {number: values[_key(name)] for number, name in pair.annotation.names.items()}
    return Case(
        pair.volume.key,
        (pair.source,),
        pair.annotation.path,
        patient=pair.volume.patient,
        series=(pair.volume.key,),
        remap={number: value for number, value in remap.items() if number != value},
    )


def _key(name: str) -> str:
    """A name as it is compared."""
    return " ".join(name.split()).casefold()


def _most_frequent(spellings: Counter[str]) -> str:
    return min(spellings, key=lambda spelling: (-spellings[spelling], spelling))
