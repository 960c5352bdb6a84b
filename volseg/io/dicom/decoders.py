"""Compressed frames to stored values: RLE, JPEG, JPEG-LS, JPEG 2000 and High-Throughput JPEG 2000.

The libraries are imported when the first frame of their kind is met. Each frame must say what the file's header says,
and each decoder must return exactly that; a frame that was cut is refused, never filled up.
"""

import importlib
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from volseg.io.dicom.codestream import Codestream, inspect_j2k, inspect_jpeg
from volseg.io.dicom.entropy import check_scan
from volseg.io.dicom.frame import Encoding
from volseg.volume import AnyArray

_JPEG = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
)
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
RLE = "1.2.840.10008.1.2.5"

COMPRESSED = frozenset((*_JPEG, *_JPEG_LS, *_JPEG_2000, *_HTJ2K, RLE))
"""The transfer syntaxes of compressed pixels that are read."""


def decode(data: bytes, encoding: Encoding, rows: int, columns: int) -> tuple[AnyArray, int]:
    """One compressed frame.

    Returns:
        The container values [rows, columns], unsigned of 1, 2 or 4 bytes, and how many of their low bits count.

    Raises:
        ValueError: damaged, incomplete, or another image than the header announces.
    """
    if encoding.transfer_syntax == RLE:
        return _decode_rle(data, encoding.bits_allocated // 8, rows, columns), encoding.bits_allocated
    is_jpeg = encoding.transfer_syntax in _JPEG
    is_jpeg_ls = encoding.transfer_syntax in _JPEG_LS
    head = inspect_jpeg(data) if is_jpeg or is_jpeg_ls else inspect_j2k(data)
    if (head.rows, head.columns, head.components) != (rows, columns, 1) or (head.kind == 0xF7) != is_jpeg_ls:
        raise ValueError(
            f"a compressed frame of {head.rows} x {head.columns} pixels and {head.components} components stands where "
            f"one of {rows} x {columns} and 1 is announced"
        )
    if not 2 <= head.precision <= encoding.bits_allocated:
        raise ValueError(f"a compressed frame has samples of {head.precision} bits")
    if is_jpeg:
        check_scan(data, head)
    decoder: Callable[[bytes, Codestream, str], bytes] = (
        _decode_jpeg if is_jpeg else _decode_jpeg_ls if is_jpeg_ls else _decode_j2k
    )
    width = 1 if head.precision <= 8 else 2 if head.precision <= 16 else 4
    try:
        found = decoder(data, head, encoding.transfer_syntax)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    if len(found) != rows * columns * width:
        raise ValueError(
            f"a compressed frame gave {len(found):,} bytes instead of {rows * columns * width:,}"
        )
    values = np.frombuffer(found, f"<u{width}").reshape(rows, columns)
    if head.is_signed:
        # The decoder has spread the sign over its container; it is spread over the header's here.
        allocated = encoding.bits_allocated // 8
        values = values.view(f"<i{width}").astype(f"<i{allocated}").view(f"<u{allocated}")
        return values, encoding.bits_allocated
    return values, head.precision


def _decode_jpeg_ls(data: bytes, _head: Codestream, _syntax: str) -> bytes:
    found, _ = importlib.import_module("jpeg_ls").decode_pixel_data(data)
    return bytes(found)


def _decode_j2k(data: bytes, _head: Codestream, _syntax: str) -> bytes:
    return importlib.import_module("openjpeg").decode(data, reshape=False).tobytes()


def _decode_jpeg(data: bytes, head: Codestream, syntax: str) -> bytes:
    gdcm: Any = importlib.import_module("gdcm")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data + b"\0" * (len(data) % 2))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((head.columns, head.rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.MONOCHROME2
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    allocated = 8 if head.precision <= 8 else 16
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, head.precision, head.precision - 1, 0))
    found = image.GetBuffer()
    if found is None:
        raise ValueError("a compressed frame cannot be decoded")
    # The bindings return the bytes as text.
    return found.encode("utf-8", "surrogateescape")


def _decode_rle(data: bytes, width: int, rows: int, columns: int) -> AnyArray:
    """RLE (PS3.5 annex G): one segment for each byte of a pixel, the most significant first."""
    if len(data) < 64:
        raise ValueError("a compressed frame ends inside its header")
    count, *offsets = struct.unpack("<16I", data[:64])
    if count != width:
        raise ValueError(f"a compressed frame has {count} segments; {width} are announced")
    bounds = [*offsets[:count], len(data)]
    if bounds[0] < 64 or sorted(bounds) != bounds:
        raise ValueError("a compressed frame ends before its last segment")
    unpacked = [
        np.frombuffer(_unpack_bits(data[start:end], rows * columns), np.uint8)
        for start, end in pairwise(bounds)
    ]
    planes = np.stack(unpacked[::-1], axis=1)
    return planes.view(f"<u{width}").reshape(rows, columns)


def _unpack_bits(data: bytes, count: int) -> bytes:
    """Exactly so many bytes from an RLE segment (PS3.5 G.3.2); nothing but padding may follow them."""
    pieces: list[bytes] = []
    position, found = 0, 0
    while found < count and position + 1 < len(data):
        code = data[position]
        if code < 128:
            piece = data[position + 1 : position + 2 + code]
            if len(piece) <= code and found + len(piece) < count:
                raise ValueError("a compressed frame ends inside a run")
            position += 2 + code
        else:
            # 128 stands for nothing.
            piece = data[position + 1 : position + 2] * (257 - code if code > 128 else 0)
            position += 2 if code > 128 else 1
        pieces.append(piece)
        found += len(piece)
    if found not in (count, count + 1) or data[position:].strip(b"\0")[1:]:
        raise ValueError(
            f"a compressed segment gives {found:,} bytes instead of {count:,}, or more follow it"
        )
    return b"".join(pieces)[:count]
