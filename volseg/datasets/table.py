"""A table of paths, as CSV or JSON: for collections that are in no known layout."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from volseg.datasets import DATASETS, Case, Dataset, checked_cases
from volseg.datasets.description import label_entry, label_table, modality_of, read_description, read_json
from volseg.datasets.listing import refuse
from volseg.errors import InputError
from volseg.io import stem
from volseg.labels import LabelRegion, LabelTable

_IMAGE = re.compile(r"images?(?:[ _-]?(?P<channel>.+))?", re.IGNORECASE)
_DELIMITERS = ",;\t"
_ADVICE = (
    "A table of paths has a line of column names (image, or image_NAME for each channel; label; if known, id and patient) "
    "and a line for each case."
)
_LABELS_ADVICE = (
    'names the labels, such as {"labels": {"1": "Liver", "2": "Lesion"}, "modality": "CT"}; label names cannot be known '
    "from paths."
)


@dataclass(frozen=True)
class _Row:
    """What one line or entry says: its place for messages, and its cells by column."""

    place: str
    cells: Mapping[str, str]


@DATASETS.add
class Table(Dataset):
    """Cases listed in a file. Paths in it are relative to the file's folder, or absolute.

    As CSV (commas, semicolons or tabs), with a line for each case under a line of column names:

        id,patient,image_flair,image_t1,label
        case 1,patient 1,scans/1 flair.nii.gz,scans/1 t1.nii.gz,labels/1.nii.gz

    `image` alone for one channel, or one column for each channel in the order that the network shall have; what follows
    "image" names the channel. `label` is the label map. `id` may be left out: the first image's name then stands for
    it. `patient` keeps the cases of one patient on one side of a split. Other columns are passed over. Beside it,
    under the same name, lies a JSON file with the names of the labels:

        {"labels": {"1": "Oedema", "2": "Tumour"}, "modality": "MR",
         "regions": [{"name": "Whole", "values": [1, 2], "paint": 1}], "remap": {"4": 2}, "licence": "..."}

    Only "labels" is needed; "remap" gives label values in the files that stand for others. As JSON, one file holds both:
    the same, and `"cases": [{"id": ..., "patient": ..., "image": PATH or [PATHS] or {CHANNEL: PATH}, "label": PATH}]`.
    """

    name: Literal["table"] = "table"
    layout: ClassVar[str] = (
        "a .csv file (or .json with cases) of the paths of images and labels, given itself"
    )

    @classmethod
    def looks_like(cls, root: Path) -> str:
        """A CSV file, or a JSON file with "cases".

        Raises:
            InputError: the JSON file cannot be read.
        """
        if not root.is_file():
            return ""
        if root.suffix.lower() in (".csv", ".tsv"):
            return "it is a table of paths"
        if root.suffix.lower() != ".json":
            return ""
        found = read_json(root, _ADVICE)
        return 'it has "cases"' if isinstance(found, dict) and "cases" in found else ""

    def __call__(self) -> list[Case]:
        """The cases of all lines.

        Raises:
            InputError: the table cannot be read, cells are empty, or files are missing; lines are named.
        """
        rows, remap = self._rows(), self._remap()
        channels = _channels(self.root, rows[0])
        problems = [f"{row.place} has no {name}" for row in rows for name in _empty(row, channels)]
        names = [_id(row, channels) for row in rows]
        places: dict[str, str] = {}
        for name, row in zip(names, rows, strict=True):
            if name and places.setdefault(name, row.place) != row.place:
                problems.append(f"{row.place} repeats the id '{name}' of {places[name]}")
        refuse(self.root, problems, "Every case needs its own id, all its images and a label.")
        folder = self.root.parent
        return checked_cases(
            (
                Case(
                    name,
                    tuple(folder / row.cells[column] for column in channels),
                    folder / row.cells["label"],
                    patient=row.cells.get("patient", ""),
                    remap=remap,
                )
                for name, row in zip(names, rows, strict=True)
            ),
            self.root,
        )

    def labels(self) -> LabelTable:
        """The "labels" of the JSON file.

        Raises:
            InputError: they are not given, or not as numbers and names.
            ConfigError: two labels share a name.
        """
        labels = self._description().get("labels")
        if not isinstance(labels, dict) or not labels:
            raise InputError(f"{self.root}: expected that {self._description_path} {_LABELS_ADVICE}")
        entries = cast(dict[str, Any], labels).items()
        return label_table(
            self._description_path, [label_entry(self._description_path, *item) for item in entries]
        )

    def regions(self) -> tuple[LabelRegion, ...]:
        """The "regions" of the JSON file.

        Raises:
            InputError: they are not written as described.
            ConfigError: a region paints what it does not hold.
        """
        try:
            return tuple(
                LabelRegion(str(region["name"]), tuple(map(int, region["values"])), int(region["paint"]))
                for region in self._description().get("regions", [])
            )
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f'{self._description_path}: "regions" is to be a list such as '
                '[{"name": "Whole tumour", "values": [1, 2, 3], "paint": 2}], outermost first.'
            ) from None

    def channel_names(self) -> tuple[str, ...]:
        """What follows "image" in the columns; "image 1" and so on where only numbers or nothing follow."""
        columns = _channels(self.root, self._rows()[0])
        modality = str(self._description().get("modality", ""))
        if len(columns) == 1 and modality and not _channel(columns[0]):
            return (modality,)
        return tuple(
            name if (name := _channel(column)) and not name.isdecimal() else f"image {number}"
            for number, column in enumerate(columns, start=1)
        )

    def modality(self) -> str:
        """As in the JSON file, else as far as the names of the channels tell."""
        return str(self._description().get("modality", "")).upper() or modality_of(self.channel_names())

    @property
    def title(self) -> str:
        """As in the JSON file, else the name of the table."""
        return str(self._description().get("title") or super().title)

    def licence(self) -> str:
        """As in the JSON file."""
        description = self._description()
        return str(description.get("licence") or description.get("license") or "")

    @property
    def _description_path(self) -> Path:
        return self.root.with_suffix(".json")

    def _description(self) -> dict[str, Any]:
        path = self._description_path
        return read_description(path, _ADVICE) if path.is_file() else {}

    def _remap(self) -> dict[int, int]:
        remap = self._description().get("remap", {})
        try:
            return {int(found): int(meant) for found, meant in remap.items()}
        except (AttributeError, TypeError, ValueError):
            raise InputError(
                f'{self._description_path}: "remap" is {remap!r:.80}; expected label values such as {{"4": 3}}.'
            ) from None

    def _rows(self) -> list[_Row]:
        if self.root.suffix.lower() == ".json":
            cases = read_description(self.root, _ADVICE).get("cases")
            listed = cast(list[Any], cases) if isinstance(cases, list) else []
            rows = [_entry(self.root, number, case) for number, case in enumerate(listed, start=1)]
        else:
            rows = list(_csv_rows(self.root))
        if not rows:
            raise InputError(f"{self.root}: lists no case. {_ADVICE}")
        columns = _channels(self.root, rows[0])
        other = [row.place for row in rows if _channels(self.root, row) != columns]
        refuse(self.root, other, f"These have other channels than {rows[0].place} ({', '.join(columns)}).")
        return rows


def _csv_rows(path: Path) -> Iterator[_Row]:
    """The lines of a CSV file that hold anything, cells by column names in lower case."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {_ADVICE}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not written in UTF-8 ({error.reason}). Save it as UTF-8.") from None
    header = text.partition("\n")[0]
    reader = csv.reader(StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count))
    names = [name.strip().lower() for name in next(reader, [])]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: line 1 has the column {', '.join(twice)} more than once.")
    for line in reader:
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if len(cells) != len(names):
            raise InputError(
                f"{path}: line {reader.line_num} has {len(cells)} cells and line 1 has {len(names)} columns "
                f"({', '.join(names)}). A path with a comma needs quotation marks."
            )
        yield _Row(f"line {reader.line_num}", dict(zip(names, cells, strict=True)))


