"""What a compressed frame says of itself, and how an encapsulated pixel data value splits into frames (PS3.5 A.4).

Decoders are given only what fits the file's header, so that a damaged codestream cannot make them return another
image or ask for absurd memory.
"""

import re
import struct
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_END_OF_IMAGE = b"\xff\xd9"
_J2K_START = b"\xff\x4f\xff\x51"
_START_OF_TILE_PART = b"\xff\x90"
_FORBIDDEN_IN_PACKETS = re.compile(rb"\xff[\x90\x93-\xff]")
"""Coded data never look like a marker (T.800, B.10.1 and C.2.1); two kinds of markers may stand between packets."""
_FRAME_MARKERS = frozenset((0xC0, 0xC1, 0xC3, 0xF7))
"""Baseline, extended sequential, lossless and JPEG-LS; the progressive and arithmetic ones are not of DICOM."""
_MARKERS_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))


class Codestream(NamedTuple):
    """The head of a codestream."""

    kind: int
    """The marker of a JPEG or JPEG-LS frame; 0x4F for JPEG 2000."""
    rows: int
    columns: int
    components: int
    precision: int
    """Bits of a sample."""
    is_signed: bool


class Fragment(NamedTuple):
    """A piece of an encapsulated value."""

    start: int
    """Of its item, in bytes from the first item after the offset table."""
    offset: int
    """First byte of its value in the file."""
    length: int


class TruncatedError(ValueError):
    """The pixel data end before their announced end."""


