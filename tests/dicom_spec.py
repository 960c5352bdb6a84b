"""What a DICOM test series should be: its geometry, its voxels and the manners of its writer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from volseg.geometry import FloatArray, Grid

SECRETS = ("GEHEIM", "19470331", "20190817", "112233.445")
"""Parts of the name, numbers, dates and times that every test file holds; none may ever be shown."""

ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "feet-first": (-1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "decubitus": (0, -1, 0, 1, 0, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": tuple(Rotation.from_euler("xyz", (20, -15, 40), degrees=True).as_matrix()[:, :2].T.ravel()),
}
"""Cosines (0020,0037) of rising column, then of rising row, in LPS."""

VENDORS = ("plain", "siemens", "ge", "philips", "canon")


@dataclass(frozen=True, eq=False)
class SeriesSpec:
    """One series. Slices are numbered along cross(row direction, column direction), whatever the files are called."""

    shape: tuple[int, int, int] = (6, 5, 7)
    """Columns, rows, slices: array axes I, J, K."""
    spacing_mm: tuple[float, float, float] = (0.7, 0.9, 2.5)
    """Between columns, between rows, from slice to slice (along the table where the gantry is tilted)."""
    orientation: str | Sequence[float] = "axial"
    tilt_degrees: float = 0.0
    """Turns the planes about their row direction; the table still moves along the normal of the untilted planes."""
    first_position: tuple[float, float, float] = (-31.25, 42.5, 17.0)
    """LPS mm of the first pixel of slice 0."""
    positions: Sequence[Sequence[float]] | None = None
    """LPS mm of each slice, in place of the regular ones; then `Written.grid` is of the regular ones still."""
    offsets_mm: Sequence[float] | None = None
    """Distance of each slice from slice 0 along the table, in place of multiples of the spacing."""
    jitter_mm: float = 0.0
    """Largest random displacement of a slice along each world axis."""
    vendor: str = "plain"
    modality: str = "CT"
    syntax: str = "explicit"
    """A name in tests.dicom_pixels.TRANSFER_SYNTAXES."""
    preamble: str = "full"
    """"full"; "none": the meta group without preamble and magic; "bare": neither, data elements only."""
    fragments: int = 1
    """Fragments for each compressed frame."""
    bits_allocated: int = 16
    bits_stored: int = 12
    high_bit: int | None = None
    """None is bits_stored - 1; a higher one shifts the stored values up."""
    has_junk_bits: bool = False
    """Sets the unused bits above the high bit, as overlays of old do."""
    is_signed: bool = False
    slope: float | Sequence[float] = 1.0
    intercept: float | Sequence[float] = -1024.0
    photometric: str = "MONOCHROME2"
    seed: int = 0
    patient: str = "GEHEIM^NAME"
    patient_id: str = "GEHEIM-ID-77"
    study_uid: str = "1.2.826.0.1.999.1"
    series_uid: str = "1.2.826.0.1.999.1.1"
    frame_of_reference: str = "1.2.826.0.1.999.1.9"
    series_number: int = 1
    description: str = "test series"
    sop_uid: Callable[[int], str] | None = None
    """SOPInstanceUID by slice; None is the series' UID with the slice number behind."""
    file_name: Callable[[int], str] | None = None
    """File name by slice, with folders; None is a name whose order is not that of the slices."""
    edit: Callable[[Dataset, int], None] | None = None
    """Changes the data set of a slice (by number) at the end, before it is written."""

    @property
    def cosines(self) -> FloatArray:
        """Row and column directions [2, 3] in LPS, tilted."""
        named = ORIENTATIONS[self.orientation] if isinstance(self.orientation, str) else self.orientation
        row, column = np.asarray(named, dtype=np.float64).reshape(2, 3)
        angle = np.deg2rad(self.tilt_degrees)
        return np.stack([row, np.cos(angle) * column + np.sin(angle) * np.cross(row, column)])

    @property
    def table(self) -> FloatArray:
        """Direction [3] from slice to slice in LPS."""
        named = ORIENTATIONS[self.orientation] if isinstance(self.orientation, str) else self.orientation
        row, column = np.asarray(named, dtype=np.float64).reshape(2, 3)
        return np.cross(row, column)

    @property
    def grid(self) -> Grid:
        """The regular grid, without jitter."""
        affine = np.eye(4)
        affine[:3, :2] = self.cosines.T * self.spacing_mm[:2]
        affine[:3, 2] = self.table * self.spacing_mm[2]
        affine[:3, 3] = self.first_position
        return Grid.from_lps(self.shape, affine)

    @property
    def slice_positions(self) -> FloatArray:
        """LPS mm [K, 3] of the first pixel of each slice, as written."""
        if self.positions is not None:
            return np.asarray(self.positions, dtype=np.float64)
        offsets = self.offsets_mm or np.arange(self.shape[2]) * self.spacing_mm[2]
        regular = np.asarray(self.first_position) + np.outer(offsets, self.table)
        rng = np.random.default_rng(self.seed + 77)
        return regular + rng.uniform(-self.jitter_mm, self.jitter_mm, regular.shape)

    @property
    def marker(self) -> tuple[int, int, int]:
        """The voxel (i, j, k) of the highest stored value: off the middle along every axis."""
        columns, rows, slices = self.shape
        return columns - 2 if columns > 2 else 0, 1 if rows > 2 else 0, (2 * slices) // 3

    @property
    def stored(self) -> np.ndarray:
        """Stored values [I, J, K] int64: rising along each axis by another step, a little noise, and the marker."""
        lowest = -(1 << (self.bits_stored - 1)) if self.is_signed else 0
        span = (1 << self.bits_stored) - 1
        ramps = np.meshgrid(*(np.linspace(0, 1, extent) for extent in self.shape), indexing="ij")
        noise = np.random.default_rng(self.seed).uniform(0, 0.02, self.shape)
        fraction = 0.05 + 0.15 * ramps[0] + 0.25 * ramps[1] + 0.4 * ramps[2] + noise
        values = np.rint(lowest + fraction * span).astype(np.int64)
        values[self.marker] = lowest + round(0.95 * span)
        return values

    @property
    def slopes(self) -> FloatArray:
        """RescaleSlope of each slice [K]."""
        return np.broadcast_to(np.asarray(self.slope, dtype=np.float64), self.shape[2:])

    @property
    def intercepts(self) -> FloatArray:
        """RescaleIntercept of each slice [K]."""
        return np.broadcast_to(np.asarray(self.intercept, dtype=np.float64), self.shape[2:])

    @property
    def truth(self) -> FloatArray:
        """Rescaled values [I, J, K]: slope * stored + intercept by slice."""
        return self.stored * self.slopes + self.intercepts