def _entry(path: Path, number: int, case: Any) -> _Row:
    """A case of a JSON table, its images as if they were columns."""
    place = f"case {number}"
    if not isinstance(case, dict):
        raise InputError(
            f'{path}: {place} is {case!r:.80}; expected {{"id": ..., "image": ..., "label": ...}}.'
        )
    cells: dict[str, str] = {}
    for key, value in cast(dict[str, Any], case).items():
        column = key.lower()
        if _IMAGE.fullmatch(column) and isinstance(value, list):
            cells |= {f"image_{n}": str(each) for n, each in enumerate(cast(list[Any], value), start=1)}
        elif _IMAGE.fullmatch(column) and isinstance(value, dict):
            cells |= {f"image_{name}": str(each) for name, each in cast(dict[str, Any], value).items()}
        else:
            cells[column] = "" if value is None else str(value)
    return _Row(place, cells)


def _channels(path: Path, row: _Row) -> list[str]:
    columns = [name for name in row.cells if _IMAGE.fullmatch(name)]
    missing = [] if columns else ["image"]
    missing += [] if "label" in row.cells else ["label"]
    if missing:
        raise InputError(
            f"{path}: has no {' and no '.join(missing)} column; found {', '.join(row.cells)}. {_ADVICE}"
        )
    return columns


def _channel(column: str) -> str:
    match = _IMAGE.fullmatch(column)
    return (match["channel"] or "") if match else ""


def _empty(row: _Row, channels: list[str]) -> list[str]:
    needed = [*channels, "label", *(["id"] if "id" in row.cells else [])]
    return [name for name in needed if not row.cells.get(name)]


def _id(row: _Row, channels: list[str]) -> str:
    return row.cells.get("id") or stem(row.cells[channels[0]])
