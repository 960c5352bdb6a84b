"""Other readers see what volseg sees: dcm2niix and SimpleITK on plain series, which they read rightly."""

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from tests.dicom_enhanced import Frames, write_enhanced
from tests.dicom_files import SeriesSpec, write_series
from volseg.geometry import FloatArray, Grid
from volseg.io import read_volume
from volseg.volume import Volume

DCM2NIIX = shutil.which("dcm2niix") or shutil.which("dcm2niix", path=str(Path(sys.executable).parent))
needs_dcm2niix = pytest.mark.skipif(
    DCM2NIIX is None, reason="dcm2niix is not installed (pip install dcm2niix)"
)

_ROUNDED_MM = 2e-3
"""Float32 affines, and in dcm2niix also an origin from the middle slices."""

PLAIN = {
    "axial, plain": SeriesSpec(),
    "axial, siemens, implicit": SeriesSpec(vendor="siemens", syntax="implicit"),
    "feet first, ge": SeriesSpec(orientation="feet-first", vendor="ge"),
    "prone, canon": SeriesSpec(orientation="prone", vendor="canon"),
    "decubitus, siemens": SeriesSpec(orientation="decubitus", vendor="siemens"),
    "sagittal, siemens, MR": SeriesSpec(
        orientation="sagittal", vendor="siemens", modality="MR", intercept=0.0
    ),
    "coronal, ge, jpeg lossless": SeriesSpec(orientation="coronal", vendor="ge", syntax="jpeg-lossless"),
    "oblique, ge": SeriesSpec(orientation="oblique", vendor="ge"),
    "oblique, signed": SeriesSpec(orientation="oblique", is_signed=True, intercept=0.0),
    "axial, slope 2": SeriesSpec(slope=2.0),
}


@pytest.mark.parametrize("spec", PLAIN.values(), ids=PLAIN.keys())
def test_simpleitk_sees_the_same_volume(spec: SeriesSpec, folder: Path):
    volume = read_volume(write_series(folder, spec).folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    _check_same(volume, _grid_of(image), SimpleITK.GetArrayFromImage(image).T, spec)


@pytest.mark.tools
@needs_dcm2niix
@pytest.mark.parametrize("spec", PLAIN.values(), ids=PLAIN.keys())
def test_dcm2niix_sees_the_same_volume(spec: SeriesSpec, folder: Path, tmp_path: Path):
    write_series(folder, spec)
    volume = read_volume(folder)
    image = _by_dcm2niix(folder, tmp_path / "nifti")
    _check_same(volume, Grid(image.shape[:3], image.affine), np.asarray(image.dataobj), spec)


@pytest.mark.tools
@needs_dcm2niix
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_dcm2niix_sees_the_same_enhanced_volume(modality: str, folder: Path, tmp_path: Path):
    spec = SeriesSpec(modality=modality, orientation="oblique", intercept=-100.0)
    written = write_enhanced(folder / "enhanced.dcm", spec, Frames(order=lambda count: range(count)[::-1]))
    volume = read_volume(written.files[0])
    image = _by_dcm2niix(folder, tmp_path / "nifti")
    _check_same(volume, Grid(image.shape[:3], image.affine), np.asarray(image.dataobj), spec)


def _check_same(volume: Volume, grid: Grid, array: np.ndarray, spec: SeriesSpec) -> None:
    """The same value at the same place, for every voxel, whichever way the other library stores its axes."""
    indices = np.stack(np.meshgrid(*map(np.arange, volume.grid.shape), indexing="ij"), axis=-1)
    found = grid.world_to_index(volume.grid.index_to_world(indices))
    nearest = np.rint(found).astype(int)
    assert np.abs(found - nearest).max() < _ROUNDED_MM / min(spec.spacing_mm)
    np.testing.assert_allclose(array[tuple(np.moveaxis(nearest, -1, 0))], volume.array[0], atol=1e-3)
    assert _brightest(grid, array) == pytest.approx(_brightest(volume.grid, volume.array[0]), abs=_ROUNDED_MM)


def _brightest(grid: Grid, array: np.ndarray) -> FloatArray:
    return grid.index_to_world(np.unravel_index(int(array.argmax()), array.shape))


def _grid_of(image: SimpleITK.Image) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Grid.from_lps(image.GetSize(), affine)


def _by_dcm2niix(folder: Path, out: Path) -> nib.Nifti1Image:
    out.mkdir()
    command = [str(DCM2NIIX), "-b", "n", "-z", "n", "-m", "n", "-f", "converted", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return nib.load(out / "converted.nii")
