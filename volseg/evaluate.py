"""Predicted label maps against reference label maps: one score per case and label, and their summary."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from volseg.errors import GeometryError, InputError, few
from volseg.geometry import SAME_GRID_TOLERANCE_MM
from volseg.io import is_image, read_label_map, stem
from volseg.io.atomic import replacing
from volseg.labels import Label, LabelTable, default_colour
from volseg.metrics import dice, hausdorff95_mm, iou, surface_dice, volume_error_ml
from volseg.volume import LabelMap

MEASURES = ("dice", "iou", "hausdorff95_mm", "surface_dice", "volume_error_ml")
"""The fields of Score that are averaged in a summary."""

MOST_LABELS = 1000
"""More different values than this, where no label table is given, are taken for a scan given by mistake."""

_ROLES = ("_seg", "_pred")
"""Endings of a file name that say what a file is, not which case it is of."""


@dataclass(frozen=True)
class Score:
    """How well one label of one case was found; the measures are those of volseg.metrics."""

    case: str
    label: int
    name: str
    dice: float
    """0..1; 1 when neither map has the label."""
    iou: float
    """0..1; 1 when neither map has the label."""
    hausdorff95_mm: float
    """0 when neither map has the label, the diagonal of the image when exactly one has it."""
    surface_dice: float
    """0..1 at tolerance_mm; 1 when neither map has the label."""
    volume_error_ml: float
    """Predicted minus reference volume."""
    predicted_ml: float
    reference_ml: float
    tolerance_mm: float


@dataclass(frozen=True)
class Summary:
    """One label over all cases."""

    label: int
    name: str
    cases: int
    empty_references: int
    """Cases whose reference has no voxel of the label; they count in the means by the rule for empty masks."""
    mean: Mapping[str, float] = field(hash=False)
    """Mean of each of MEASURES."""
    deviation: Mapping[str, float] = field(hash=False)
    """Sample standard deviation (n - 1) of each of MEASURES; 0 for a single case."""


def evaluate(
    predictions: Path, references: Path, *, labels: LabelTable | None = None, tolerance_mm: float = 1.0
) -> list[Score]:
    """Score one predicted label map against one reference, or a folder of them against another.

    In folders, files belong together when their names agree up to the image suffix and an ending "_seg" or "_pred".
    Every image of both folders must have its partner: a missing prediction is an error, never a left-out case.

    Args:
        predictions: a label map, or a folder of label maps.
        references: the true label map, or the folder of them.
        labels: which labels to score; without it all values found in any of the files.
        tolerance_mm: distance up to which a surface counts as right (surface Dice), at least 0.

    Returns:
        One score per case and label, by case and label value.

    Raises:
        InputError: a file has no partner, cannot be read, or holds a value that is not in the label table.
        GeometryError: two partners do not lie on the same grid.
    """
    if predictions.is_dir() != references.is_dir():
        raise InputError(
            f"cannot compare {_kind(predictions)} {predictions} with {_kind(references)} {references}; "
            "give two label maps or two folders."
        )
    if predictions.is_dir():
        return evaluate_folders(predictions, references, labels=labels, tolerance_mm=tolerance_mm)
    return _evaluate_pairs({_case_id(references): (predictions, references)}, labels, tolerance_mm)


def evaluate_folders(
    prediction_dir: Path, reference_dir: Path, *, labels: LabelTable | None = None, tolerance_mm: float = 1.0
) -> list[Score]:
    """Score a folder of predicted label maps against a folder of references; see evaluate."""
    predicted, true = _images_by_case(prediction_dir), _images_by_case(reference_dir)
    problems = [
        f"{len(lonely)} {what} without a partner: {few(lonely, 5)}"
        for what, lonely in (
            (f"references in {reference_dir}", sorted(true.keys() - predicted.keys())),
            (f"predictions in {prediction_dir}", sorted(predicted.keys() - true.keys())),
        )
        if lonely
    ]
    if problems:
        raise InputError(
            f"{'; '.join(problems)}. Every case needs both files under one name (up to {' or '.join(_ROLES)} and the "
            "image suffix); predict the missing cases or move the extra files away."
        )
    return _evaluate_pairs(
        {case: (predicted[case], true[case]) for case in sorted(true)}, labels, tolerance_mm
    )


def evaluate_maps(
    prediction: LabelMap, reference: LabelMap, *, labels: LabelTable, case: str, tolerance_mm: float = 1.0
) -> list[Score]:
    """Score two label maps on one grid: one score per label of the table.

    Raises:
        GeometryError: the maps do not lie on the same grid, within SAME_GRID_TOLERANCE_MM.
    """
    _check_same_grid(prediction, reference)
    linear = reference.grid.affine[:3, :3]
    voxel_ml = reference.grid.voxel_volume_mm3 / 1000
    scores: list[Score] = []
    for label in labels:
        found, true = prediction.array == label.value, reference.array == label.value
        scores.append(
            Score(
                case=case,
                label=label.value,
                name=label.name,
                dice=dice(found, true),
                iou=iou(found, true),
                hausdorff95_mm=hausdorff95_mm(found, true, spacing_mm=linear),
                surface_dice=surface_dice(found, true, spacing_mm=linear, tolerance_mm=tolerance_mm),
                volume_error_ml=volume_error_ml(found, true, spacing_mm=linear),
                predicted_ml=np.count_nonzero(found) * voxel_ml,
                reference_ml=np.count_nonzero(true) * voxel_ml,
                tolerance_mm=tolerance_mm,
            )
        )
    return scores


def summarise(scores: Iterable[Score]) -> list[Summary]:
    """Mean and standard deviation of every measure, one summary per label, by label value."""
    by_label: dict[int, list[Score]] = {}
    for score in scores:
        by_label.setdefault(score.label, []).append(score)
    return [_summary(by_label[value]) for value in sorted(by_label)]


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """Write one CSV line per score, with the field names of Score as header.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [entry.name for entry in fields(Score)]
    writer.writerow(names)
    writer.writerows([getattr(score, name) for name in names] for score in scores)
    with replacing(path) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8", newline="")


