"""Two label maps on one grid: a score per label and region."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from volseg.errors import GeometryError
from volseg.geometry import SAME_GRID_TOLERANCE_MM
from volseg.labels import LabelRegion, LabelTable
from volseg.metrics import (
    LesionMatch,
    Mask,
    dice,
    hausdorff95_mm,
    iou,
    match_lesions,
    match_surfaces,
    pixel_accuracy,
    volume_error_ml,
)
from volseg.postprocess.boxes import Box, label_boxes
from volseg.volume import AnyArray, LabelMap

MEASURES = (
    "dice",
    "iou",
    "hausdorff95_mm",
    "surface_dice",
    "volume_error_ml",
    "boundary_f1",
    "lesion_f1",
)
"""The fields of Score that are averaged in a summary."""


@dataclass(frozen=True)
class Score:
    """How well one label or region of one case was found; the measures are those of volseg.metrics."""

    case: str
    label: int
    """The value of the label; 0 for a region, which has a name only."""
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
    boundary_f1: float | None = None
    """0..1 at tolerance_mm; 1 when neither map has the label. None in files of before it was measured, as those below."""
    lesion_f1: float | None = None
    """0..1; 1 when neither map has the label."""
    reference_lesions: int | None = None
    """Connected components of the reference ..."""
    found_lesions: int | None = None
    """... and those of them that were found (volseg.metrics.match_lesions)."""
    predicted_lesions: int | None = None
    """Connected components of the prediction ..."""
    right_lesions: int | None = None
    """... and those of them that are real."""
    pixel_accuracy: float | None = None
    """Of the case as a whole, the same for all of its labels."""
    lesions: LesionMatch | None = field(default=None, repr=False, compare=False)
    """The components one by one; they are in no file."""


def evaluate_maps(
    prediction: LabelMap,
    reference: LabelMap,
    *,
    labels: LabelTable,
    regions: Sequence[LabelRegion] = (),
    case: str,
    tolerance_mm: float = 1.0,
) -> list[Score]:
    """Score two label maps on one grid: one score per label of the table, then one per region.

    Args:
        prediction: the label map to judge.
        reference: the label map taken as true.
        labels: which labels to score.
        regions: unions of labels to score as well, such as the whole tumour.
        case: its name in the scores.
        tolerance_mm: distance up to which a surface counts as right (surface Dice, boundary F1), at least 0.

    Raises:
        GeometryError: the maps do not lie on the same grid, within SAME_GRID_TOLERANCE_MM.
    """
    _check_same_grid(prediction, reference)
    parts = [(label.value, label.name, (label.value,)) for label in labels]
    parts += [(0, region.name, region.values) for region in regions]
    accuracy = pixel_accuracy(prediction.array, reference.array)
    boxes = (label_boxes(prediction.array), label_boxes(reference.array))
    scores: list[Score] = []
    for label, name, values in parts:
        box = _common_box(boxes, values)
        found, true = _union(prediction.array[box], values), _union(reference.array[box], values)
        measures = _measures(found, true, reference.grid.affine[:3, :3], tolerance_mm)
        scores.append(
            Score(
                case=case,
                label=label,
                name=name,
                tolerance_mm=tolerance_mm,
                pixel_accuracy=accuracy,
                **measures,
            )
        )
    return scores


def _union(array: AnyArray, values: Sequence[int]) -> Mask:
    mask = array == values[0]
    for value in values[1:]:
        mask |= array == value
    return mask


def _common_box(boxes: tuple[dict[int, Box], dict[int, Box]], values: Sequence[int]) -> Box:
    """Where both maps hold any of the values; everywhere unless both do, for a miss is as long as the image."""
    sides = [[own[value] for value in values if value in own] for own in boxes]
    if not all(sides):
        return (slice(None),) * 3
    found = sides[0] + sides[1]
    return tuple(
        slice(min(box[axis].start for box in found), max(box[axis].stop for box in found))
        for axis in range(3)
    )


def _measures(found: Mask, true: Mask, linear: AnyArray, tolerance_mm: float) -> dict[str, Any]:
    surfaces = match_surfaces(found, true, spacing_mm=linear, tolerance_mm=tolerance_mm)
    lesions = match_lesions(found, true, spacing_mm=linear)
    voxel_ml = abs(float(np.linalg.det(linear))) / 1000
    return {
        "dice": dice(found, true),
        "iou": iou(found, true),
        "hausdorff95_mm": hausdorff95_mm(found, true, spacing_mm=linear),
        "surface_dice": surfaces.dice,
        "volume_error_ml": volume_error_ml(found, true, spacing_mm=linear),
        "predicted_ml": int(np.count_nonzero(found)) * voxel_ml,
        "reference_ml": int(np.count_nonzero(true)) * voxel_ml,
        "boundary_f1": surfaces.f1,
        "lesion_f1": lesions.f1,
        "reference_lesions": len(lesions.reference),
        "found_lesions": sum(lesion.matched for lesion in lesions.reference),
        "predicted_lesions": len(lesions.predicted),
        "right_lesions": sum(lesion.matched for lesion in lesions.predicted),
        "lesions": lesions,
    }


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
