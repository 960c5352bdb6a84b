"""How many separate lesions were found, and how many of those marked are real, whatever their volume."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.errors import InputError
from volseg.metrics.masks import Mask, check_masks, crop, linear_part, voxel_ml

Numbers = npt.NDArray[np.int64]

MIN_LESION_IOU = 0.1
"""The usual overlap at which a lesion counts as found (Jaeger et al. 2020, arXiv:1811.08661; Baumgartner et al. 2021,
doi:10.1007/978-3-030-87240-3_51): detection asks whether it was seen, not how well it was drawn."""

SIZES_ML = (0.1, 1.0, 10.0)
"""Limits between lesion sizes: balls of 5.8, 12.4 and 26.7 mm in diameter."""

_NEIGHBOURS_26 = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class Lesion:
    """A connected component of a mask."""

    volume_ml: float
    matched: bool
    """Of the reference: it was found. Of a prediction: it is real."""


@dataclass(frozen=True)
class LesionMatch:
    """The components of a reference and of a prediction, by first voxel."""

    reference: tuple[Lesion, ...]
    predicted: tuple[Lesion, ...]

    @property
    def recall(self) -> float:
        """Part of the reference lesions that were found, 0..1; 1 where there are none to find."""
        return _rate(self.reference)

    @property
    def precision(self) -> float:
        """Part of the predicted lesions that are real, 0..1; 1 where none was predicted."""
        return _rate(self.predicted)

    @property
    def f1(self) -> float:
        """2PR / (P + R), 0..1: 1 where there is neither a lesion nor a prediction, 0 where there is one only."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def match_lesions(
    prediction: Mask, reference: Mask, *, spacing_mm: npt.ArrayLike, min_iou: float = MIN_LESION_IOU
) -> LesionMatch:
    """Which components (26 neighbours) of a reference were found, and which of a prediction are real. Masks [I, J, K].

    1. Two components match where their IoU is at least `min_iou`; 0 is any common voxel.
    2. A lesion marked in pieces, or lesions marked as one: components with at least half of their voxels in one component
       of the other mask are its pieces; where they reach that IoU with it together, it matches.
    3. A piece of a component that matches by 1 or 2 matches too: a fragment within a found lesion is no false alarm, and
       a lesion within the right mark of a larger one is not missed.

    The rule is the same both ways: swapping the masks swaps recall and precision.

    Args:
        prediction: the mask to judge.
        reference: the mask taken as true.
        spacing_mm: spacing (3) or linear part of the affine [3, 3].
        min_iou: least intersection over union, 0..1.

    Raises:
        InputError: the masks are not boolean, not 3-D or of different shapes, or min_iou is no part of one.
    """
    check_masks(prediction, reference)
    if not 0 <= min_iou <= 1:
        raise InputError(f"the least IoU of a found lesion is {min_iou}; expected 0 to 1.")
    own_ml = voxel_ml(linear_part(spacing_mm))
    if not prediction.any() and not reference.any():
        return LesionMatch((), ())
    found, true = (_numbered(mask) for mask in crop(prediction, reference))
    pairs = _overlaps(found, true)
    right, hit = _matching(pairs, min_iou), _matching(pairs.swapped(), min_iou)
    right, hit = right | _pieces_of(pairs, hit), hit | _pieces_of(pairs.swapped(), right)
    return LesionMatch(_lesions(pairs.true_voxels, hit, own_ml), _lesions(pairs.voxels, right, own_ml))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The components of one mask that share voxels with components of another; number 0 is background."""

    component: Numbers
    """[P], of the one mask."""
    true: Numbers
    """[P], of the other."""
    common: Numbers
    """[P], the voxels they share."""
    voxels: Numbers
    """[N + 1], the size of each component of the one mask."""
    true_voxels: Numbers
    """[M + 1], the same of the other."""

    def swapped(self) -> "_Pairs":
        return _Pairs(self.true, self.component, self.common, self.true_voxels, self.voxels)


def _numbered(mask: Mask) -> npt.NDArray[np.int32]:
    numbers = np.empty(mask.shape, np.int32)
    ndimage.label(mask, structure=_NEIGHBOURS_26, output=numbers)
    return numbers


def _overlaps(found: npt.NDArray[np.int32], true: npt.NDArray[np.int32]) -> _Pairs:
    sizes = [np.bincount(numbers.ravel()) for numbers in (found, true)]
    both = (found > 0) & (true > 0)
    codes = found[both].astype(np.int64) * len(sizes[1]) + true[both]
    pairs, common = np.unique(codes, return_counts=True)
    return _Pairs(pairs // len(sizes[1]), pairs % len(sizes[1]), common, sizes[0], sizes[1])


def _matching(pairs: _Pairs, min_iou: float) -> Mask:
    """[N + 1] Which components reach the IoU with one component of the other mask, or with their pieces together."""
    size, other = pairs.voxels[pairs.component], pairs.true_voxels[pairs.true]
    matched = np.zeros(len(pairs.voxels), bool)
    matched[pairs.component[pairs.common >= min_iou * (size + other - pairs.common)]] = True
    piece = 2 * pairs.common >= other
    owner, count = pairs.component[piece], len(pairs.voxels)
    common = np.bincount(owner, pairs.common[piece], count)
    union = pairs.voxels + np.bincount(owner, (other - pairs.common)[piece], count)
    return matched | ((common > 0) & (common >= min_iou * union))


def _pieces_of(pairs: _Pairs, matched: Mask) -> Mask:
    """[N + 1] Which components lie by at least half in a matched component of the other mask."""
    pieces = np.zeros(len(pairs.voxels), bool)
    inside = 2 * pairs.common >= pairs.voxels[pairs.component]
    pieces[pairs.component[inside & matched[pairs.true]]] = True
    return pieces


def _lesions(voxels: Numbers, matched: Mask, own_ml: float) -> tuple[Lesion, ...]:
    return tuple(
        Lesion(volume, hit)
        for volume, hit in zip((voxels[1:] * own_ml).tolist(), matched[1:].tolist(), strict=True)
    )


def _rate(lesions: tuple[Lesion, ...]) -> float:
    return sum(lesion.matched for lesion in lesions) / len(lesions) if lesions else 1.0
