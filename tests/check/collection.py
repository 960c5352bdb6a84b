"""A small collection on disk without any fault, and what is done to it."""

from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np

from tests.grids import affine_of
from volseg.datasets import Case, Dataset
from volseg.labels import LabelTable

SHAPE = (17, 19, 7)
AFFINE = affine_of(flip=(False, True, False))
"""Left-handed, oblique, spacing (0.7, 0.9, 2.5) mm."""


class Collection(Dataset):
    """Three patients of two MR channels, labels 1 liver and 2 lesion."""

    name: Literal["collection"] = "collection"
    cases: Any
    """Cases, or an error to raise instead."""
    kind: str = "MR"
    names: tuple[str, ...] = ("T1", "T2")

    @classmethod
    def looks_like(cls, root: Path) -> str:
        return ""

    def __call__(self) -> list[Case]:
        if isinstance(self.cases, Exception):
            raise self.cases
        return list(self.cases)

    def labels(self) -> LabelTable:
        return LabelTable.from_names(("liver", "lesion"))

    def channel_names(self) -> tuple[str, ...]:
        return self.names

    def modality(self) -> str:
        return self.kind


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def labels_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, 1, 2], SHAPE, p=[0.6, 0.3, 0.1]).astype(np.uint8)


def image_of(seed: int) -> np.ndarray:
    return np.random.default_rng(100 + seed).normal(size=SHAPE).astype(np.float32)
