"""The layout of the Medical Segmentation Decathlon: dataset.json beside imagesTr/ and labelsTr/."""

from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, cast

from volseg.datasets import DATASETS, Case, Dataset, checked_cases
from volseg.datasets.description import (
    label_entry,
    label_table,
    modality_of,
    numbered_channels,
    read_description,
    read_json,
)
from volseg.errors import InputError
from volseg.io.formats import stem, suffix_of
from volseg.labels import LabelTable

_ADVICE = (
    "A folder in Medical Segmentation Decathlon layout holds dataset.json, imagesTr/ and labelsTr/; give that folder as "
    "root."
)


@DATASETS.add
class MSD(Dataset):
    """The labelled cases of a Decathlon task (Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9).

    One file per case; a case of several modalities is a 4-D file whose last axis is the channel. Names that start
    with "._" (written by macOS archives) are no images and are passed over.
    """

    name: Literal["msd"] = "msd"
    layout: ClassVar[str] = 'dataset.json with a "training" list of images and labels'

    @classmethod
    def looks_like(cls, root: Path) -> str:
        """A dataset.json with a "training" list that is none of nnU-Net's.

        Raises:
            InputError: there is a dataset.json that cannot be read.
        """
        if not (root / "dataset.json").is_file():
            return ""
        found = read_json(root / "dataset.json", _ADVICE)
        if (
            not isinstance(found, dict)
            or is_nnunet(root, found)
            or not isinstance(found.get("training"), list)
        ):
            return ""
        return f'dataset.json lists {len(found["training"])} cases under "training"'

    def __call__(self) -> list[Case]:
        """The cases of the "training" list, by rising id.

        Raises:
            InputError: dataset.json is missing or wrong, or listed files are missing.
        """
        entries = self._entry("training", list)
        cases = [self._case(entry) for entry in entries]
        return checked_cases((case for case in cases if not _is_resource_fork(case)), self._list_path)

    def labels(self) -> LabelTable:
        """The labels of dataset.json, named as there, without background; both directions are read.

        Raises:
            InputError: dataset.json is missing or wrong.
            ConfigError: two labels share a name.
        """
        entries = self._entry("labels", dict).items()
        return label_table(
            self._list_path, [label_entry(self._list_path, key, value) for key, value in entries]
        )

    def channel_names(self) -> tuple[str, ...]:
        """The modalities of dataset.json, by their numbers.

        Raises:
            InputError: dataset.json is missing or wrong.
        """
        return numbered_channels(self._list_path, "modality", self._entry("modality", dict))

    def modality(self) -> str:
        """As far as the names of the channels tell: "MRI", "T1w" and so on are MR."""
        return modality_of(self.channel_names())

    @property
    def title(self) -> str:
        """The name in dataset.json."""
        name = self._description().get("name")
        return f"{name} (Medical Segmentation Decathlon layout)" if name else super().title

    def licence(self) -> str:
        """As dataset.json states it; most tasks of the Decathlon are CC-BY-SA 4.0."""
        description = self._description()
        stated = description.get("licence") or description.get("license")
        return f"{stated} (dataset.json)" if stated else ""

    @property
    def _list_path(self) -> Path:
        return self.root / "dataset.json"

    def _description(self) -> dict[str, Any]:
        return read_description(self._list_path, _ADVICE)

    def _entry(self, key: str, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
        description = self._description()
        entry = description.get(key)
        if not isinstance(entry, kind) or not entry:
            found = "nothing" if key not in description else f"{entry!r:.80}"
            raise InputError(
                f'{self._list_path}: expected a filled {"list" if kind is list else "table"} under "{key}", found '
                f"{found}. Take the file as it comes with the collection."
            )
        return entry

    def _case(self, entry: Any) -> Case:
        image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        if not isinstance(image, str) or not isinstance(label, str):
            raise InputError(
                f'{self._list_path}: "training" holds {entry!r:.120}; expected {{"image": "./imagesTr/NAME.nii.gz", '
                '"label": "./labelsTr/NAME.nii.gz"}.'
            )
        return Case(stem(image), (self.root / PurePosixPath(image),), self.root / PurePosixPath(label))


def is_nnunet(root: Path, description: dict[str, Any]) -> bool:
    """Whether a dataset.json is nnU-Net's: of version 2 by its keys, of version 1 by "_0000" at the images' names.

    Version 1 lists "NAME.nii.gz" as the Decathlon does, but its images are called "NAME_0000.nii.gz".
    """
    if "channel_names" in description or "file_ending" in description:
        return True
    training = description.get("training")
    first: Any = cast(list[Any], training)[0] if isinstance(training, list) and training else None
    image = first.get("image") if isinstance(first, dict) else None
    if not isinstance(image, str):
        return False
    listed = root / PurePosixPath(image)
    numbered = listed.with_name(f"{stem(listed)}_0000{suffix_of(listed)}")
    return numbered.exists() and not listed.exists()


def _is_resource_fork(case: Case) -> bool:
    return case.id.startswith("._")
