"""Pixels of frames, rescaled: exactly what the files hold, or an error that names the file; nothing is filled up.

Values are slope * stored + intercept of each frame (PS3.3 C.11.1). MONOCHROME1 says how to show values, not what they
are: it is never inverted. No SUV or other factor is applied.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import groupby
from typing import BinaryIO, cast

import numpy as np

from volseg.errors import InputError, SeriesError
from volseg.io.dicom.codestream import TruncatedError, group_fragments, read_fragments
from volseg.io.dicom.decoders import COMPRESSED, decode
from volseg.io.dicom.elements import DEFLATED, Elements, Scanner
from volseg.io.dicom.files import check_packing, inflate, open_file
from volseg.io.dicom.frame import Encoding, Frame, Reason, Refusal
from volseg.origin import FileRef
from volseg.volume import AnyArray

NATIVE = frozenset(("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED))
"""The transfer syntaxes of pixels as they are; none stated is one of them."""

_WIDEST = 2**31 - 1


def read_planes(frames: Sequence[Frame]) -> AnyArray:
    """The planes [n, rows, columns] of frames of one matrix size, rescaled, in the order given.

    Where all slopes and intercepts are whole the values are int16 if it holds them all, else int32; in every other
    case float32, computed in float64 and rounded once.

    Raises:
        SeriesError: truncated or corrupt pixels, pixels that are no intensities, or an unknown way to store them; the
            file is named.
        InputError: a file is gone or cannot be read.
    """
    refusal = refuse_pixels(frames)
    if refusal:
        raise SeriesError(refusal.text, reason=refusal.reason)
    kind = np.int16 if all(_is_whole(frame) for frame in frames) else np.float32
    planes: AnyArray | None = None
    for index, (frame, stored) in enumerate(zip(frames, _stored_planes(frames), strict=True)):
        if planes is None:
            # Not before the first plane is there: until then its size is only a claim.
            planes = _allocate(frames, kind)
        if planes.dtype.kind == "i":
            planes = _wide_enough(planes, frame, stored)
        _rescale(frame, stored, planes[index])
    return np.empty((0, 0, 0), kind) if planes is None else planes


def content_key(frame: Frame) -> bytes:
    """SHA-256 of a frame's rescaled values: the same for the same image, however it is stored.

    Raises:
        SeriesError: as read_planes.
        InputError: as read_planes.
    """
    plane = read_planes([frame])[0]
    if plane.dtype.kind == "f":
        whole = np.isfinite(plane) & (np.rint(plane) == plane) & (np.abs(plane) <= 2**24)
        plane = plane.astype(np.int32) if whole.all() else plane
    else:
        plane = plane.astype(np.int32)
    digest = hashlib.sha256(repr((plane.dtype.str, plane.shape)).encode())
    digest.update(np.ascontiguousarray(plane).data)
    return digest.digest()


def refuse_pixels(frames: Sequence[Frame]) -> Refusal | None:
    """Why the pixels of frames cannot become intensities, as far as their headers tell; None for no reason."""
    for frame in frames:
        found = _refused(frame)
        if found:
            return Refusal(found[0], f"{frame.file}: {found[1]}.")
        if (frame.rows, frame.columns) != (frames[0].rows, frames[0].columns):
            sizes = [
                f"{other.file} has {other.rows} x {other.columns} pixels" for other in (frames[0], frame)
            ]
            return Refusal(Reason.OTHER_MATRIX, f"{', but '.join(sizes)}.")
    return None


def _refused(frame: Frame) -> tuple[Reason, str] | None:
    encoding = frame.encoding
    bits = (encoding.bits_stored, encoding.high_bit, encoding.bits_allocated)
    is_possible = 0 < bits[0] <= bits[1] + 1 <= bits[2]
    packing = "compressed" if frame.pixel_bytes is None else "not compressed"
    syntax = f"transfer syntax {encoding.transfer_syntax or 'not given'}, {packing}"
    is_known = encoding.transfer_syntax in (NATIVE if frame.pixel_bytes is not None else COMPRESSED)
    widths = (32, 64) if encoding.is_float else (8, 16, 32)
    for is_wrong, reason, text in (
        (
            encoding.samples != 1,
            Reason.COLOUR,
            f"its pixels have {encoding.samples} samples, not one intensity",
        ),
        (
            encoding.has_modality_lut,
            Reason.UNSUPPORTED,
            "its values need a modality look-up table, which is not read",
        ),
        (
            not (math.isfinite(frame.slope) and frame.slope and math.isfinite(frame.intercept)),
            Reason.UNSUPPORTED,
            f"its rescale slope {frame.slope} and intercept {frame.intercept} give no values",
        ),
        (not is_known, Reason.UNSUPPORTED, f"its pixels are stored in a way that is not read ({syntax})"),
        (
            encoding.bits_allocated not in widths or not (is_possible or encoding.is_float),
            Reason.UNSUPPORTED,
            f"its pixels have {bits[0]} bits up to bit {bits[1]} of {bits[2]}, which is not read",
        ),
    ):
        if is_wrong:
            return reason, text
    return None


def _allocate(frames: Sequence[Frame], kind: type[np.generic]) -> AnyArray:
    shape = (len(frames), frames[0].rows, frames[0].columns)
    try:
        return np.empty(shape, kind)
    except MemoryError:
        raise InputError(
            f"{frames[0].file}: {shape} pixels of its series do not fit into this machine's memory."
        ) from None


def _is_whole(frame: Frame) -> bool:
    factors = (frame.slope, frame.intercept)
    return (
        not frame.encoding.is_float
        and all(map(float.is_integer, factors))
        and max(map(abs, factors)) <= _WIDEST
    )


def _wide_enough(planes: AnyArray, frame: Frame, stored: AnyArray) -> AnyArray:
    """The planes in a type that also holds one more frame exactly."""
    ends = [int(frame.slope) * int(value) + int(frame.intercept) for value in (stored.min(), stored.max())]
    if planes.dtype == np.int16 and not -(2**15) <= min(ends) <= max(ends) < 2**15:
        planes = planes.astype(np.int32)
    if planes.dtype == np.int32 and not -(2**31) <= min(ends) <= max(ends) < 2**31:
        planes = planes.astype(np.float32)
    return planes


def _rescale(frame: Frame, stored: AnyArray, plane: AnyArray) -> None:
    """Write slope * stored + intercept into a plane, whose type holds it."""
    if plane.dtype == np.int16 and stored.dtype.itemsize == 2 and frame.slope == 1:
        # The result fits, so it is right modulo 2^16 whether the stored values are signed or not.
        offset = np.array(int(frame.intercept) % 2**16, np.uint16).view(np.int16)
        np.add(stored.view(np.int16), offset, out=plane)
    elif plane.dtype.kind == "i":
        plane[...] = stored.astype(np.int64) * int(frame.slope) + int(frame.intercept)
    else:
        plane[...] = stored.astype(np.float64) * frame.slope + frame.intercept


def _stored_planes(frames: Sequence[Frame]) -> Iterator[AnyArray]:
    """The stored values [rows, columns] of frames in order; a file is opened once for frames that follow each other.

    One thread: copying planes of this size from several threads is slower, because they wait for each other.
    """
    for file, group in groupby(frames, key=lambda frame: frame.file):
        try:
            yield from _read_file(file, list(group))
        except TruncatedError as error:
            raise _failed(file, Reason.TRUNCATED, str(error)) from None
        except ValueError as error:
            raise _failed(file, Reason.CORRUPT, str(error)) from None
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror or error}.") from None


def _read_file(file: FileRef, frames: list[Frame]) -> Iterator[AnyArray]:
    with open_file(file) as opened:
        stream, offset = _unpacked(frames[0], opened)
        size = stream.seek(0, 2)
        read = _read_compressed if frames[0].pixel_bytes is None else _read_native
        yield from read(stream, offset, size, frames)


def _failed(file: FileRef, reason: Reason, text: str) -> SeriesError:
    return SeriesError(f"{file}: {text}. Copy or export the file again.", reason=reason)


def _unpacked(frame: Frame, stream: BinaryIO) -> tuple[BinaryIO, int]:
    """A stream of the data set as it is without deflation, and where its pixels start."""
    if frame.pixel_offset is not None:
        return stream, frame.pixel_offset
    scanner = Scanner(stream, stream.seek(0, 2), {})
    layout = scanner.layout()
    stream.seek(layout.start if layout else 0)
    data, is_whole = inflate(frame.file, stream.read())
    if layout is None or not is_whole:
        raise TruncatedError("its deflated data set is cut or damaged")
    try:
        pixels = Scanner(BytesIO(data), len(data), {}).scan(layout._replace(start=0), Elements())
    except EOFError:
        pixels = None
    if pixels is None:
        raise TruncatedError("its deflated data set ends before its pixels")
    return BytesIO(data), pixels.offset


def _read_native(stream: BinaryIO, offset: int, size: int, frames: list[Frame]) -> Iterator[AnyArray]:
    first = frames[0]
    encoding, pixel_bytes = first.encoding, first.encoding.bits_allocated // 8
    length = first.rows * first.columns * pixel_bytes
    expected, announced = length * first.file_frames, first.pixel_bytes or 0
    found = min(announced, size - offset)
    if found < expected:
        raise TruncatedError(f"it holds {found:,} bytes of pixels; {expected:,} are announced")
    if announced - expected >= max(2, min(first.rows, first.columns) * pixel_bytes):
        raise ValueError(f"it holds {announced:,} bytes of pixels; only {expected:,} are announced")
    if encoding.is_big_endian and pixel_bytes == 1 and _is_in_words(stream, offset):
        stream.seek(offset)
        words = np.frombuffer(stream.read(expected + expected % 2), ">u2").astype("<u2")
        stream, offset = BytesIO(words.tobytes()), 0
    order = ">" if encoding.is_big_endian else "<"
    kind = np.dtype(f"{order}{'f' if encoding.is_float else 'u'}{pixel_bytes}")
    for frame in frames:
        plane = np.empty((frame.rows, frame.columns), kind)
        stream.seek(offset + frame.number * length)
        if cast(BytesIO, stream).readinto(plane.reshape(-1).view(np.uint8).data) != length:
            raise TruncatedError("it ends inside its pixels")
        native = plane.astype(kind.newbyteorder("="), copy=False)
        yield native if encoding.is_float else _stored_bits(native, encoding, encoding.bits_allocated)


def _is_in_words(stream: BinaryIO, offset: int) -> bool:
    """Whether 8-bit pixels were written as 16-bit words, whose bytes a big endian file swaps (PS3.5 8.1.2)."""
    stream.seek(offset - 8)
    return stream.read(2) == b"OW"


def _read_compressed(stream: BinaryIO, offset: int, size: int, frames: list[Frame]) -> Iterator[AnyArray]:
    first = frames[0]
    table, fragments = read_fragments(stream, offset, size)
    groups = group_fragments(stream, table, fragments, frames=first.file_frames)
    for frame in frames:
        packed = sum(fragment.length for fragment in groups[frame.number])
        unpacked = frame.rows * frame.columns * frame.encoding.bits_allocated // 8
        check_packing(frame.file, packed=packed, unpacked=unpacked)
        pieces = []
        for fragment in groups[frame.number]:
            stream.seek(fragment.offset)
            pieces.append(stream.read(fragment.length))
        values, precision = decode(b"".join(pieces), frame.encoding, frame.rows, frame.columns)
        yield _stored_bits(values, frame.encoding, precision)


def _stored_bits(values: AnyArray, encoding: Encoding, precision: int) -> AnyArray:
    """The stored bits of container values (PS3.5 8.1.1): what other bits hold, such as overlays, is dropped.

    Args:
        values: unsigned, native byte order.
        encoding: how they are stored.
        precision: how many low bits of the container count.
    """
    stored = min(precision, encoding.bits_stored)
    spare = values.dtype.itemsize * 8
    shift = encoding.high_bit + 1 - stored if precision > encoding.bits_stored else 0
    if encoding.is_signed:
        if stored < encoding.bits_stored and (values >> (stored - 1)).any():
            raise ValueError(
                f"its compressed samples have {stored} bits, its header speaks of {encoding.bits_stored} with a sign"
            )
        signed = (values << (spare - stored - shift)).view(f"i{values.dtype.itemsize}")
        return signed >> (spare - stored)
    if stored == spare:
        return values
    return (values >> shift) & values.dtype.type((1 << stored) - 1)
