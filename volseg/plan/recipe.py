"""How a planned network is trained: how long, on which patches, with which changes."""

import re
from collections.abc import Iterator
from math import ceil, prod
from typing import Literal

from volseg.labels import LabelTable
from volseg.package.fingerprint import Fingerprint, LabelPrint
from volseg.train.samples.augment_settings import AugmentConfig
from volseg.train.settings import OptimizerConfig, SamplingConfig, SplitConfig, ValidationConfig

PASSES = 60
"""A training shows as many patches as would cover all its scans this many times ..."""

STEPS = {"cpu": (6_000, 20_000), "cuda": (10_000, 60_000)}
"""... but has no fewer and no more steps than this."""

MOST_FOLDS = 5
THICK = 3.0
"""Slices count as thick where their spacing is more than this times that in the plane."""

RARE = 0.5
"""A label is rare where less than this part of the cases holds it."""

_MANY_PIECES = 3
_ONE_PIECE = 0.8
_MOST_WEIGHT = 3.0
_SIDES = {"left", "right", "l", "r", "lt", "rt", "lh", "rh"}
_OPPOSITE = (("l", "r"), ("r", "l"), ("left", "right"), ("right", "left"))

MirrorAxes = tuple[Literal[0, 1, 2], ...]


def step_count(
    set_voxels: float, patch_voxels: tuple[int, ...], batch_size: int, device: Literal["cpu", "cuda"]
) -> int:
    """Steps that cover the voxels of the training set 60 times, in whole hundreds and within the bounds of the device.

    nnU-Net takes 250,000 steps of SGD whatever the set; AdamW with a falling cosine and averaged weights needs fewer.
    """
    least, most = STEPS[device]
    covering = PASSES * set_voxels / (prod(patch_voxels) * batch_size)
    return min(most, max(least, ceil(covering / 100) * 100))


def optimizer_settings(steps: int) -> OptimizerConfig:
    """AdamW with a warm-up of at most a thirtieth of the steps, then half a cosine to zero.

    Instead of nnU-Net's SGD with a polynomial: on few steps it gets further, and one learning rate serves all widths.
    """
    return OptimizerConfig(
        learning_rate=1e-3, weight_decay=3e-2, warmup_steps=max(1, min(500, steps // 30)), ema_decay=0.999
    )


def validation_settings(steps: int, cases: int) -> ValidationConfig:
    """Twelve times in a training, on at most 20 cases each; all of them at the end."""
    return ValidationConfig(every_steps=max(1, steps // 12), max_cases=20 if cases > 5 * 20 else None)


def split_settings(patients: int, fold: int | Literal["all"]) -> SplitConfig:
    """Five folds by patient, or as many as there are patients; a single patient trains and nobody validates."""
    return SplitConfig(folds=max(2, min(MOST_FOLDS, patients)), fold=fold if patients > 1 else "all")


def sampling_settings(fingerprint: Fingerprint) -> SamplingConfig:
    """Half of the patches are centred on a voxel of a label, the others lie anywhere.

    Where a label comes in several pieces (lesions: a median of 3 or more per case, the largest of which has less than four
    fifths of the volume), half of the foreground patches choose a piece, not a voxel. A label that less than half of the
    cases hold is chosen as much more often as it is rarer, up to 3 times.
    """
    weights = {
        label.name: round(min(_MOST_WEIGHT, fingerprint.cases / label.present), 2)
        for label in fingerprint.labels
        if 0 < label.present < RARE * fingerprint.cases
    }
    return SamplingConfig(
        foreground_fraction=0.5,
        component_fraction=0.5 if any(map(comes_in_pieces, fingerprint.labels)) else 0.0,
        label_weights=weights,
    )


def comes_in_pieces(label: LabelPrint) -> bool:
    """Whether a label looks like lesions: several pieces per case that matter, not one with specks around it."""
    if label.components is None or label.largest_share is None:
        return False
    return label.components.median >= _MANY_PIECES and label.largest_share.median < _ONE_PIECE


def names_a_side(labels: LabelTable) -> list[str]:
    """The names that hold left or right, also as l, r, lt, rt, lh or rh between other words: "kidney_left", "L. lung".

    And names that are another label's with l and r, or left and right, exchanged at an end of a word: "LV" and "RV", "lkid" and
    "rkid", "leftkidney" and "rightkidney".
    """
    words = {label.name: tuple(_words(label.name)) for label in labels}
    known = set(words.values())
    return [name for name, own in words.items() if _SIDES & set(own) or known & set(_other_sides(own))]


def _other_sides(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The same words with the side that one of them begins or ends with exchanged."""
    for n, word in enumerate(words):
        for side, other in _OPPOSITE:
            if word.startswith(side):
                yield *words[:n], other + word[len(side) :], *words[n + 1 :]
            if word.endswith(side):
                yield *words[:n], word[: -len(side)] + other, *words[n + 1 :]


def _words(name: str) -> list[str]:
    """The words of a name, in small letters: "LeftVentricle_2" has left, ventricle and 2."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]


def mirror_axes(labels: LabelTable, codes: str, axes: int = 3) -> MirrorAxes:
    """The axis that runs between right and left, unless a label has a side or a 2D network has no such axis.

    nnU-Net mirrors all axes. Bodies are roughly symmetric between right and left only, and a model that has also seen people
    upside down has spent part of its capacity on it; where sides have names, not even that.
    """
    if names_a_side(labels):
        return ()
    axis = next(n for n, letter in enumerate(codes) if letter in "RL")
    if axis >= axes:
        return ()
    return (0,) if axis == 0 else (1,) if axis == 1 else (2,)


def augment_settings(
    spacing_mm: tuple[float, float, float], mirrored: MirrorAxes, modality: str, *, slices: bool
) -> AugmentConfig:
    """Rotation, scale, elastic deformation and intensity changes; lengths follow the voxels.

    Rotation is within 25 degrees, 15 where slices are thick: turned out of the plane they would be made of their
    neighbours. Elastic control points lie 14 voxels (in the plane) apart and move by a sixth of that. MR scans also get a
    smooth shading, as coils make it.
    """
    plane = max(spacing_mm[0], spacing_mm[1])
    thick = not slices and spacing_mm[2] > THICK * plane
    reach = 14 * plane
    return AugmentConfig(
        mirror_axes=mirrored,
        spatial_probability=0.9,
        rotation_degrees=15 if thick else 25,
        scale=(0.8, 1.25),
        axis_scale=0.1,
        elastic_mm=float(f"{reach / 6:.2g}"),
        elastic_spacing_mm=float(f"{reach:.2g}"),
        intensity_probability=0.35,
        shading=0.2 if modality == "MR" else 0.0,
    )
