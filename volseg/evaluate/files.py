"""Label maps in files: one pair, or two folders paired by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from volseg.cases import remapped
from volseg.errors import InputError, few
from volseg.evaluate.score import Score, evaluate_maps
from volseg.io import is_image, read_label_map, stem
from volseg.labels import Label, LabelRegion, LabelTable, default_colour
from volseg.metrics import LesionMatch
from volseg.volume import LabelMap

MOST_LABELS = 1000
"""More different values than this, where no label table is given, are taken for a scan given by mistake."""

_ROLES = ("_seg", "_pred")
"""Endings of a file name that say what a file is, not which case it is of."""


def evaluate(
    predictions: Path,
    references: Path,
    *,
    labels: LabelTable | None = None,
    regions: Sequence[LabelRegion] = (),
    remap: Mapping[int, int] | None = None,
    tolerance_mm: float = 1.0,
) -> list[Score]:
    """Score one predicted label map against one reference, or a folder of them against another.

    In folders, files belong together when their names agree up to the image suffix and an ending "_seg" or "_pred".
    Every image of both folders must have its partner: a missing prediction is an error, never a left-out case.

    Args:
        predictions: a label map, or a folder of label maps.
        references: the true label map, or the folder of them.
        labels: which labels to score; without it all values found in any of the files.
        regions: unions of labels to score as well.
        remap: values in the files that stand for another value, such as 4 for 3 in BraTS; a file may not hold both.
        tolerance_mm: distance up to which a surface counts as right (surface Dice, boundary F1), at least 0.

    Returns:
        One score per case and label, by case and label value, the regions after the labels.

    Raises:
        InputError: a file has no partner, cannot be read, or holds a value that is not in the label table.
        GeometryError: two partners do not lie on the same grid.
    """
    what = _What(labels, tuple(regions), dict(remap or {}), tolerance_mm)
    if predictions.is_dir() != references.is_dir():
        raise InputError(
            f"cannot compare {_kind(predictions)} {predictions} with {_kind(references)} {references}; "
            "give two label maps or two folders."
        )
    if predictions.is_dir():
        return _evaluate_pairs(_pairs(predictions, references), what)
    return _evaluate_pairs({_case_id(references): (predictions, references)}, what)


def evaluate_folders(
    prediction_dir: Path, reference_dir: Path, *, labels: LabelTable | None = None, tolerance_mm: float = 1.0
) -> list[Score]:
    """Score a folder of predicted label maps against a folder of references; see evaluate."""
    return _evaluate_pairs(_pairs(prediction_dir, reference_dir), _What(labels, (), {}, tolerance_mm))


@dataclass(frozen=True)
class _What:
    """What is scored, and how."""

    labels: LabelTable | None
    regions: tuple[LabelRegion, ...]
    remap: Mapping[int, int] = field(hash=False)
    tolerance_mm: float


def _pairs(prediction_dir: Path, reference_dir: Path) -> dict[str, tuple[Path, Path]]:
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
    return {case: (predicted[case], true[case]) for case in sorted(true)}


def _evaluate_pairs(pairs: Mapping[str, tuple[Path, Path]], what: _What) -> list[Score]:
    scores: list[Score] = []
    for case, paths in pairs.items():
        prediction, reference = (_remapped(read_label_map(path), what.remap) for path in paths)
        table = _found_labels(prediction, reference) if what.labels is None else what.labels
        if what.labels is not None:
            _check_values(prediction, what.labels)
            _check_values(reference, what.labels)
        scores += evaluate_maps(
            prediction,
            reference,
            labels=table,
            regions=what.regions,
            case=case,
            tolerance_mm=what.tolerance_mm,
        )
    return scores if what.labels is not None else _with_absent_labels(scores, pairs, what.tolerance_mm)


def _remapped(label_map: LabelMap, remap: Mapping[int, int]) -> LabelMap:
    """The label map with some of its values renamed, unless it holds both the old and the new one."""
    held = _values(label_map) if remap else set()
    for old, new in remap.items():
        if old in held and new in held:
            raise InputError(
                f"{label_map.origin}: holds the values {old} and {new}, of which {old} was to be read as {new}. Check which "
                "labels these are, and name the regions by their values instead."
            )
    return remapped(label_map, remap)


def _with_absent_labels(scores: list[Score], cases: Iterable[str], tolerance_mm: float) -> list[Score]:
    """Also the labels that other cases have and a case rightly lacks: every label then counts over all cases."""
    perfect = Score("", 0, "", 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, tolerance_mm, 1.0, 1.0, 0, 0, 0, 0)
    perfect = replace(perfect, lesions=LesionMatch((), ()))
    known = {(score.case, score.label, score.name): score for score in scores}
    accuracy = {score.case: score.pixel_accuracy for score in scores}
    parts = dict.fromkeys((score.label, score.name) for score in scores)
    return [
        known.get((case, label, name))
        # A case without any score has two empty maps, which agree in every voxel.
        or replace(perfect, case=case, label=label, name=name, pixel_accuracy=accuracy.get(case, 1.0))
        for case in cases
        for label, name in sorted(parts, key=lambda part: part[0] or np.inf)
    ]


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
