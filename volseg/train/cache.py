"""Preprocessed cases on disk, in blocks, so that a patch is read without the rest of the volume."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import blosc2
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from volseg.cases import read_case
from volseg.datasets import Case
from volseg.errors import InputError
from volseg.geometry import Grid, Shape
from volseg.preprocess import PreprocessStep, preprocess_volume
from volseg.resample import resample_label_map
from volseg.volume import AnyArray, LabelMap

logger = logging.getLogger(__name__)

_CHUNK_VOXELS, _BLOCK_VOXELS = 64, 32
_CENTRES_PER_LABEL = 2000


@dataclass(frozen=True, eq=False)
class CachedCase:
    """One case on the model's grid: image [C, I, J, K] float32, labels [I, J, K] uint8 as label indices (0..L-1)."""

    id: str
    grid: Grid
    image: blosc2.NDArray
    labels: blosc2.NDArray
    centres: dict[int, npt.NDArray[np.int32]]
    """Per label index present, up to 2000 of its voxels [n, 3], from which foreground patches are centred."""

    @property
    def shape(self) -> Shape:
        """Extents (I, J, K)."""
        return self.grid.shape


def build_cache(
    cases: Sequence[Case], steps: Sequence[PreprocessStep], label_values: Sequence[int], folder: Path
) -> list[CachedCase]:
    """Preprocess the cases into a folder; what is already there from the same files and steps is reused.

    Args:
        cases: labelled cases.
        steps: preprocessing, in order.
        label_values: the values of label indices 1..L-1; index 0 is background.
        folder: where `<id>.<key>.*` files go.

    Raises:
        InputError: a case has no label map, or one with a value that is not in the table.
        GeometryError: image and label map of a case are not on one grid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_cached_case(case, steps, label_values, folder) for case in cases]


def _cached_case(
    case: Case, steps: Sequence[PreprocessStep], label_values: Sequence[int], folder: Path
) -> CachedCase:
    base = folder / f"{case.id}.{_key(case, steps, label_values)}"
    index = base.with_name(base.name + ".json")
    if not index.exists():
        _write_case(case, steps, label_values, base)
    record = json.loads(index.read_text())
    stored = load_file(base.with_name(base.name + ".centres.safetensors"))
    centres = {int(name): voxels for name, voxels in stored.items()}
    image = blosc2.open(str(base.with_name(base.name + ".image.b2nd")), mode="r")
    labels = blosc2.open(str(base.with_name(base.name + ".labels.b2nd")), mode="r")
    return CachedCase(
        case.id, Grid(tuple(record["shape"]), np.array(record["affine"])), image, labels, centres
    )


def _key(case: Case, steps: Sequence[PreprocessStep], label_values: Sequence[int]) -> str:
    files = [(str(path.resolve()), path.stat().st_mtime_ns, path.stat().st_size) for path in case.files]
    text = json.dumps([files, [step.model_dump(mode="json") for step in steps], list(label_values)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _write_case(case: Case, steps: Sequence[PreprocessStep], label_values: Sequence[int], base: Path) -> None:
    volume, label_map = read_case(case)
    image = preprocess_volume(volume, steps)
    indices = label_indices(resample_label_map(label_map, image.grid), label_values)
    _write_blocks(base.with_name(base.name + ".image.b2nd"), image.array)
    _write_blocks(base.with_name(base.name + ".labels.b2nd"), indices)
    present = [n for n in range(1, len(label_values) + 1) if (indices == n).any()]
    centres = {str(n): _some_voxels(indices == n) for n in present}
    save_file(centres, base.with_name(base.name + ".centres.safetensors"))
    record = {"shape": image.grid.shape, "affine": image.grid.affine.tolist()}
    base.with_name(base.name + ".json").write_text(json.dumps(record))  # last: marks the case as complete


def label_indices(label_map: LabelMap, label_values: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Label values to indices: background to 0, label_values[n] to n + 1.

    Raises:
        InputError: a value that is not in the table.
    """
    indices = np.zeros(label_map.array.shape, np.uint8)
    for index, value in enumerate(label_values, start=1):
        indices[label_map.array == value] = index
    unknown = np.unique(label_map.array[(indices == 0) & (label_map.array != 0)]).tolist()
    if unknown:
        raise InputError(
            f"{label_map.origin}: holds the values {unknown}, but the dataset's labels are {list(label_values)}; "
            "add them to the label table or remap them."
        )
    return indices


def _write_blocks(path: Path, array: AnyArray) -> None:
    path.unlink(missing_ok=True)
    lead = (1,) * (array.ndim - 3)
    chunks = lead + tuple(min(_CHUNK_VOXELS, extent) for extent in array.shape[-3:])
    blocks = lead + tuple(min(_BLOCK_VOXELS, extent) for extent in array.shape[-3:])
    blosc2.asarray(
        cast(Any, np.ascontiguousarray(array)), urlpath=str(path), mode="w", chunks=chunks, blocks=blocks,
        cparams={"codec": blosc2.Codec.LZ4, "filters": [blosc2.Filter.BITSHUFFLE], "clevel": 5},
    )  # fmt: skip


def _some_voxels(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    voxels = np.argwhere(mask).astype(
        np.int32, order="C"
    )  # safetensors writes other orders as if they were C
    if len(voxels) <= _CENTRES_PER_LABEL:
        return voxels
    return voxels[np.linspace(0, len(voxels) - 1, _CENTRES_PER_LABEL).astype(int)]
