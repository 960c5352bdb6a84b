"""Preprocessed cases on disk, in blocks, so that a patch is read without the rest of the volume.

Each case is one folder, `<id>.<key>`: image.b2nd, labels.b2nd, places.safetensors and case.json. It is written under another
name and renamed when complete, so a folder of that name is always whole, whoever else builds the same cache or is killed.
"""

import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import blosc2
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from volseg.cases import read_case, read_image
from volseg.datasets import Case
from volseg.errors import InputError, OutputError
from volseg.geometry import Grid, Shape
from volseg.preprocess import PreprocessStep, preprocess_volume
from volseg.resample import resample_label_map
from volseg.train.samples.places import LabelPlaces, find_places, places_from_arrays, places_to_arrays
from volseg.volume import AnyArray, LabelMap, Volume

logger = logging.getLogger(__name__)

_LAYOUT = 2
_CHUNK_VOXELS, _BLOCK_VOXELS = 64, 32
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True, eq=False)
class CachedCase:
    """One case on the model's grid. Plain data: it may travel to another process, which opens the files itself."""

    id: str
    grid: Grid
    folder: Path
    places: dict[int, LabelPlaces]
    """Per label index present, where its voxels and components are."""

    @property
    def image(self) -> blosc2.NDArray:
        """[C, I, J, K] float32, opened anew at each call, as a handle must not be shared between threads."""
        return cast(blosc2.NDArray, blosc2.open(str(self.folder / "image.b2nd"), mode="r"))

    @property
    def labels(self) -> blosc2.NDArray:
        """[I, J, K] uint8, label indices 0..L-1; opened anew at each call."""
        return cast(blosc2.NDArray, blosc2.open(str(self.folder / "labels.b2nd"), mode="r"))

    @property
    def shape(self) -> Shape:
        """Extents (I, J, K)."""
        return self.grid.shape


def build_cache(
    cases: Sequence[Case],
    steps: Sequence[PreprocessStep],
    label_values: Sequence[int] | None,
    folder: Path,
    *,
    workers: int = 1,
) -> list[CachedCase]:
    """Preprocess the cases into a folder; what is already there from the same files and steps is reused.

    Args:
        cases: labelled cases.
        steps: preprocessing, in order.
        label_values: the values of label indices 1..L-1; index 0 is background. None reads no label map: every index is 0.
        folder: where the case folders go.
        workers: cases prepared at once, each of which is in memory as a whole.

    Raises:
        InputError: a case has no label map, or one with a value that is not in the table.
        GeometryError: image and label map of a case are not on one grid.
        OutputError: the folder takes no more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder)
    state = functools.cache(_file_state)  # cases of one DICOM export share a folder of thousands of files

    def cached(case: Case) -> CachedCase:
        target = folder / f"{case.file_name}.{_key(case, steps, label_values, state)}"
        if not (target / "case.json").exists():
            _write_whole(case, steps, label_values, target)
        return open_cached(target)

    with ThreadPoolExecutor(workers, thread_name_prefix="cache") as pool:
        futures = [pool.submit(cached, case) for case in cases]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def open_cached(folder: Path) -> CachedCase:
    """A case that build_cache wrote."""
    record = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    grid = Grid(tuple(record["shape"]), np.array(record["affine"]))
    return CachedCase(
        record["id"], grid, folder, places_from_arrays(load_file(folder / "places.safetensors"))
    )


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


def _file_state(path: Path) -> list[tuple[str, int, int]]:
    """Name, time and size of a file, or of all files under a folder."""
    files = sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
    states = ((file, file.stat()) for file in files)
    return [(str(file.resolve()), state.st_mtime_ns, state.st_size) for file, state in states]


def _key(
    case: Case,
    steps: Sequence[PreprocessStep],
    label_values: Sequence[int] | None,
    state: Callable[[Path], Any],
) -> str:
    files = [state(path) for path in (case.images if label_values is None else case.files)]
    reading = [len(case.images), list(case.series), sorted(case.remap.items())]
    values = None if label_values is None else list(label_values)
    making = [[step.model_dump(mode="json") for step in steps], values]
    return hashlib.sha256(json.dumps([_LAYOUT, files, reading, making]).encode()).hexdigest()[:12]


def _write_whole(
    case: Case, steps: Sequence[PreprocessStep], label_values: Sequence[int] | None, target: Path
) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        _write_case(case, steps, label_values, partial)
        partial.chmod(0o755)
        try:
            partial.rename(target)
        except OSError:
            if not (target / "case.json").exists():
                raise
            # another process was faster; its folder is complete and equal to ours
        else:
            logger.info("case %s is cached in %s", case.id, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_case(
    case: Case, steps: Sequence[PreprocessStep], label_values: Sequence[int] | None, folder: Path
) -> None:
    image, indices = _prepared(case, steps, label_values)
    places = places_to_arrays(find_places(indices))
    record = {"id": case.id, "shape": image.grid.shape, "affine": image.grid.affine.tolist()}
    try:
        _write_files(folder, image.array, indices, places, record)
    except (OSError, RuntimeError, SafetensorError) as error:  # blosc2 knows only that it failed
        free = shutil.disk_usage(folder).free
        raise OutputError(
            f"{folder.parent}: case {case.id} cannot be kept there ({error}); {free / 1e6:.0f} MB are free, and it takes up to "
            f"{(image.array.nbytes + indices.nbytes) / 1e6:.0f} MB. Free some space, or choose another folder by --output."
        ) from error


def _prepared(
    case: Case, steps: Sequence[PreprocessStep], label_values: Sequence[int] | None
) -> tuple[Volume, npt.NDArray[np.uint8]]:
    """The image on the model's grid and its label indices; without label values these are all 0."""
    if label_values is None:
        image = preprocess_volume(read_image(case), steps)
        return image, np.zeros(image.grid.shape, np.uint8)
    volume, label_map = read_case(case)
    image = preprocess_volume(volume, steps)
    return image, label_indices(resample_label_map(label_map, image.grid), label_values)


def _write_files(
    folder: Path,
    image: AnyArray,
    indices: npt.NDArray[np.uint8],
    places: dict[str, npt.NDArray[np.generic]],
    record: dict[str, Any],
) -> None:
    _write_blocks(folder / "image.b2nd", image)
    _write_blocks(folder / "labels.b2nd", indices)
    save_file(places, folder / "places.safetensors")
    (folder / "case.json").write_text(json.dumps(record), encoding="utf-8")
    for file in folder.iterdir():  # the rename must not reach the disk before what it names
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _write_blocks(path: Path, array: AnyArray) -> None:
    lead = (1,) * (array.ndim - 3)
    chunks = lead + tuple(min(_CHUNK_VOXELS, extent) for extent in array.shape[-3:])
    blocks = lead + tuple(min(_BLOCK_VOXELS, extent) for extent in array.shape[-3:])
    blosc2.asarray(
        cast(Any, np.ascontiguousarray(array)), urlpath=str(path), mode="w", chunks=chunks, blocks=blocks,
        cparams={"codec": blosc2.Codec.LZ4, "filters": [blosc2.Filter.BITSHUFFLE], "clevel": 5},
    )  # fmt: skip


def _clear_abandoned(folder: Path) -> None:
    """Remove what a killed process left; younger leftovers may belong to one that is still writing."""
    for partial in folder.glob(".*.partial"):
        try:
            if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(partial, ignore_errors=True)
        except FileNotFoundError:
            continue
