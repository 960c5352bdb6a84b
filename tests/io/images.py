"""Images made without volseg, and the points other libraries see in them: independent witnesses for the tests."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

from tests.grids import SHAPE, affine_of
from volseg.geometry import FloatArray, Grid
from volseg.volume import AnyArray

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr")
MGH_SUFFIXES = (".mgz", ".mgh")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
ALL_SUFFIXES = NIFTI_SUFFIXES + MGH_SUFFIXES + ITK_SUFFIXES

_RAS = np.array([-1.0, -1.0, 1.0])


def some_voxels(seed: int = 0, shape: tuple[int, ...] = SHAPE, dtype: str = "i2") -> AnyArray:
    """Random voxels from -900 to 900, or 0 to 200 for unsigned types; floats have fractions."""
    rng = np.random.default_rng(seed)
    dtype_kind = np.dtype(dtype).kind
    values = rng.uniform(0, 200, shape) if dtype_kind == "u" else rng.uniform(-900, 900, shape)
    return values.astype(dtype)


def save_nifti(
    path: Path, array: AnyArray | None = None, affine: FloatArray | None = None, **fields: object
) -> Path:
    """A NIfTI file written by nibabel, with header fields patched afterwards in the file's bytes."""
    array = some_voxels() if array is None else array
    kind = nib.Nifti1Pair if path.suffix == ".hdr" else nib.Nifti1Image
    nib.save(kind(array, affine_of() if affine is None else affine), path)
    return patch_header(path, **fields) if fields else path


def patch_header(path: Path, **fields: object) -> Path:
    """Change fields of a NIfTI-1 header in place, with no check at all."""
    raw = path.read_bytes()
    packed = raw[:2] == b"\x1f\x8b"
    raw = gzip.decompress(raw) if packed else raw
    header = np.frombuffer(raw[:348], nib.Nifti1Header.template_dtype.newbyteorder("<")).copy()
    for name, value in fields.items():
        header[name] = value
    raw = header.tobytes() + raw[348:]
    path.write_bytes(gzip.compress(raw) if packed else raw)
    return path


def itk_image(array: AnyArray, grid: Grid, *, is_vector: bool = False) -> SimpleITK.Image:
    """An ITK image of [I, J, K], or of [C, I, J, K] with C components, on an orthogonal grid."""
    axes = (3, 2, 1, 0) if is_vector else (2, 1, 0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(axes)), isVector=is_vector)
    image.SetSpacing(grid.spacing_mm)
    image.SetDirection(((_RAS[:, None] * grid.affine[:3, :3]) / grid.spacing_mm).ravel().tolist())
    image.SetOrigin((_RAS * grid.affine[:3, 3]).tolist())
    return image


def brightest_point_by_nibabel(path: Path) -> FloatArray:
    """RAS mm of the brightest voxel, as nibabel sees it."""
    # nibabel leaves an .mgh file open, which would be a warning, so it gets the bytes.
    image = nib.MGHImage.from_bytes(path.read_bytes()) if path.suffix == ".mgh" else nib.load(path)
    data = np.asarray(image.dataobj)
    return nib.affines.apply_affine(image.affine, np.unravel_index(data.argmax(), data.shape))


def brightest_point_by_itk(path: Path) -> FloatArray:
    """RAS mm of the brightest voxel, as ITK sees it (in LPS)."""
    image = SimpleITK.ReadImage(str(path))
    data = SimpleITK.GetArrayFromImage(image)
    index = [float(axis) for axis in reversed(np.unravel_index(data.argmax(), data.shape))]
    return _RAS * image.TransformContinuousIndexToPhysicalPoint(index)
