"""Where data came from: files, a DICOM series, and what a result needs of them to be written in the same terms."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from volseg.geometry import FloatArray


@dataclass(frozen=True, eq=False)
class NiftiSpace:
    """What a NIfTI header says about space beyond the affine, so that a result can carry the same."""

    sform_code: int
    qform_code: int
    xyzt_units: int
    qform: FloatArray | None = None
    """The quaternion affine [4, 4] into RAS mm, where the header has one."""


@dataclass(frozen=True, order=True, slots=True)
class FileRef:
    """A file, or a member of a zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        """The path, for messages; a member follows its archive after a colon."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)


@dataclass(frozen=True, eq=False)
class DicomSource:
    """The DICOM planes that a volume was read from, in the order of the volume's last axis.

    n planes; usually one for each slice. Where gaps were filled by resampling, the volume has more slices than planes,
    and a plane lies at slice index `slices[p]`, possibly a fraction.
    """

    files: tuple[FileRef, ...]
    """The file of each plane [n]."""
    frames: tuple[int, ...]
    """The frame number of each plane in its file [n], from 0."""
    slices: npt.NDArray[Any]
    """The slice index of each plane in the volume [n], float64, rising."""
    notes: tuple[str, ...] = ()
    """What was done that a reader should know: planes dropped, gaps filled, spacing assumed."""


@dataclass(frozen=True)
class Origin:
    """Where data came from."""

    path: Path | None = None
    other_paths: tuple[Path, ...] = ()
    """The further files, where the channels of a case came from several."""
    series_uid: str | None = None
    modality: str | None = None
    """DICOM modality (0008,0060) such as "CT" or "MR", where known."""
    nifti: NiftiSpace | None = field(default=None, compare=False)
    dicom: DicomSource | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """The path or series, for messages."""
        return str(self.path or self.series_uid or "volume in memory")


NO_ORIGIN = Origin()
"""Data made in memory."""
