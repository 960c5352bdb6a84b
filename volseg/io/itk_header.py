"""The text headers of NRRD and MetaImage: where the voxels are, and whether that many are there.

SimpleITK reads the images. But it believes a header before it looks at the data, and takes a damaged compressed .mha
with no more than a line on the terminal; so the bytes are counted and their checksums verified here first.
References: http://teem.sourceforge.net/nrrd/format.html and https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib

from volseg.errors import FileFormatError
from volseg.io.formats import suffix_of
from volseg.io.stream import CHUNK_BYTES, MAX_DEFLATE_RATIO, readable

_LONGEST_HEADER_BYTES = 1 << 20
_WINDOW_BITS = {"gzip": 31, "zlib": 15}


@dataclass(frozen=True)
class TextHeader:
    """What has to be known about a file before SimpleITK may read it."""

    data_path: Path
    offset: int
    """Byte of data_path where the voxels start."""
    is_exact: bool
    """Whether they start exactly there (no further bytes or lines are to be skipped)."""
    encoding: str
    """"raw", "gzip", "zlib", or a name only SimpleITK has to know."""
    has_position: bool
    is_colour: bool


def read_text_header(path: Path) -> TextHeader:
    """The header of a .nrrd, .nhdr, .mha or .mhd file.

    Raises:
        FileFormatError: another format, an empty file, or voxels in more than one file.
    """
    with readable(path), path.open("rb") as file:
        block = file.read(_LONGEST_HEADER_BYTES)
    if not block:
        raise FileFormatError(f"{path} is empty (0 bytes); copy or export it again.")
    is_nrrd = suffix_of(path) in (".nrrd", ".nhdr")
    if block[:7] != b"NRRD000" if is_nrrd else b"ElementDataFile" not in block:
        raise FileFormatError(
            f"{path} is not a {'NRRD' if is_nrrd else 'MetaImage'} file, although its suffix says so: "
            f"it starts with {block[:8]!r}."
        )
    fields, length = _nrrd_fields(block) if is_nrrd else _meta_fields(block)
    return _nrrd_header(path, fields, length) if is_nrrd else _meta_header(path, fields, length)


def check_voxels(path: Path, header: TextHeader, claimed: int) -> None:
    """Refuse a file whose voxels are not the claimed number of bytes, or fail their checksum.

    Raises:
        FileFormatError: too few or too many bytes, or damaged ones.
    """
    with readable(header.data_path):
        available = header.data_path.stat().st_size - header.offset
    if header.encoding == "raw":
        found = available
    elif header.encoding in _WINDOW_BITS and claimed <= available * MAX_DEFLATE_RATIO:
        found = _unpacked_size(header, stop_above=claimed)
    else:
        found = min(claimed, available * MAX_DEFLATE_RATIO)
    if found < claimed or (header.is_exact and found > claimed):
        raise FileFormatError(
            f"{path}: its header announces {claimed:,} bytes of voxels, but {header.data_path.name} holds "
            f"{'more' if found > claimed else f'at most {found:,}'}. The header is wrong or the file is incomplete."
        )


def _nrrd_fields(block: bytes) -> tuple[dict[str, str], int]:
    """The lines up to the first empty one, and how many bytes they take."""
    stream = io.BytesIO(block)
    fields: dict[str, str] = {}
    while line := stream.readline().strip():
        key, colon, value = line.decode("latin-1").partition(":")
        if colon and not line.startswith(b"#"):
            fields[key.strip().lower()] = value.removeprefix("=").strip()
    return fields, stream.tell()


def _meta_fields(block: bytes) -> tuple[dict[str, str], int]:
    start = block.index(b"ElementDataFile")
    end = block.find(b"\n", start)
    length = len(block) if end < 0 else end + 1
    pairs = [line.partition("=") for line in block[:length].decode("latin-1").splitlines()]
    return {key.strip().lower(): value.strip() for key, _, value in pairs}, length


def _nrrd_header(path: Path, fields: dict[str, str], length: int) -> TextHeader:
    data_file = fields.get("data file") or fields.get("datafile") or ""
    encoding = {"gz": "gzip"}.get(fields.get("encoding", ""), fields.get("encoding", "raw"))
    skipped = [int(fields.get(key) or 0) for key in ("line skip", "lineskip", "byte skip", "byteskip")]
    return TextHeader(
        data_path=_beside(path, data_file) if data_file else path,
        offset=0 if data_file else length,
        is_exact=not any(skipped),
        encoding=encoding,
        has_position="space directions" in fields and ("space" in fields or "space dimension" in fields),
        is_colour="-color" in fields.get("kinds", "").lower(),
    )


def _meta_header(path: Path, fields: dict[str, str], length: int) -> TextHeader:
    data_file = fields["elementdatafile"]
    is_local = data_file.upper() == "LOCAL"
    skipped = int(fields.get("headersize") or 0)
    is_packed = fields.get("compresseddata", "").lower() == "true"
    return TextHeader(
        data_path=path if is_local else _beside(path, data_file),
        offset=length if is_local else max(0, skipped),
        is_exact=skipped >= 0,
        encoding="zlib"
        if is_packed
        else ("text" if fields.get("binarydata", "").lower() == "false" else "raw"),
        has_position=any(key in fields for key in ("transformmatrix", "rotation", "orientation")),
        is_colour=False,
    )


def _beside(path: Path, data_file: str) -> Path:
    if data_file.split(maxsplit=1)[0].upper() == "LIST" or "%" in data_file:
        raise FileFormatError(
            f"{path} spreads its voxels over several files; convert it to a single .nrrd or .mha."
        )
    return path.parent / data_file


def _unpacked_size(header: TextHeader, *, stop_above: int) -> int:
    with readable(header.data_path), header.data_path.open("rb") as file:
        file.seek(header.offset, os.SEEK_SET)
        chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
        return _count(chunks, _WINDOW_BITS[header.encoding], stop_above=stop_above)


def _count(chunks: Iterator[bytes], window_bits: int, *, stop_above: int) -> int:
    unpacker, total = isal_zlib.decompressobj(window_bits), 0
    for chunk in chunks:
        waiting = chunk
        while waiting and not unpacker.eof and total <= stop_above:
            total += len(unpacker.decompress(waiting, 16 * CHUNK_BYTES))
            waiting = unpacker.unconsumed_tail
        if unpacker.eof or total > stop_above:
            break
    if not unpacker.eof and total <= stop_above:
        raise EOFError("it ends early")
    return total
