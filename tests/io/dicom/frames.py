"""Frames with known geometry, made without files."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from volseg.geometry import FloatArray
from volseg.io.dicom.frame import Encoding, Frame, SeriesText, Traits
from volseg.origin import FileRef

SERIES = SeriesText("p", "1.2", "1.2.3", "CT", "chest", "", "", "4", "", "maker")
ENCODING = Encoding("1.2.840.10008.1.2.1", 16, 16, 15, True, 1, "MONOCHROME2")
SPACING = (0.9, 0.7)
"""Between rows, between columns."""
SHAPE = (5, 6)
"""Columns, rows."""


def make_frame(position: Sequence[float] | None, name: str = "a", **changes: Any) -> Frame:
    """An axial CT frame; `name` is its file and its SOP UID."""
    base = Frame(
        file=FileRef(Path(f"{name}.dcm")),
        number=0,
        sop_uid=f"1.2.3.{name}",
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        series=SERIES,
        frame_of_reference="1.9",
        instance_number=1,
        rows=SHAPE[1],
        columns=SHAPE[0],
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        pixel_spacing=SPACING,
        slice_thickness=3.0,
        traits=Traits(),
        encoding=ENCODING,
        slope=1.0,
        intercept=0.0,
    )
    return replace(base, **changes)


def with_traits(frames: Sequence[Frame], **traits: Any) -> list[Frame]:
    """The frames with other traits; a function is called with the index of the frame."""
    return [
        replace(
            frame,
            traits=replace(
                frame.traits,
                **{key: value(index) if callable(value) else value for key, value in traits.items()},
            ),
        )
        for index, frame in enumerate(frames)
    ]


def of_modality(frames: Sequence[Frame], modality: str) -> list[Frame]:
    return [replace(frame, series=replace(frame.series, modality=modality)) for frame in frames]


def axial(heights: Sequence[float], prefix: str = "s", **changes: Any) -> list[Frame]:
    """Axial frames at heights in mm, off the origin."""
    return [
        make_frame((-31.0, 17.5, height), f"{prefix}{index:03d}", **changes)
        for index, height in enumerate(heights)
    ]


class Truth:
    """A rotated, tilted stack and where its voxels are, in LPS mm."""

    def __init__(self, rotation: Sequence[float], step: Sequence[float], count: int) -> None:
        self.axes = Rotation.from_euler("xyz", rotation, degrees=True).as_matrix()
        self.start = np.array([-41.3, 22.7, 310.9])
        self.step = self.axes @ np.asarray(step, dtype=float)
        self.count = count

    def frames(self, jitter: FloatArray | None = None) -> list[Frame]:
        noise = np.zeros((self.count, 3)) if jitter is None else jitter
        orientation = tuple(float(x) for x in (*self.axes[:, 0], *self.axes[:, 1]))
        return [
            make_frame(
                self.start + index * self.step + noise[index], f"t{index:03d}", orientation=orientation
            )
            for index in range(self.count)
        ]

    def ras(self, i: float, j: float, k: float) -> FloatArray:
        lps = self.start + self.axes[:, 0] * SPACING[1] * i + self.axes[:, 1] * SPACING[0] * j + self.step * k
        return lps * [-1, -1, 1]


def content_by_name(**same: str) -> Callable[[Frame], bytes]:
    """Every frame has a content of its own, but for files named in `same`: they have that of another file."""

    def key(frame: Frame) -> bytes:
        name = frame.file.path.stem
        return hashlib.sha256(f"{same.get(name, name)} {frame.number}".encode()).digest()

    return key


def names(frames: Sequence[Frame]) -> list[str]:
    return [frame.sop_uid.rpartition(".")[2] for frame in frames]
