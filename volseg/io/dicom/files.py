"""The files of an export: a folder tree, a zip archive, a DICOMDIR (PS3.10 section 8, PS3.3 F.3) or one file.

Every file is listed, whatever it is; whether it can be used is told by volseg.io.dicom.header.
"""

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from volseg.errors import FileFormatError, InputError, few
from volseg.io.dicom.elements import Elements, Scanner, is_plausible
from volseg.io.stream import readable
from volseg.origin import FileRef

MAX_UNPACKED_BYTES = 1 << 32
"""No packed file or member may unpack to more than this."""

HARMLESS_BYTES, MAX_PACKING = 1 << 28, 100
"""Above so many bytes, pixels packed more than so many times are taken for an attack."""

DICOMDIR_TAGS = {0x00041220: "DirectoryRecordSequence", 0x00041500: "ReferencedFileID"}

_ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")
_ENCRYPTED = 1
_PIECE_BYTES = 1 << 16
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def find_files(source: Path) -> Iterator[FileRef]:
    """Every file of a source, one by one, in a stable order.

    A folder is walked to any depth; folders that were reached already (by a symbolic link) are not entered again. A
    zip archive gives its members. A DICOMDIR gives the files of its folder. Files that a DICOMDIR names and that are
    not there are listed too, so that they are missed, and so are folders that may not be read.

    Raises:
        InputError: there is no such source, or it may not be read.
        FileFormatError: a damaged zip archive.
    """
    with readable(source):
        mode = source.stat().st_mode
    if stat.S_ISDIR(mode):
        yield from _walk(source, set())
    elif _is_dicomdir(source.name):
        yield from _walk(source.parent, set())
    elif stat.S_ISREG(mode) and _starts(source, 4) in _ZIP_MAGIC:
        names = [member.filename for member in _archive(source).infolist() if not member.is_dir()]
        yield from (FileRef(source, name) for name in sorted(set(names)))
    else:
        yield FileRef(source)


def is_dicom(path: Path) -> bool:
    """Whether a file starts like DICOM, with or without its preamble; False where it cannot be read."""
    try:
        return path.is_file() and is_plausible(_starts(path, 400))
    except (OSError, InputError):
        return False


def size_of(file: FileRef) -> int:
    """Bytes of a file or, as its archive claims, of an unpacked member.

    Raises:
        InputError: it is not there, is no regular file, or may not be read.
        FileFormatError: the archive is damaged, or the member's claim is absurd.
    """
    if file.member:
        return _member(file).file_size
    with readable(file.path):
        found = file.path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise InputError(
            f"{file.path} is no regular file (a folder or a device); or it is a folder that may not be read."
        )
    return found.st_size


@contextmanager
def open_file(file: FileRef) -> Iterator[BinaryIO]:
    """A file's bytes, seekable. A member is unpacked in memory and its checksum verified.

    Safe to use from several threads at once.

    Raises:
        InputError: it is not there or may not be read.
        FileFormatError: the archive is damaged, encrypted or absurd.
    """
    size_of(file)
    if not file.member:
        with _opened(file.path) as stream:
            yield stream
        return
    try:
        data = _archive(file.path).read(_member(file))
    except _DAMAGED as error:
        raise _damaged(file, error) from None
    yield BytesIO(data)


@contextmanager
def open_start(file: FileRef) -> Iterator[BinaryIO]:
    """As open_file, for reading headers: a member is unpacked only as far as it is read.

    Raises:
        InputError: as open_file.
        FileFormatError: as open_file, also while the member is read.
    """
    if not file.member:
        with open_file(file) as stream:
            yield stream
        return
    try:
        with _archive(file.path).open(_member(file)) as packed:
            # A zip member lacks only what its type says, not what buffering needs.
            yield cast(BinaryIO, BufferedReader(cast(Any, packed), 1 << 15))
    except _DAMAGED as error:
        raise _damaged(file, error) from None


def inflate(file: FileRef, packed: bytes) -> tuple[bytes, bool]:
    """A raw deflate stream (RFC 1951) unpacked as far as it goes, and whether it goes to its end.

    Raises:
        FileFormatError: it would unpack to an absurd size.
    """
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    pieces, size = [], 0
    try:
        for start in range(0, len(packed), _PIECE_BYTES):
            pieces.append(unpacker.decompress(packed[start : start + _PIECE_BYTES]))
            size += len(pieces[-1])
            check_packing(file, packed=len(packed), unpacked=size)
        pieces.append(unpacker.flush())
    except zlib.error:
        return b"".join(pieces), False
    return b"".join(pieces), unpacker.eof


