"""The layout of the Medical Segmentation Decathlon: dataset.json beside imagesTr/ and labelsTr/."""

import json
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from volseg.datasets import DATASETS, Case, Dataset, checked_cases
from volseg.errors import InputError
from volseg.labels import Label, LabelTable, default_colour


@DATASETS.add
class MSD(Dataset):
    """The labelled cases of a Decathlon task (Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9).

    One file per case; a case of several modalities is a 4-D file whose last axis is the channel. Names that start
    with "._" (written by macOS archives) are no images and are passed over.
    """

    name: Literal["msd"] = "msd"

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
        entries = [self._label(key, value) for key, value in self._entry("labels", dict).items()]
        names = dict(entries)
        if len(names) < len(entries):
            raise InputError(f'{self._list_path}: "labels" gives one number to two names: {sorted(entries)}.')
        values = sorted(value for value in names if value != 0)
        return LabelTable(
            tuple(Label(value, names[value], default_colour(n)) for n, value in enumerate(values))
        )

    def channel_names(self) -> tuple[str, ...]:
        """The modalities of dataset.json, by their numbers.

        Raises:
            InputError: dataset.json is missing or wrong.
        """
        modality = self._entry("modality", dict)
        if sorted(modality) != sorted(str(n) for n in range(len(modality))):
            raise InputError(
                f'{self._list_path}: "modality" has the keys {", ".join(modality)}; expected the channel numbers 0, 1, '
                "... without a gap."
            )
        return tuple(str(modality[str(n)]) for n in range(len(modality)))

    @property
    def _list_path(self) -> Path:
        return self.root / "dataset.json"

    def _entry(self, key: str, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
        description = _read_json(self._list_path)
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
        case_id = PurePosixPath(image).name.removesuffix(".gz").removesuffix(".nii")
        return Case(case_id, (self.root / PurePosixPath(image),), self.root / PurePosixPath(label))

    def _label(self, key: str, value: Any) -> tuple[int, str]:
        """From `"1": "Anterior"`, `"Anterior": 1` or `"Anterior": "1"` to (1, "Anterior")."""
        number, name = (key, value) if key.isdecimal() else (str(value), key)
        if not number.isdecimal() or not isinstance(name, str):
            raise InputError(
                f'{self._list_path}: "labels" holds {key!r}: {value!r}; expected a whole number and a name, such as '
                '"1": "Anterior". Labels made of several values are not part of this layout.'
            )
        return int(number), name


def _is_resource_fork(case: Case) -> bool:
    return case.id.startswith("._")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: not found. A folder in Medical Segmentation Decathlon layout holds dataset.json, imagesTr/ and "
            "labelsTr/; give that folder as root."
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: is no valid JSON ({error}). Take the file as it comes with the collection."
        ) from error
    if not isinstance(description, dict):
        raise InputError(
            f"{path}: holds a {type(description).__name__}; expected a table with training and labels."
        )
    return description
