"""How well a prediction matches a reference: overlap, surface distances in mm, volume in ml, lesions found.

Masks are boolean arrays [I, J, K] on one grid. Where millimetres matter, `spacing_mm` is the spacing (3 numbers) of an
orthogonal grid or the linear part [3, 3] of any affine, so rotated and sheared grids are measured rightly as well.

Empty masks never give NaN. Both empty is perfect agreement: Dice, IoU, surface Dice and boundary F1 1, HD95 0; no lesion
missed and none imagined, so lesion recall, precision and F1 1. Exactly one empty is complete failure: Dice, IoU, surface
Dice, boundary F1 and lesion F1 0, HD95 the diagonal of the image in mm (the convention of the BraTS challenge, where it
is 373.13 mm for 240 x 240 x 155 voxels of 1 mm); the lesion recall alone is 1 where there is none to find, the lesion
precision alone 1 where none was predicted. What lies outside the image is background.
"""

from volseg.metrics.lesions import MIN_LESION_IOU, SIZES_ML, Lesion, LesionMatch, match_lesions
from volseg.metrics.masks import Mask
from volseg.metrics.overlap import dice, iou, mean_iou, pixel_accuracy, volume_error_ml
from volseg.metrics.surfaces import (
    SurfaceMatch,
    boundary_f1,
    hausdorff95_mm,
    match_surfaces,
    surface_dice,
)

__all__ = [
    "MIN_LESION_IOU",
    "SIZES_ML",
    "Lesion",
    "LesionMatch",
    "Mask",
    "SurfaceMatch",
    "boundary_f1",
    "dice",
    "hausdorff95_mm",
    "iou",
    "match_lesions",
    "match_surfaces",
    "mean_iou",
    "pixel_accuracy",
    "surface_dice",
    "volume_error_ml",
]