def read_fragments(stream: BinaryIO, offset: int, size: int) -> tuple[tuple[int, ...], list[Fragment]]:
    """The basic offset table and the fragments of an encapsulated value.

    Args:
        stream: seekable.
        offset: first byte of the value.
        size: bytes in the stream.

    Raises:
        TruncatedError: the file ends inside a fragment or before the value's end.
        ValueError: something else stands where a fragment should.
    """
    fragments: list[Fragment] = []
    table: tuple[int, ...] | None = None
    position = base = offset
    while True:
        stream.seek(position)
        head = stream.read(8)
        if len(head) == 8 and head[:4] == SEQUENCE_END:
            return table or (), fragments
        length = int.from_bytes(head[4:8], "little")
        if len(head) < 8 or (head[:4] == ITEM and position + 8 + length > size):
            raise TruncatedError("it ends inside its compressed pixel data")
        if head[:4] != ITEM:
            raise ValueError(f"{head[:4].hex(' ')} stands where a fragment of its pixel data should begin")
        if table is None:
            raw = stream.read(length)
            table = struct.unpack(f"<{length // 4}I", raw[: length // 4 * 4])
            base = position + 8 + length
        else:
            fragments.append(Fragment(position - base, position + 8, length))
        position += 8 + length


def group_fragments(
    stream: BinaryIO, table: Sequence[int], fragments: Sequence[Fragment], *, frames: int
) -> list[list[Fragment]]:
    """The fragments of each frame: by the offset table, by their number, or by the marker that ends an image.

    Raises:
        ValueError: they do not add up to the number of frames.
    """
    if frames == 1:
        groups = [list(fragments)]
    elif len(fragments) == frames:
        groups = [[fragment] for fragment in fragments]
    elif len(table) == frames:
        starts = {start: number for number, start in enumerate(table)}
        groups = _cut(fragments, [fragment.start in starts for fragment in fragments])
    else:
        ends = [_ends_image(stream, fragment) for fragment in fragments]
        groups = _cut(fragments, [True, *ends[:-1]])
    if len(groups) != frames or not all(groups):
        raise ValueError(
            f"{len(fragments)} fragments of compressed pixel data make {len(groups)} frames; {frames} are announced"
        )
    return groups


def inspect_jpeg(data: bytes) -> Codestream:
    """The head of a JPEG (ITU-T T.81, B.2.2) or JPEG-LS (T.87, C.2) codestream.

    Raises:
        ValueError: damaged, incomplete, or of a kind that DICOM does not know.
    """
    if data[:2] != b"\xff\xd8" or not _has_end(data):
        raise ValueError("a compressed frame lacks the marker at its start or its end")
    for marker, start, end in segments(data):
        if marker in _FRAME_MARKERS:
            precision, rows, columns, components = struct.unpack(">BHHB", data[start : min(end, start + 6)])
            return Codestream(marker, rows, columns, components, precision, is_signed=False)
        if marker == 0xDA:
            break
    raise ValueError("a compressed frame has no frame header of a known kind")


def segments(data: bytes) -> list[tuple[int, int, int]]:
    """Marker, first byte and end of the content of each JPEG segment up to the first scan's header.

    Raises:
        ValueError: damaged.
    """
    found: list[tuple[int, int, int]] = []
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ValueError("a compressed frame has no marker where one should stand")
        marker = data[position + 1]
        if marker == 0xFF or marker in _MARKERS_ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if end > len(data) or end < position + 4:
            raise ValueError("a compressed frame ends inside its header")
        found.append((marker, position + 4, end))
        if marker == 0xDA:
            return found
        position = end
    raise ValueError("a compressed frame holds no scan")


def inspect_j2k(data: bytes) -> Codestream:
    """The head of a JPEG 2000 codestream (ITU-T T.800, A.5.1), plain or in a JP2 file, whose tile-parts are whole.

    Raises:
        ValueError: damaged or incomplete.
    """
    start = data.find(_J2K_START)
    if start < 0 or len(data) < start + 46:
        raise ValueError("a compressed frame has no JPEG 2000 header")
    right, bottom, left, top, *tiling = struct.unpack_from(">8I", data, start + 8)
    components, depth = struct.unpack_from(">HB", data, start + 40)
    tile, seen = data.find(_START_OF_TILE_PART, start), set()
    while tile >= 0 and data[tile : tile + 2] == _START_OF_TILE_PART:
        seen.add(data[tile + 4 : tile + 6])
        tile = _check_tile_part(data, tile)
    if data[tile : tile + 2] != _END_OF_IMAGE:
        raise ValueError("a compressed frame lacks the marker at its end")
    width, height, tile_left, tile_top = tiling
    if not (width and height) or len(seen) != -((tile_left - right) // width) * -(
        (tile_top - bottom) // height
    ):
        raise ValueError("a compressed frame lacks a tile")
    return Codestream(0x4F, bottom - top, right - left, components, (depth & 0x7F) + 1, depth >= 0x80)


def _check_tile_part(data: bytes, start: int) -> int:
    """The end of a tile-part (T.800, A.4.2) that is all there; its packets hold no marker but their own."""
    length = int.from_bytes(data[start + 6 : start + 10], "big")
    end = start + length if length else len(data.rstrip(b"\0")) - 2
    packets = start + 12
    while data[packets : packets + 1] == b"\xff" and data[packets + 1 : packets + 2] != b"\x93":
        packets += 2 + max(2, int.from_bytes(data[packets + 2 : packets + 4], "big"))
    if not packets < end <= len(data):
        raise ValueError("a compressed frame ends inside a tile")
    if _FORBIDDEN_IN_PACKETS.search(data, packets + 2, end):
        raise ValueError("a compressed frame has a marker inside its data")
    return end


def _ends_image(stream: BinaryIO, fragment: Fragment) -> bool:
    tail = min(fragment.length, 16)
    stream.seek(fragment.offset + fragment.length - tail)
    return _has_end(stream.read(tail))


def _has_end(data: bytes) -> bool:
    """Whether an image's last marker is followed by padding only; some writers pad with one byte that is not 0."""
    written = data.rstrip(b"\0")
    return written.endswith(_END_OF_IMAGE) or written[:-1].endswith(_END_OF_IMAGE)


def _cut(fragments: Sequence[Fragment], begins: Sequence[bool]) -> list[list[Fragment]]:
    groups: list[list[Fragment]] = []
    for fragment, is_first in zip(fragments, begins, strict=True):
        if is_first or not groups:
            groups.append([])
        groups[-1].append(fragment)
    return groups
