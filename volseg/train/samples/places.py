"""Where the labels of a case are: some voxels of each label, and some of each of its connected components."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Voxels = npt.NDArray[np.int32]

VOXELS_PER_LABEL = 2000
COMPONENTS_PER_LABEL = 512
VOXELS_PER_COMPONENT = 16


@dataclass(frozen=True, eq=False)
class LabelPlaces:
    """Voxels of one label, from which patches are centred."""

    voxels: Voxels
    """[n, 3], spread evenly over the label; at most VOXELS_PER_LABEL."""
    component_voxels: Voxels
    """[m, 3], those of the first component, then of the second, ...; at most VOXELS_PER_COMPONENT of each."""
    component_starts: npt.NDArray[np.int64]
    """[components + 1]: component n holds component_voxels[starts[n] : starts[n + 1]]. Components touch by face, edge or
    corner (26 neighbours). Of more than COMPONENTS_PER_LABEL, those kept are spread evenly over the sizes."""

    @property
    def component_count(self) -> int:
        """How many components are kept."""
        return len(self.component_starts) - 1

    def component(self, number: int) -> Voxels:
        """Voxels [n, 3] of a component, numbered from 0 by falling size."""
        return self.component_voxels[self.component_starts[number] : self.component_starts[number + 1]]


def find_places(indices: npt.NDArray[np.uint8]) -> dict[int, LabelPlaces]:
    """The places of each label index present in indices [I, J, K], background left out."""
    boxes = ndimage.find_objects(indices)
    return {
        label: _places_of(indices[box] == label, np.array([part.start for part in box]))
        for label, box in enumerate(boxes, start=1)
        if box is not None
    }


def _places_of(mask: npt.NDArray[np.bool_], corner: npt.NDArray[np.int_]) -> LabelPlaces:
    components, count = cast(tuple[Any, int], ndimage.label(mask, structure=np.ones((3, 3, 3))))
    flat = np.flatnonzero(mask)  # a third of the memory of three coordinates
    number = components.ravel()[flat]
    sizes = np.bincount(number, minlength=count + 1)[1:]
    by_component = flat[np.argsort(number, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    kept = _spread(np.argsort(-sizes, kind="stable"), COMPONENTS_PER_LABEL)
    parts = [_spread(by_component[starts[n] : starts[n + 1]], VOXELS_PER_COMPONENT) for n in kept]
    new_starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)

    def placed(chosen: npt.NDArray[np.int_]) -> Voxels:
        voxels = np.stack(np.unravel_index(chosen, mask.shape), axis=1) + corner
        return np.ascontiguousarray(
            voxels, dtype=np.int32
        )  # safetensors writes other orders as if they were C

    return LabelPlaces(placed(_spread(flat, VOXELS_PER_LABEL)), placed(np.concatenate(parts)), new_starts)


def _spread(items: npt.NDArray[np.int_], most: int) -> npt.NDArray[np.int_]:
    """All items, or `most` of them at even distances, first and last included."""
    if len(items) <= most:
        return items
    return items[np.linspace(0, len(items) - 1, most).astype(int)]


def places_to_arrays(places: Mapping[int, LabelPlaces]) -> dict[str, npt.NDArray[np.generic]]:
    """For a file; places_from_arrays reads it."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for label, found in places.items():
        arrays[f"{label}.voxels"] = found.voxels
        arrays[f"{label}.component_voxels"] = found.component_voxels
        arrays[f"{label}.component_starts"] = found.component_starts
    return arrays


def places_from_arrays(arrays: Mapping[str, npt.NDArray[np.generic]]) -> dict[int, LabelPlaces]:
    """What places_to_arrays was given."""
    labels = sorted({int(name.split(".")[0]) for name in arrays})
    return {
        label: LabelPlaces(
            arrays[f"{label}.voxels"].astype(np.int32),
            arrays[f"{label}.component_voxels"].astype(np.int32),
            arrays[f"{label}.component_starts"].astype(np.int64),
        )
        for label in labels
    }