def read_scores(path: Path) -> list[Score]:
    """The scores that write_scores wrote."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    kinds = {"case": str, "label": int, "name": str}
    return [Score(**{name: kinds.get(name, float)(text) for name, text in row.items()}) for row in rows]


def _evaluate_pairs(
    pairs: Mapping[str, tuple[Path, Path]], labels: LabelTable | None, tolerance_mm: float
) -> list[Score]:
    scores: list[Score] = []
    for case, (prediction_path, reference_path) in pairs.items():
        prediction, reference = read_label_map(prediction_path), read_label_map(reference_path)
        table = _found_labels(prediction, reference) if labels is None else labels
        if labels is not None:
            _check_values(prediction, labels)
            _check_values(reference, labels)
        scores += evaluate_maps(prediction, reference, labels=table, case=case, tolerance_mm=tolerance_mm)
    return scores if labels is not None else _with_absent_labels(scores, pairs, tolerance_mm)


def _with_absent_labels(scores: list[Score], cases: Iterable[str], tolerance_mm: float) -> list[Score]:
    """Also the labels that other cases have and a case rightly lacks: every label then counts over all cases."""
    perfect = Score("", 0, "", 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, tolerance_mm)
    known = {(score.case, score.label): score for score in scores}
    names = {score.label: score.name for score in scores}
    return [
        known.get((case, value), replace(perfect, case=case, label=value, name=names[value]))
        for case in cases
        for value in sorted(names)
    ]


def _summary(scores: list[Score]) -> Summary:
    table = np.array([[getattr(score, name) for name in MEASURES] for score in scores])
    deviation = table.std(axis=0, ddof=1) if len(scores) > 1 else np.zeros(len(MEASURES))
    return Summary(
        label=scores[0].label,
        name=scores[0].name,
        cases=len(scores),
        empty_references=sum(score.reference_ml == 0 for score in scores),
        mean=dict(zip(MEASURES, table.mean(axis=0).tolist(), strict=True)),
        deviation=dict(zip(MEASURES, deviation.tolist(), strict=True)),
    )


def _images_by_case(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; expected a folder of label maps.")
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file() or not is_image(path) or _is_voxel_half(path):
            continue
        case = _case_id(path)
        if case in images:
            raise InputError(f"{images[case]} and {path} are both of case '{case}'; keep one of them.")
        images[case] = path
    if not images:
        raise InputError(f"{folder}: holds no label map; expected files such as case_seg.nii.gz.")
    return images


def _is_voxel_half(path: Path) -> bool:
    """Whether the file is the voxel half of a .hdr/.img pair, which is read through its header."""
    return path.suffix.lower() == ".img" and path.with_suffix(".hdr").exists()


def _case_id(path: Path) -> str:
    name = stem(path)
    role = next((role for role in _ROLES if name.endswith(role)), "")
    return name.removesuffix(role) or name


def _check_same_grid(prediction: LabelMap, reference: LabelMap) -> None:
    if prediction.grid.is_same(reference.grid):
        return
    if prediction.grid.shape != reference.grid.shape:
        found = f"{prediction.grid.shape} and {reference.grid.shape} voxels"
    else:
        distance_mm = prediction.grid.distance_mm(reference.grid)
        found = f"the same voxel is up to {distance_mm:.3f} mm apart (allowed: {SAME_GRID_TOLERANCE_MM} mm)"
    raise GeometryError(
        f"{prediction.origin} and {reference.origin} lie on different grids: {found}. Scores need one grid: predict "
        "on the scan that the reference was drawn on, or resample the prediction to it."
    )


def _values(label_map: LabelMap) -> set[int]:
    return {int(value) for value in np.unique(label_map.array)} - {0}


def _check_values(label_map: LabelMap, labels: LabelTable) -> None:
    wrong = sorted(_values(label_map) - set(labels.values))
    if wrong:
        raise InputError(
            f"{label_map.origin}: holds the values {few([str(value) for value in wrong], 5)}, expected 0 and "
            f"{', '.join(map(str, labels.values))}. Check that this is a label map of these labels."
        )


def _found_labels(*label_maps: LabelMap) -> LabelTable:
    values = sorted(set().union(*map(_values, label_maps)))
    if len(values) > MOST_LABELS:
        raise InputError(
            f"{' and '.join(str(label_map.origin) for label_map in label_maps)}: hold {len(values)} different values; "
            f"expected at most {MOST_LABELS}. Is one of them a scan instead of a label map?"
        )
    return LabelTable(
        tuple(Label(value, f"label {value}", default_colour(n)) for n, value in enumerate(values))
    )


def _kind(path: Path) -> str:
    return "the folder" if path.is_dir() else "the file"
