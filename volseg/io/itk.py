"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) through SimpleITK.

The only home of ITK's conventions: its arrays are indexed (k, j, i) and its world is LPS+ (see Grid.from_lps).
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from volseg.errors import FileFormatError, GeometryError, InputError, IntensityError, OutputError
from volseg.geometry import Grid
from volseg.io.atomic import replacing
from volseg.io.formats import suffix_of
from volseg.io.itk_header import check_voxels, read_text_header
from volseg.io.shear import refuse_sheared
from volseg.origin import Origin
from volseg.volume import AnyArray, Volume

DTYPES = tuple(
    np.dtype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
)  # fmt: skip

STORED_GRID_TOLERANCE_MM = 1e-4
"""A header's decimal numbers stand for a grid up to this."""

_READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_SINGLE_FILES = (".nrrd", ".mha")
_COMPRESSION_LEVEL = 1

logger = logging.getLogger(__name__)


def read(path: Path) -> Volume:
    """The volume [C, I, J, K] of a file; voxel components, or a fourth axis, become channels.

    Raises:
        FileFormatError: not of the format its suffix says, empty, damaged, or not as long as the header says.
        IntensityError: complex or colour voxels.
        GeometryError: no usable position.
    """
    header = read_text_header(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_READERS[suffix_of(path)])
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise FileFormatError(f"{path} is not readable as {suffix_of(path)}: {_last_line(error)}") from None
    if header.is_colour or "complex" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()):
        raise IntensityError(f"{path} holds colour or complex voxels; convert it to a scalar image.")
    grid, frames = _space(path, reader)
    if not header.has_position:
        logger.warning(
            "%s: its header does not say where the patient is; voxel (0, 0, 0) is put at 0, 0, 0.", path
        )
    voxel_bytes = _voxel_bytes(path, reader)
    check_voxels(path, header, int(np.prod(reader.GetSize(), dtype=object)) * voxel_bytes)
    try:
        array = SimpleITK.GetArrayFromImage(reader.Execute())
    except (RuntimeError, MemoryError) as error:
        raise FileFormatError(f"{path} is damaged or too large: {_last_line(error)}") from None
    if frames * reader.GetNumberOfComponents() != array.size // int(np.prod(grid.shape)):
        raise FileFormatError(f"{path}: its voxels do not have the number of components its header gives.")
    return Volume(
        _from_itk_axes(path, array, frames, reader.GetNumberOfComponents()), grid, Origin(path=path)
    )


def write(volume: Volume, path: Path, dtype: np.dtype[Any]) -> None:
    """Write a volume; channels become components of one voxel. What was written is read back and compared.

    (ITK does not report every failure of the file system.)

    Raises:
        OutputError: the grid is sheared, or the file system refuses.
    """
    refuse_sheared(volume.grid, path)
    image = _image(volume, dtype)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO(_READERS[suffix_of(path)])
    writer.SetUseCompression(suffix_of(path) in _SINGLE_FILES)
    writer.SetCompressionLevel(_COMPRESSION_LEVEL)
    with replacing(path) as temporary:
        writer.SetFileName(str(temporary))
        try:
            writer.Execute(image)
            written = read(temporary)
        except (RuntimeError, InputError) as error:
            raise OutputError(
                f"{path} cannot be written, probably for lack of space in {path.parent}: {_last_line(error)}"
            ) from error
        is_same = written.grid.is_same(volume.grid, STORED_GRID_TOLERANCE_MM)
        wanted = volume.array.astype(dtype, copy=False)
        if not is_same or not np.array_equal(written.array, wanted, equal_nan=dtype.kind == "f"):
            raise OutputError(
                f"{path}: this format does not keep the volume as it is; write .nii.gz instead."
            )


def _space(path: Path, reader: SimpleITK.ImageFileReader) -> tuple[Grid, int]:
    """The grid and the number of frames along a fourth axis (1 without one)."""
    dimension, size = reader.GetDimension(), reader.GetSize()
    if dimension not in (3, 4):
        raise FileFormatError(
            f"{path} has {dimension} axes; expected three of space and at most one of channels."
        )
    if 0 in size:
        raise FileFormatError(f"{path} is empty: its header gives the extents {tuple(size)}, with no voxel.")
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:3, :3]
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = direction * reader.GetSpacing()[:3]
    affine_lps[:3, 3] = reader.GetOrigin()[:3]
    try:
        return Grid.from_lps((size[0], size[1], size[2]), affine_lps), size[3] if dimension == 4 else 1
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None


def _voxel_bytes(path: Path, reader: SimpleITK.ImageFileReader) -> int:
    name = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    bits = next((int(word.split("-")[0]) for word in name.split() if word.endswith("-bit")), 0)
    if not bits:
        raise FileFormatError(f"{path} holds voxels of type '{name}', which volseg does not read.")
    return bits // 8 * reader.GetNumberOfComponents()


def _from_itk_axes(path: Path, array: AnyArray, frames: int, components: int) -> AnyArray:
    """[K, J, I], [K, J, I, C] or [C, K, J, I] of ITK as [C, I, J, K], a view."""
    if frames > 1 and components > 1:
        raise FileFormatError(
            f"{path} has {frames} frames of {components} components; expected only one of both."
        )
    if components > 1:
        return np.moveaxis(array.reshape(*array.shape[-4:]), -1, 0).transpose(0, 3, 2, 1)
    return array.reshape(frames, *array.shape[-3:]).transpose(0, 3, 2, 1)


def _image(volume: Volume, dtype: np.dtype[Any]) -> SimpleITK.Image:
    array = volume.array.astype(dtype, copy=False)
    if volume.channels > 1:
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(3, 2, 1, 0)), isVector=True)
    else:
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array[0].transpose(2, 1, 0)))
    affine_lps = volume.grid.to_lps()
    image.SetOrigin(affine_lps[:3, 3].tolist())
    image.SetSpacing(volume.grid.spacing_mm)
    image.SetDirection((affine_lps[:3, :3] / volume.grid.spacing_mm).ravel().tolist())
    return image


def _last_line(error: BaseException) -> str:
    """The end of an ITK message, which holds the cause; the rest is source files and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
