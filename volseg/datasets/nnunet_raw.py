"""The raw layout of nnU-Net, versions 1 and 2: one file per channel, numbered at the end of its name."""

import re
from collections.abc import Iterator
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
from volseg.datasets.listing import is_hidden
from volseg.datasets.msd import is_nnunet
from volseg.errors import InputError
from volseg.io.formats import KNOWN_SUFFIXES
from volseg.labels import LabelRegion, LabelTable

_ADVICE = (
    "A dataset of nnU-Net's raw layout holds dataset.json, imagesTr/ and labelsTr/; give that folder as root."
)
_FIRST_VERSION_ENDING = ".nii.gz"
_NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@DATASETS.add
class NnunetRaw(Dataset):
    """A dataset as nnU-Net trains on it (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

    `imagesTr/CASE_0000.ext`, `CASE_0001.ext` ... with `labelsTr/CASE.ext` and dataset.json: "channel_names" (version 1:
    "modality"), "labels", "file_ending" (version 1: .nii.gz), and "dataset" where the files lie elsewhere. Labels that
    are lists of values are regions, in the order of the file; "regions_class_order" says what each paints.
    """

    name: Literal["nnunet_raw"] = "nnunet_raw"
    layout: ClassVar[str] = 'dataset.json with "channel_names" or "file_ending", or images called NAME_0000'

    @classmethod
    def looks_like(cls, root: Path) -> str:
        """By dataset.json and, for version 1, the names of the images.

        Raises:
            InputError: there is a dataset.json that cannot be read.
        """
        if not (root / "dataset.json").is_file():
            return ""
        found = read_json(root / "dataset.json", _ADVICE)
        if not isinstance(found, dict) or not is_nnunet(root, found):
            return ""
        keys = [f'"{key}"' for key in ("channel_names", "file_ending") if key in found]
        return f"dataset.json has {' and '.join(keys)}" if keys else "its images are called NAME_0000"

    def __call__(self) -> list[Case]:
        """The cases of imagesTr/ and labelsTr/, or those of "dataset" in dataset.json.

        Raises:
            InputError: dataset.json is wrong, channels or labels are missing, or the files are of no known format.
        """
        listed = self._description().get("dataset")
        if isinstance(listed, dict):
            entries = cast(dict[str, Any], listed)
            return checked_cases((self._listed_case(*item) for item in entries.items()), self._list_path)
        channels, images, labels = len(self.channel_names()), self._images(), self._files("labelsTr")
        faulty = [
            (case, f"case {case} has the channels {', '.join(f'{n:04d}' for n in sorted(files)) or 'none'}")
            for case in sorted(labels)
            if sorted(files := images.get(case, {})) != list(range(channels))
        ]
        faulty += [(case, f"case {case} has no label map") for case in sorted(images.keys() - labels.keys())]
        wrong = {case for case, _ in faulty}
        return checked_cases(
            (
                Case(case, tuple(images[case][n] for n in range(channels)), label)
                for case, label in labels.items()
                if case not in wrong
            ),
            self.root,
            faulty=faulty,
            advice=f"Every case needs imagesTr/CASE_0000 to CASE_{channels - 1:04d} and labelsTr/CASE.",
        )

    def labels(self) -> LabelTable:
        """The labels of dataset.json; where these are regions, one for each value, named after the innermost region.

        Raises:
            InputError: dataset.json is missing or wrong, or leaves voxels out of training ("ignore").
            ConfigError: two labels share a name.
        """
        regions = self.regions()
        if not regions:
            entries = [label_entry(self._list_path, *item) for item in self._labels().items()]
            return label_table(self._list_path, entries)
        values = sorted({value for region in regions for value in region.values})
        return label_table(self._list_path, [(value, _name_in(regions, value)) for value in values])

    def regions(self) -> tuple[LabelRegion, ...]:
        """The labels that are lists of values, and what "regions_class_order" paints for each.

        Raises:
            InputError: dataset.json is missing or wrong.
            ConfigError: a region paints what it does not hold.
        """
        labels = self._labels()
        if not any(isinstance(value, list) for value in labels.values()):
            return ()
        regions = {name: self._values(name, value) for name, value in labels.items()}
        regions = {name: values for name, values in regions.items() if values != (0,)}
        order = self._description().get("regions_class_order")
        if not isinstance(order, list) or len(cast(list[Any], order)) != len(regions):
            raise InputError(
                f'{self._list_path}: has {len(regions)} regions ({", ".join(regions)}) and "regions_class_order" '
                f"{order!r:.80}; expected as many values, each painted where its region is."
            )
        return tuple(
            LabelRegion(name, values, int(paint))
            for (name, values), paint in zip(regions.items(), cast(list[Any], order), strict=True)
        )

    def channel_names(self) -> tuple[str, ...]:
        """As in dataset.json, by their numbers.

        Raises:
            InputError: dataset.json is missing or wrong.
        """
        description = self._description()
        key = "channel_names" if "channel_names" in description else "modality"
        channels = description.get(key)
        if not isinstance(channels, dict) or not channels:
            raise InputError(
                f'{self._list_path}: expected a filled table under "channel_names", found {channels!r:.80}.'
            )
        return numbered_channels(self._list_path, key, cast(dict[str, Any], channels))

    def modality(self) -> str:
        """As far as the names of the channels tell."""
        return modality_of(self.channel_names())

    @property
    def title(self) -> str:
        """The name in dataset.json, else that of the folder without "Dataset123_"."""
        name = self._description().get("name") or self.root.resolve().name
        return f"{re.sub(r'^(Dataset|Task)[0-9]+_', '', str(name))} (nnU-Net layout)"

    def licence(self) -> str:
        """As dataset.json states it."""
        description = self._description()
        stated = description.get("licence") or description.get("license")
        return f"{stated} (dataset.json)" if stated else ""

    def notes(self) -> tuple[str, ...]:
        """Whether there are as many cases as dataset.json announces."""
        description = self._description()
        announced, count = description.get("numTraining"), len(self._files("labelsTr"))
        if announced in (None, count) or "dataset" in description:
            return ()
        return (f"dataset.json announces {announced} training cases, and labelsTr holds {count}",)

    @property
    def _list_path(self) -> Path:
        return self.root / "dataset.json"

    def _description(self) -> dict[str, Any]:
        return read_description(self._list_path, _ADVICE)

    def _labels(self) -> dict[str, Any]:
        labels = self._description().get("labels")
        if not isinstance(labels, dict) or not labels:
            raise InputError(
                f'{self._list_path}: expected a filled table under "labels", found {labels!r:.80}.'
            )
        if any(name.lower() == "ignore" for name in cast(dict[str, Any], labels)):
            raise InputError(
                f'{self._list_path}: has an "ignore" label (voxels without annotation), which volseg cannot leave out of '
                "training. Take out the cases that hold it, or give these voxels a label."
            )
        return cast(dict[str, Any], labels)

    def _values(self, name: str, value: Any) -> tuple[int, ...]:
        values = cast(list[Any], value) if isinstance(value, list) else [value]
        return tuple(label_entry(self._list_path, name, each)[0] for each in values)

    def _files(self, folder: str) -> dict[str, Path]:
        """The files of a folder by their names without the ending."""
        ending = str(self._description().get("file_ending", _FIRST_VERSION_ENDING)).lower()
        if ending not in KNOWN_SUFFIXES:
            raise InputError(
                f"{self._list_path}: its files end in '{ending}', which volseg does not read; known are "
                f"{', '.join(KNOWN_SUFFIXES)}. Convert them first."
            )
        return {path.name[: -len(ending)]: path for path in _listed(self.root / folder, ending)}

    def _images(self) -> dict[str, dict[int, Path]]:
        """The files of imagesTr by case and channel."""
        images: dict[str, dict[int, Path]] = {}
        for name, path in self._files("imagesTr").items():
            numbered = numbered_channel(name)
            if numbered is None:
                raise InputError(
                    f"{path}: its name does not end in a channel number such as _0000, as nnU-Net's images do."
                )
            images.setdefault(numbered[0], {})[numbered[1]] = path
        return images

    def _listed_case(self, name: str, entry: Any) -> Case:
        images, label = (entry.get("images"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        count = len(self.channel_names())
        if (
            not isinstance(images, list)
            or len(cast(list[Any], images)) != count
            or not isinstance(label, str)
        ):
            raise InputError(
                f'{self._list_path}: "dataset" holds {name!r}: {entry!r:.120}; expected {count} images and a label.'
            )
        paths = tuple(self.root / PurePosixPath(str(image)) for image in cast(list[Any], images))
        return Case(name, paths, self.root / PurePosixPath(label))


def numbered_channel(name: str) -> tuple[str, int] | None:
    """Case and channel of a file name without its ending, such as "liver_001_0000"; None where it has no number."""
    match = _NUMBERED.fullmatch(name)
    return None if match is None else (match["case"], int(match["channel"]))


def _listed(folder: Path, ending: str) -> Iterator[Path]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}). {_ADVICE}") from error
    return (folder / name for name in names if name.lower().endswith(ending) and not is_hidden(name))


def _name_in(regions: tuple[LabelRegion, ...], value: int) -> str:
    """What a value is called that has no name but the regions it lies in: that of the smallest."""
    inner = min(
        (region for region in regions if value in region.values), key=lambda region: len(region.values)
    )
    if inner.values == (value,):
        return inner.name
    return f"{inner.name} only" if value == inner.paint else f"{inner.name} (value {value})"
