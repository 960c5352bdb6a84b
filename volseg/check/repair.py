"""A copy of a collection in which what can be repaired is, and what cannot is left out and named.

The copy has the raw layout of nnU-Net v2, not that of the Decathlon: its one file per channel lets most images be
copied byte by byte, where the Decathlon's 4-D files would have to be made, and both volseg and nnU-Net train on it.
"""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from volseg.cases import fit_to_grid, read_channels, read_stored_labels, remapped
from volseg.check.dataset import listed_cases
from volseg.check.facts import value_counts
from volseg.check.report import Report
from volseg.datasets import Case, Dataset
from volseg.errors import OutputError
from volseg.geometry import SAME_GRID_TOLERANCE_MM
from volseg.io import write_label_map, write_volume
from volseg.io.atomic import replacing
from volseg.io.formats import suffix_of
from volseg.io.nifti import read_header
from volseg.volume import LabelMap, Volume

ENDING = ".nii.gz"

_COPIES = ("duplicate-image", "duplicate-channel")
"""Left out also where they are of one patient, for the copy does not tell who that is."""

_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Repair:
    """What became of one case."""

    case: str
    patient: str
    written_as: str
    """The case's name in the copy; "" where it was left out."""
    done: str
    """What was changed, or why it was left out."""


def repair_dataset(
    dataset: Dataset, report: Report, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> list[Repair]:
    """Write the cases without errors into a new folder, their label maps repaired, and `fix.csv` on what was done.

    Images are copied as they are where they are single channels in .nii.gz files, else written anew with the same
    voxels. Label maps lie on the image's grid and hold the values of the dataset's table (numbered 1, 2, 3 ... where
    that has gaps, as nnU-Net asks for) in the smallest integer type. Cases with errors are left out, for their repair
    would be a guess; of exact copies the first is kept. dataset.json is written last: an interrupted copy is none.

    Args:
        dataset: the collection.
        report: what check_dataset found in it.
        folder: new or empty, and not inside the collection.
        progress: called with the number of cases written and to write.

    Returns:
        One line per case, by id.

    Raises:
        OutputError: the folder is in use, no case is left, or the file system refuses.
        InputError: the cases cannot be listed.
    """
    _check_folder(folder, dataset.root)
    reasons = _left_out(report)
    cases, _ = listed_cases(dataset)
    kept = [case for case in cases if case.id not in reasons]
    if not kept:
        raise OutputError(f"{folder}: nothing was written, for no case of {dataset.root} is without errors.")
    patients = {case.id: case.patient for case in cases}
    repairs = [Repair(name, patients.get(name, ""), "", f"left out: {why}") for name, why in reasons.items()]
    values = {value: number for number, value in enumerate(dataset.labels().values, start=1)}
    names = _file_names(kept)
    try:
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True)
        for number, case in enumerate(kept, start=1):
            done = [*_write_images(case, folder / "imagesTr" / names[case.id])]
            done += _write_labels(case, folder / "labelsTr" / f"{names[case.id]}{ENDING}", values)
            repairs.append(Repair(case.id, case.patient, names[case.id], "; ".join(done)))
            if progress is not None:
                progress(number, len(kept))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error
    repairs.sort(key=lambda repair: repair.case)
    _write_list(repairs, folder / "fix.csv")
    _write_description(dataset, folder, values, len(kept))
    return repairs


def _check_folder(folder: Path, root: Path) -> None:
    home = (root if root.is_dir() else root.parent).resolve()
    if folder.resolve().is_relative_to(home):
        raise OutputError(
            f"{folder} lies inside {home}, where the copy would be taken for more cases; choose another."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder} is there already and not an empty folder; choose another, or remove it first."
        )


def _left_out(report: Report) -> dict[str, str]:
    """Why, by case id."""
    reasons: dict[str, list[str]] = {}
    for problem in report.problems:
        if problem.case and (problem.severity == "error" or problem.code in _COPIES):
            reasons.setdefault(problem.case, []).append(f"{problem.code} ({problem.text})")
    return {name: "; ".join(texts) for name, texts in reasons.items()}


def _file_names(cases: Sequence[Case]) -> dict[str, str]:
    """A file name for each id, without what file systems or nnU-Net do not take."""
    names: dict[str, str] = {}
    for case in cases:
        plain = _NO_NAME.sub("_", case.id).strip("._") or "case"
        name, number = plain, 1
        while name in names.values():
            number += 1
            name = f"{plain}-{number}"
        names[case.id] = name
    return names


def _write_images(case: Case, base: Path) -> list[str]:
    """One file per channel; returns what was done."""
    channel, copied = 0, 0
    for number, path in enumerate(case.images):
        if _is_plain(path):
            shutil.copyfile(path, _channel_path(base, channel))
            channel, copied = channel + 1, copied + 1
            continue
        volume = read_channels(case, number)
        for array in volume.array:
            write_volume(Volume(array, volume.grid, volume.origin), _channel_path(base, channel))
            channel += 1
    if copied == channel:
        return ["images copied"]
    return [f"{channel - copied} of {channel} channels written as {ENDING}"]


def _is_plain(path: Path) -> bool:
    """Whether a file is one channel in the format of the copy."""
    return suffix_of(path) == ENDING and path.is_file() and int(read_header(path)["dim"][0]) == 3


def _channel_path(base: Path, channel: int) -> Path:
    return base.with_name(f"{base.name}_{channel:04d}{ENDING}")


def _write_labels(case: Case, path: Path, values: dict[int, int]) -> list[str]:
    """The label map on the grid of its image; returns what was done."""
    image = read_channels(case, 0)
    stored = read_stored_labels(case, image.grid)
    fitted = fit_to_grid(stored, image.grid, case=case)
    final = {value: case.remap.get(value, value) for value in value_counts(fitted.array)}
    changes = {old: values[new] if new else 0 for old, new in final.items() if old != values.get(new, 0)}
    write_label_map(remapped(fitted, changes), path, source=image)
    done = _place_changes(stored, fitted)
    if changes:
        done.append(f"label values {', '.join(f'{old} to {new}' for old, new in changes.items())}")
    return done or ["label map as it was"]


def _place_changes(stored: LabelMap, fitted: LabelMap) -> list[str]:
    if fitted.array is not stored.array:
        return ["axes of the label map put in the image's order"]
    gap_mm = stored.grid.distance_mm(fitted.grid)
    return (
        [f"label map moved to the image's grid by {gap_mm:.3f} mm"] if gap_mm > SAME_GRID_TOLERANCE_MM else []
    )


def _write_list(repairs: Sequence[Repair], path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([entry.name for entry in fields(Repair)])
    writer.writerows(astuple(repair) for repair in repairs)
    with replacing(path) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8", newline="")


def _write_description(dataset: Dataset, folder: Path, values: dict[int, int], case_count: int) -> None:
    """dataset.json as nnU-Net v2 wants it; a CT channel must be called so there."""
    channels = (
        ("CT",)
        if dataset.modality() == "CT" and len(dataset.channel_names()) == 1
        else dataset.channel_names()
    )
    description = {
        "name": folder.resolve().name,
        "description": f"Repaired copy of {dataset.title}, see fix.csv",
        "licence": dataset.licence(),
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0} | {label.name: values[label.value] for label in dataset.labels()},
        "numTraining": case_count,
        "file_ending": ENDING,
    }
    with replacing(folder / "dataset.json") as unfinished:
        unfinished.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
