"""FreeSurfer MGH volumes, plain (.mgh) or gzip (.mgz). Big-endian, affine as direction cosines and a centre.

Reference: https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
from isal import igzip
from nibabel.freesurfer.mghformat import MGHHeader

from volseg.errors import FileFormatError, GeometryError
from volseg.geometry import Grid
from volseg.io.atomic import replacing
from volseg.io.formats import suffix_of
from volseg.io.shear import refuse_sheared
from volseg.io.stream import check_claim, open_bytes, read_array
from volseg.origin import Origin
from volseg.volume import Volume

DTYPES = tuple(np.dtype(name) for name in ("u1", "i2", "i4", "f4"))

_DATA_OFFSET = 284
_HEADER_BYTES = 90
_GZIP_LEVEL = 1


def read(path: Path) -> Volume:
    """The volume [C, I, J, K] of a file; frames become channels.

    Raises:
        FileFormatError: not MGH, empty, damaged, or shorter than the header says.
        GeometryError: no usable affine.
    """
    with open_bytes(path) as stream:
        block = stream.read(_DATA_OFFSET)
    if len(block) < _DATA_OFFSET or int.from_bytes(block[:4], "big") != 1:
        raise FileFormatError(
            f"{path} is not an MGH volume: it has no version 1 header of {_DATA_OFFSET} bytes."
        )
    header = MGHHeader(block, check=False)
    shape = cast(tuple[int, int, int, int], tuple(header["dims"].tolist()))
    if min(shape) < 1:
        raise FileFormatError(f"{path} is empty: its header gives the extents {shape}, with no voxel.")
    dtype = _voxel_dtype(path, header)
    if int.from_bytes(block[28:30], "big") != 1:
        raise GeometryError(
            f"{path}: its header does not say where the patient is (goodRASFlag is not 1), and programs differ in what "
            "they assume then. Set its position, for example with mri_convert, first."
        )
    try:
        grid = Grid(shape[:3], header.get_affine())
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None
    # A footer of scan parameters and tags may follow the voxels.
    check_claim(path, _DATA_OFFSET + int(np.prod(shape, dtype=object)) * dtype.itemsize, exact=False)
    return Volume(read_array(path, dtype, shape, offset=_DATA_OFFSET), grid, Origin(path=path))


def write(volume: Volume, path: Path, dtype: np.dtype[Any]) -> None:
    """Write a volume; channels become frames.

    Raises:
        OutputError: the grid is sheared, or the file system refuses.
    """
    refuse_sheared(volume.grid, path)
    header = _header(volume.grid)
    header["dims"] = (*volume.grid.shape, volume.channels)
    header["type"] = {"u1": 0, "i4": 1, "f4": 3, "i2": 4}[dtype.str[1:]]
    voxels = volume.array.transpose(0, 3, 2, 1).astype(dtype.newbyteorder(">"), order="C", copy=False)
    with replacing(path) as temporary, temporary.open("wb") as file:
        start = header.binaryblock[:_HEADER_BYTES].ljust(_DATA_OFFSET, b"\0")
        if suffix_of(path) == ".mgz":
            with igzip.IGzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=file, mtime=0) as packed:
                packed.write(start)
                packed.write(voxels.data)
        else:
            file.write(start)
            file.write(voxels.data)


def _voxel_dtype(path: Path, header: MGHHeader) -> np.dtype[Any]:
    try:
        dtype = cast(np.dtype[Any], header.get_data_dtype())
    except KeyError:
        raise FileFormatError(
            f"{path} has MGH voxel type {int(header['type'])}, which volseg does not read; convert it to float."
        ) from None
    if dtype.newbyteorder("=") not in DTYPES:
        raise FileFormatError(
            f"{path} has voxels of type {dtype}, which volseg does not read; convert it to float."
        )
    return dtype


def _header(grid: Grid) -> MGHHeader:
    header = MGHHeader()
    header["dims"] = (*grid.shape, 1)
    header["goodRASFlag"] = 1
    header["delta"] = grid.spacing_mm
    header["Mdc"] = (grid.affine[:3, :3] / grid.spacing_mm).T
    header["Pxyz_c"] = grid.index_to_world(np.asarray(grid.shape) / 2)
    return header