def check_packing(file: FileRef, *, packed: int, unpacked: int) -> None:
    """Refuse what would exhaust the memory when unpacked; sizes in bytes.

    Raises:
        FileFormatError: too large, or packed far better than images can be.
    """
    is_bomb = unpacked > HARMLESS_BYTES and unpacked > packed * MAX_PACKING
    if unpacked > MAX_UNPACKED_BYTES or is_bomb:
        raise FileFormatError(
            f"{file}: {packed:,} packed bytes would unpack to at least {unpacked:,}, which no scan does; it is not "
            f"unpacked. The most is {MAX_UNPACKED_BYTES:,} bytes, and above {HARMLESS_BYTES:,} a packing of "
            f"{MAX_PACKING} to 1."
        )


def _walk(folder: Path, visited: set[tuple[int, int]]) -> Iterator[FileRef]:
    try:
        found = folder.stat()
        if (found.st_dev, found.st_ino) in visited:
            return
        visited.add((found.st_dev, found.st_ino))
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError:
        yield FileRef(folder)
        return
    for name, is_folder in listed:
        if is_folder:
            yield from _walk(folder / name, visited)
            continue
        yield FileRef(folder / name)
        if _is_dicomdir(name):
            yield from _missing(folder / name)


def _is_dicomdir(name: str) -> bool:
    return _plain_name(name) == "DICOMDIR"


def _missing(dicomdir: Path) -> Iterator[FileRef]:
    """The files a DICOMDIR names that are not there. Discs are often copied with names in another case."""
    file = FileRef(dicomdir)
    try:
        with open_file(file) as stream:
            scanner = Scanner(stream, size_of(file), DICOMDIR_TAGS)
            elements, layout = Elements(), scanner.layout()
            if layout:
                scanner.scan(layout, elements)
    except (InputError, OSError, EOFError, ValueError):
        return
    names_in = lru_cache(maxsize=64)(_names_in)
    for record in elements.sequences.get("DirectoryRecordSequence", []):
        parts = [part.strip() for part in record.text("ReferencedFileID").split("\\") if part.strip()]
        if parts and ".." not in parts and not _exists(dicomdir.parent, parts, names_in):
            yield FileRef(dicomdir.parent.joinpath(*parts))


def _names_in(folder: Path) -> dict[str, str]:
    """The names in a folder by their plain spelling."""
    try:
        return {_plain_name(path.name): path.name for path in folder.iterdir()}
    except OSError:
        return {}


def _plain_name(name: str) -> str:
    """A name in capitals, without the version and the dot that the ISO 9660 file system adds."""
    return name.upper().partition(";")[0].rstrip(".")


def _exists(folder: Path, parts: list[str], names_in: Any) -> bool:
    if folder.joinpath(*parts).exists():
        return True
    for part in parts:
        name = names_in(folder).get(part.upper().rstrip("."))
        if name is None:
            return False
        folder = folder / name
    return True


def _opened(path: Path) -> BinaryIO:
    with readable(path):
        return path.open("rb")


def _starts(path: Path, count: int) -> bytes:
    with _opened(path) as stream:
        return stream.read(count)


def _archive(path: Path) -> zipfile.ZipFile:
    with readable(path):
        found = path.stat()
    return _open_archive(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _open_archive(path: Path, _changed_ns: int, _size: int) -> zipfile.ZipFile:
    """An archive and its list of members, which is long to read; it closes when it is dropped."""
    try:
        with readable(path):
            return zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise _damaged(FileRef(path), error) from None


def _member(file: FileRef) -> zipfile.ZipInfo:
    try:
        member = _archive(file.path).getinfo(file.member)
    except KeyError:
        names = few(_archive(file.path).namelist(), 3)
        raise InputError(f"{file.path} has no member {file.member!r}; it holds {names}.") from None
    if member.flag_bits & _ENCRYPTED:
        raise FileFormatError(f"{file} is encrypted; unpack the archive with its password first.")
    check_packing(file, packed=member.compress_size, unpacked=member.file_size)
    return member


def _damaged(file: FileRef, error: BaseException) -> FileFormatError:
    return FileFormatError(f"{file} cannot be unpacked ({error}); the archive is damaged. Copy it again.")
