"""A small collection on disk without any fault."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.check.collection import Collection, image_of, labels_of, save
from volseg.datasets import Case


@pytest.fixture
def collection(tmp_path: Path) -> Callable[..., Collection]:
    """Write the files of cases a, b and c below `data`; images [2] and label per case."""
    folder = tmp_path / "data"
    folder.mkdir()

    def make(**fields: Any) -> Collection:
        cases = []
        for number, name in enumerate("abc"):
            images = [save(folder / f"{name}_{n}.nii.gz", image_of(2 * number + n)) for n in range(2)]
            label = save(folder / f"{name}_seg.nii.gz", labels_of(number))
            cases.append(Case(name, tuple(images), label))
        return Collection(root=folder, cases=tuple(cases), **fields)

    return make
