"""Exactly the bytes a header claims, from plain or gzip files; nothing is allocated before the claim is believable."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from isal import igzip, igzip_lib

from volseg.errors import FileFormatError, InputError
from volseg.volume import AnyArray

MAX_DEFLATE_RATIO = 1032
"""Deflate packs at most 258 bytes into 2 bits (RFC 1951, section 3.2.5): no gzip file unpacks to more than this."""

CHUNK_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
# isal's stub declares its exception class as an instance.
_DAMAGED = (EOFError, igzip.BadGzipFile, cast(type[Exception], igzip_lib.IsalError))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what can go wrong while a file is read into one clear error that names it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; expected an image file.") from None
    except PermissionError:
        raise InputError(
            f"{path}: no permission to read it; ask its owner, or change it with chmod +r."
        ) from None
    except _DAMAGED as error:
        raise FileFormatError(
            f"{path} is damaged or incomplete: its compressed data cannot be unpacked ({error}). "
            "Copy or download it again."
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if it is gzip (told by its first bytes, not by its name)."""
    with readable(path), path.open("rb") as file:
        if file.peek(2)[:2] == _GZIP_MAGIC:
            with igzip.open(file, "rb") as unpacked:
                yield cast(BinaryIO, unpacked)
        else:
            yield file


def check_claim(path: Path, claimed: int, *, exact: bool = True) -> None:
    """Refuse a file that does not hold the bytes its header claims, before any of them is allocated.

    Args:
        path: a plain or gzip file.
        claimed: bytes the header announces, unpacked, itself included.
        exact: whether nothing may follow the claimed bytes.

    Raises:
        FileFormatError: the file holds fewer bytes, or more where exact.
    """
    with readable(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.peek(2)[:2] != _GZIP_MAGIC:
            _compare(path, claimed, size, exact=exact)
            return
        if claimed > size * MAX_DEFLATE_RATIO:
            raise FileFormatError(
                f"{path}: its header announces {claimed:,} bytes, but a gzip file of {size:,} bytes cannot hold more "
                f"than {size * MAX_DEFLATE_RATIO:,}. The header is wrong or the file is incomplete."
            )
        file.seek(-4, os.SEEK_END)
        announced = int.from_bytes(file.read(4), "little")
        # The last four bytes give the size modulo 2^32 (RFC 1952), but only of the last member of several.
        if announced != claimed % 2**32:
            file.seek(0)
            with igzip.open(file, "rb") as unpacked:
                _compare(path, claimed, _count(cast(BinaryIO, unpacked), stop_above=claimed), exact=exact)


def read_exactly(stream: BinaryIO, target: AnyArray) -> None:
    """Fill a flat array from a stream, piece by piece (a gzip stream would make a second copy of one large piece).

    Raises:
        EOFError: the stream ends early.
    """
    view = target.view(np.uint8).data
    filled = 0
    while filled < len(view):
        count = cast(Any, stream).readinto(view[filled : filled + CHUNK_BYTES])
        if not count:
            raise EOFError(f"it ends {len(view) - filled:,} bytes early")
        filled += count


def read_array(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, int, int, int], *, offset: int
) -> AnyArray:
    """Voxels [I, J, K, C] stored first axis fastest, as an array [C, I, J, K] in native byte order (a view).

    The caller has believed the claim (check_claim). The rest of the file is read too, so that a gzip checksum is
    always verified.
    """
    try:
        flat = np.empty(int(np.prod(shape, dtype=object)), dtype)
    except MemoryError:
        raise InputError(
            f"{path}: its {shape} voxels of {dtype} do not fit into this machine's memory."
        ) from None
    with open_bytes(path) as stream:
        if len(stream.read(offset)) < offset:
            raise EOFError("it ends before its first voxel")
        read_exactly(stream, flat)
        while stream.read(CHUNK_BYTES):
            pass
    if not dtype.isnative:
        flat = flat.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return np.moveaxis(flat.reshape(shape, order="F"), -1, 0)


def _count(stream: BinaryIO, *, stop_above: int) -> int:
    total = 0
    while total <= stop_above and (chunk := stream.read(CHUNK_BYTES)):
        total += len(chunk)
    return total


def _compare(path: Path, claimed: int, found: int, *, exact: bool) -> None:
    if found < claimed or (exact and found > claimed):
        more = "more than " if found > claimed else ""
        raise FileFormatError(
            f"{path}: its header announces {claimed:,} bytes, but the file holds {more}{min(found, claimed):,}. "
            "The header is wrong or the file is incomplete; copy or export it again."
        )
