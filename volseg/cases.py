"""The voxels of a labelled case: its image and its label map, on one grid and in the values of its dataset."""

import numpy as np

from volseg.datasets import Case
from volseg.errors import GeometryError, InputError
from volseg.io import read_label_map, read_volume
from volseg.volume import LabelMap, Volume


def read_case(case: Case) -> tuple[Volume, LabelMap]:
    """The image and the label map of a case.

    Raises:
        InputError: the case has no label map.
        GeometryError: they are not on one grid.
    """
    if case.label is None:
        raise InputError(f"case {case.id} has no label map; training and validation need one.")
    volume, label_map = read_volume(case.images), read_label_map(case.label)
    distance_mm = volume.grid.distance_mm(label_map.grid)
    if distance_mm > 0.1:
        found = (
            f"{distance_mm:.2f} mm apart"
            if np.isfinite(distance_mm)
            else f"of shapes {volume.grid.shape} and "
        )
        found += "" if np.isfinite(distance_mm) else f"{label_map.grid.shape}"
        raise GeometryError(
            f"case {case.id}: {case.images[0]} and {case.label} are {found}; they must share a grid."
        )
    return volume, label_map
