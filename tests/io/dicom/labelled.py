"""Volumes from the headers of test series, and labels on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.dicom_files import SeriesSpec, write_series
from volseg.io.dicom.geometry import place_frames
from volseg.io.dicom.header import read_frames
from volseg.labels import Code, Label, LabelTable
from volseg.origin import DicomSource, FileRef, Origin
from volseg.volume import LabelMap, Volume

SHAPE = (5, 6, 7)

LABELS = LabelTable(
    (
        Label(1, "liver", (221, 130, 101), Code("SCT", "10200004", "Liver")),
        Label(4, "lesion", (144, 238, 144), Code("SCT", "52988006", "Lesion")),
        Label(7, "whatever it is", (9, 8, 7)),
    )
)
"""Values with holes between them; a part of the body, something abnormal, and a label without a code."""

AWKWARD = {
    "axial": {},
    "feet first": {"orientation": "feet-first"},
    "decubitus": {"orientation": "decubitus"},
    "sagittal": {"orientation": "sagittal"},
    "oblique": {"orientation": "oblique"},
    "tilted": {"tilt_degrees": 21.0},
    "tilted, oblique, with jitter": {"tilt_degrees": -17.0, "orientation": "oblique", "jitter_mm": 0.02},
}
"""What is to be different in a series."""

IRREGULAR_MM = (0.0, 4.0, 8.0, 12.0, 19.0, 26.0, 33.0)


def volume_of(files: Sequence[Path], *, allow_gaps: bool = False) -> Volume:
    """The volume of some files as reading makes it, but for its voxels, which are all 0."""
    frames = []
    for path in files:
        found = read_frames(FileRef(path))
        assert isinstance(found, list), found
        frames += found
    stack = place_frames(frames, allow_gaps=allow_gaps)
    assert stack.grid is not None, stack.refusal
    source = DicomSource(
        files=tuple(frame.file for frame in stack.frames),
        frames=tuple(frame.number for frame in stack.frames),
        slices=np.array(stack.slices),
    )
    origin = Origin(files[0].parent, series_uid=frames[0].series.series_uid, modality="CT", dicom=source)
    return Volume(np.zeros(stack.grid.shape, np.int16), stack.grid, origin)


def make_source(folder: Path, **changes: Any) -> Volume:
    """A series of shape (5, 6, 7) and spacing (0.7, 0.9, 2.5) mm, written and read."""
    spec = replace(SeriesSpec(shape=SHAPE), **changes)
    return volume_of(write_series(folder, spec).files, allow_gaps=spec.offsets_mm is not None)


def random_labels(source: Volume, seed: int = 0, *, labels: LabelTable = LABELS) -> LabelMap:
    """Every voxel one of the labels or background."""
    rng = np.random.default_rng(seed)
    values = rng.choice([0, *labels.values], source.grid.shape)
    return LabelMap(values.astype(np.int64), source.grid, labels)
