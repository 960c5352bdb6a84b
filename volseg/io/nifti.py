"""NIfTI-1 and NIfTI-2, one file (.nii, .nii.gz) or a pair (.hdr and .img).

nibabel knows the header; the voxels are streamed here, so that a header is never believed before its file is.
References: NIfTI-1 (nifti1.h, 2007) and NIfTI-2 (nifti2.h, 2011) at https://nifti.nimh.nih.gov.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from isal import igzip
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError

from volseg.errors import FileFormatError, IntensityError
from volseg.io.atomic import replacing
from volseg.io.formats import partner_of, suffix_of
from volseg.io.nifti_space import read_space, write_space
from volseg.io.stream import check_claim, open_bytes, read_array
from volseg.origin import Origin
from volseg.volume import AnyArray, Volume

DTYPES = tuple(
    np.dtype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
)  # fmt: skip

GZIP_LEVEL = 1
"""isal's level 1 packs about as small as zlib's level 1, several times faster."""

_CHUNK_VOXELS = 1 << 23
_ROWS_IN_CACHE = 4
_LARGEST_NIFTI1_EXTENT = 32767
_REFUSED_DTYPES = {32: "complex", 1792: "complex", 2048: "complex", 128: "RGB colour", 2304: "RGBA colour"}


def read(path: Path) -> Volume:
    """The volume [C, I, J, K] of a file; a fourth (or later) axis becomes the channels, trailing 1s are dropped.

    Integers stay as stored unless the header scales them: then value = slope * stored + intercept, in float32, or in
    float64 for types float32 cannot hold.

    Raises:
        FileFormatError: not NIfTI, empty, damaged, or not as long as the header says.
        IntensityError: complex or colour voxels, or an impossible scale.
        GeometryError: no usable affine.
    """
    header_path, data_path = _header_and_data(path)
    header = read_header(header_path)
    dtype = _voxel_dtype(path, header)
    shape = _shape(path, header)
    grid, space = read_space(path, header, shape[:3])
    slope, intercept = _scale(path, header)
    offset = _data_offset(path, header, is_pair=header_path != data_path)
    check_claim(data_path, offset + int(np.prod(shape, dtype=object)) * dtype.itemsize)
    array = read_array(data_path, dtype, shape, offset=offset)
    if (slope, intercept) != (1.0, 0.0):
        array = array.astype(np.result_type(array.dtype, np.float32), copy=False)
        with np.errstate(over="ignore"):  # an overflow is an infinite voxel, which reading refuses
            array *= array.dtype.type(slope)
            array += array.dtype.type(intercept)
    return Volume(array, grid, Origin(path=path, nifti=space))


def read_header(path: Path) -> Nifti1Header:
    """The header of a NIfTI file or pair, of either version (NIfTI-2 headers are a subclass) and byte order."""
    with open_bytes(path) as stream:
        block = stream.read(540)
    if not block:
        raise FileFormatError(f"{path} is empty (0 bytes); copy or export it again.")
    kinds: dict[int, tuple[type[Nifti1Header], tuple[bytes, bytes]]] = {
        348: (Nifti1Header, (b"n+1\0", b"ni1\0")),
        540: (Nifti2Header, (b"n+2\0", b"ni2\0")),
    }
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders:
        size = int.from_bytes(block[:4], order)
        if size not in kinds or len(block) < size:
            continue
        kind, (single, pair) = kinds[size]
        header = kind(block[:size], endianness="<" if order == "little" else ">", check=False)
        magic = bytes(header["magic"].tobytes())[:4]
        if magic == (pair if path.suffix.lower() == ".hdr" else single):
            return header
        if size == 348 and path.suffix.lower() == ".hdr" and magic not in (single, pair):
            raise FileFormatError(
                f"{path} is an Analyze 7.5 header, which does not say which side is left. "
                "Convert it to NIfTI with a program that knows how it was made."
            )
    raise FileFormatError(
        f"{path} is not a NIfTI file: it starts with {block[:8]!r}, not with a NIfTI header for this suffix. "
        "Check that it is the right file and that its suffix fits its format."
    )


def write(volume: Volume, path: Path, dtype: np.dtype[Any]) -> None:
    """Write a volume; several channels become the fourth axis. volume.origin.nifti says what to keep of a header.

    The affine is stored in float32 (NIfTI-1), about 1e-5 mm at 200 mm from the world's origin.

    Raises:
        OutputError: the file system refuses.
    """
    is_pair = suffix_of(path) in (".hdr", ".img")
    is_small = max(volume.array.shape) <= _LARGEST_NIFTI1_EXTENT
    if is_small:
        header = Nifti1PairHeader() if is_pair else Nifti1Header()
    else:
        header = Nifti2PairHeader() if is_pair else Nifti2Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(volume.grid.shape + ((volume.channels,) if volume.channels > 1 else ()))
    header["scl_slope"], header["scl_inter"] = 1, 0
    if not is_pair:
        header["vox_offset"] = len(header.binaryblock) + 4
    write_space(header, volume.grid, volume.origin.nifti)
    header_path, data_path = _header_and_data(path, must_exist=False)
    with replacing(header_path) as temporary:
        start = header.binaryblock if is_pair else header.binaryblock + bytes(4)
        if is_pair:
            temporary.write_bytes(start)
            _write_chunks(temporary.with_name(data_path.name), _voxel_chunks(volume.array, dtype))
        else:
            _write_chunks(temporary, _voxel_chunks(volume.array, dtype), start=start)


def _write_chunks(path: Path, chunks: Iterator[AnyArray], *, start: bytes = b"") -> None:
    with path.open("wb") as file:
        if suffix_of(path) != ".nii.gz":
            file.write(start)
            for chunk in chunks:
                file.write(chunk.data)
            return
        # No name and no time in the gzip header: the same labels give the same bytes.
        with igzip.IGzipFile("", "wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0) as packed:
            packed.write(start)
            for chunk in chunks:
                packed.write(chunk.data)


def _voxel_chunks(array: AnyArray, dtype: np.dtype[Any]) -> Iterator[AnyArray]:
    """The voxels of [C, I, J, K] as flat little-endian bytes, first axis fastest, channels slowest."""
    stored = dtype.newbyteorder("<")
    _, extent_i, extent_j, extent_k = array.shape
    thickness = max(1, _CHUNK_VOXELS // (extent_i * extent_j))
    for channel in array:
        for start in range(0, extent_k, thickness):
            slab = channel[:, :, start : start + thickness]
            chunk = np.empty(slab.shape[::-1], stored)
            for row in range(0, extent_j, _ROWS_IN_CACHE):
                rows = slice(row, row + _ROWS_IN_CACHE)
                chunk[:, rows] = slab[:, rows].T
            yield chunk.reshape(-1).view(np.uint8)


def _header_and_data(path: Path, *, must_exist: bool = True) -> tuple[Path, Path]:
    """The two files of a pair, whichever of them was named; one file twice for .nii and .nii.gz."""
    partner = partner_of(path)
    if partner is None:
        return path, path
    if must_exist and path.exists() and not partner.exists():
        raise FileFormatError(f"{path} is half of a pair; {partner.name} is missing beside it.")
    return (path, partner) if suffix_of(path) == ".hdr" else (partner, path)


def _voxel_dtype(path: Path, header: Nifti1Header) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code in _REFUSED_DTYPES:
        raise IntensityError(
            f"{path} holds {_REFUSED_DTYPES[code]} voxels (NIfTI datatype {code}); expected one real number per voxel. "
            "Convert it to a scalar image."
        )
    try:
        dtype = header.get_data_dtype()
    except (KeyError, HeaderDataError):
        dtype = np.dtype("V")
    if dtype.newbyteorder("=") not in DTYPES:
        raise FileFormatError(
            f"{path} has NIfTI datatype {code}, which volseg does not read; convert it to float32."
        )
    return dtype


def _shape(path: Path, header: Nifti1Header) -> tuple[int, int, int, int]:
    """Extents (I, J, K, C) as Python integers, which do not overflow."""
    count, *extents = cast(list[int], header["dim"].tolist())
    extents = extents[:count]
    if not 1 <= count <= 7 or min(extents) < 0:
        raise FileFormatError(f"{path} is damaged: its header gives the dimensions {header['dim'].tolist()}.")
    if 0 in extents:
        raise FileFormatError(f"{path} is empty: its header gives the extents {extents}, with no voxel.")
    space = [*extents, 1, 1][:3]
    channels = [extent for extent in extents[3:] if extent > 1]
    if len(channels) > 1:
        raise FileFormatError(
            f"{path} has extents {extents}; expected three axes of space and at most one of channels. "
            "Split it into one file per channel."
        )
    return space[0], space[1], space[2], (channels or [1])[0]


def _scale(path: Path, header: Nifti1Header) -> tuple[float, float]:
    """(slope, intercept); a slope of 0, or NaN as some writers leave it, means that values are as stored."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise IntensityError(
            f"{path}: its header scales voxels by slope {slope} and intercept {intercept}; expected finite numbers."
        )
    return slope, intercept


def _data_offset(path: Path, header: Nifti1Header, *, is_pair: bool) -> int:
    """Where the voxels start. Writers that leave 0 in a single file mean the first place possible."""
    offset = float(header["vox_offset"])
    first = 0 if is_pair else len(header.binaryblock) + 4
    if not is_pair and offset == 0:
        return first
    if not np.isfinite(offset) or offset != int(offset) or offset < first:
        raise FileFormatError(
            f"{path}: its header puts the voxels at byte {offset}; expected {first} or later."
        )
    return int(offset)
