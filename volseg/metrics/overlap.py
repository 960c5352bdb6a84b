"""How many voxels agree: Dice, IoU, volume error of masks; pixel accuracy and mean IoU of label maps."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.metrics.masks import Mask, check_masks, linear_part, voxel_ml

Labels = npt.NDArray[np.integer]


def dice(prediction: Mask, reference: Mask) -> float:
    """Dice coefficient 2|A∩B| / (|A|+|B|), 0..1 (Dice 1945). Masks [I, J, K].

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes.
    """
    check_masks(prediction, reference)
    total = np.count_nonzero(prediction) + np.count_nonzero(reference)
    return float(2 * np.count_nonzero(prediction & reference) / total) if total else 1.0


def iou(prediction: Mask, reference: Mask) -> float:
    """Intersection over union |A∩B| / (|A|+|B|-|A∩B|), 0..1 (Jaccard 1912). Masks [I, J, K].

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes.
    """
    check_masks(prediction, reference)
    union = np.count_nonzero(prediction | reference)
    return float(np.count_nonzero(prediction & reference) / union) if union else 1.0


def volume_error_ml(prediction: Mask, reference: Mask, *, spacing_mm: npt.ArrayLike) -> float:
    """Predicted minus reference volume in ml: positive where too much was marked. Masks [I, J, K].

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes.
    """
    check_masks(prediction, reference)
    more = int(np.count_nonzero(prediction)) - int(np.count_nonzero(reference))
    return more * voxel_ml(linear_part(spacing_mm))


def pixel_accuracy(prediction: Labels, reference: Labels) -> float:
    """Part of all voxels, background included, with the right label, 0..1 (Long et al. 2015, doi:10.1109/CVPR.2015.7298965).

    It says little where background fills most of the image: calling everything background scores its share. Two maps
    without a label agree everywhere: 1. Labels [I, J, K], integers.

    Raises:
        InputError: the maps are of different shapes.
    """
    _check_maps(prediction, reference)
    return float(np.count_nonzero(prediction == reference) / prediction.size)


def mean_iou(prediction: Labels, reference: Labels, *, values: Sequence[int]) -> float:
    """Mean of the IoU over labels, 0..1 (Long et al. 2015). Labels [I, J, K], integers.

    Background counts only where 0 is among the values. A label that neither map has counts as found, IoU 1, by the rule
    for empty masks.

    Args:
        prediction: the label map to judge.
        reference: the label map taken as true.
        values: the label values to average over, at least one.

    Raises:
        InputError: the maps are of different shapes.
    """
    _check_maps(prediction, reference)
    return sum(iou(prediction == value, reference == value) for value in values) / len(values)


def _check_maps(prediction: Labels, reference: Labels) -> None:
    if prediction.shape != reference.shape or not prediction.size:
        raise InputError(f"label maps of shapes {prediction.shape} and {reference.shape} cannot be compared.")
