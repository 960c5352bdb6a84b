"""Whether a JPEG scan holds exactly the samples it announces (ITU-T T.81).

The usual JPEG decoders fill up what is missing and say nothing of it. So the lengths of the Huffman codes are walked
here, without decoding: a scan that was cut, or that lost its beat by damage, does not end where its samples do. Damage
that keeps the beat (a bit inside a value) cannot be found by anyone: the format has no checksum.
"""

import re

import numpy as np
import numpy.typing as npt

from volseg.io.dicom.codestream import Codestream, segments

LOSSLESS = 0xC3
_TABLES, _RESTART, _SCAN = 0xC4, 0xDD, 0xDA
_RESTART_MARKER = re.compile(rb"\xff[\xd0-\xd7]")
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_WINDOW_BITS = 16
_BLOCK = 64
_NO_CODE = 255
"""Length given to bits that are no code: the walk leaves the scan there."""
_SPARE_BYTES = 2
"""Encoders may flush so many bytes more than they need."""

Steps = tuple[bytes, bytes]
"""For each 16 bits: length of the code and of the value after it (255 for no code), and the symbol."""


def check_scan(data: bytes, head: Codestream) -> None:
    """Raise ValueError unless the one scan of a single-component Huffman JPEG is whole.

    Args:
        data: the codestream.
        head: what it says of itself.
    """
    tables: dict[int, Steps] = {}
    interval, dc_table, ac_table, start = 0, 0, 0, 0
    for marker, first, end in segments(data):
        if marker == _TABLES:
            tables |= _tables(data[first:end], is_lossless=head.kind == LOSSLESS)
        elif marker == _RESTART:
            interval = int.from_bytes(data[first : first + 2], "big")
        elif marker == _SCAN:
            dc_table, ac_table, start = data[first + 2] >> 4, data[first + 2] & 15, end
    stop = _SCAN_END.search(data, start)
    parts = _RESTART_MARKER.split(data[start : stop.start() if stop else len(data)])
    is_lossless = head.kind == LOSSLESS
    count = head.rows * head.columns if is_lossless else -(-head.rows // 8) * -(-head.columns // 8)
    wanted = [dc_table] if is_lossless else [dc_table, ac_table | 16]
    if any(table not in tables for table in wanted):
        raise ValueError("a compressed frame lacks a table of codes")
    if len(parts) != (-(-count // interval) if interval else 1):
        raise ValueError("a compressed frame lacks part of its data")
    for number, part in enumerate(parts):
        samples = min(interval, count - number * interval) if interval else count
        plain = part.replace(b"\xff\0", b"\xff")
        bits = _windows(plain)
        if is_lossless:
            used = _walk_lossless(bits, tables[dc_table], samples)
        else:
            used = _walk_blocks(bits, tables[dc_table], tables[ac_table | 16], samples)
        if not _is_padding(plain, used):
            raise ValueError(
                f"a compressed frame holds {len(plain) * 8:,} bits where its samples take {used:,}"
            )


def _is_padding(plain: bytes, used: int) -> bool:
    """Whether nothing but filling bits, all of one kind, follows the used bits."""
    spare = len(plain) * 8 - used
    if not 0 <= spare < 8 * (1 + _SPARE_BYTES):
        return False
    rest = int.from_bytes(plain[used // 8 :], "big") & ((1 << spare) - 1)
    return rest in (0, (1 << spare) - 1)


def _windows(plain: bytes) -> npt.NDArray[np.uint16]:
    """The 16 bits from each bit on; ones follow the end (T.81, F.1.2.3)."""
    padded = np.frombuffer(plain + b"\xff" * 3, np.uint8).astype(np.uint32)
    triples = (padded[:-2] << 16) | (padded[1:-1] << 8) | padded[2:]
    windows = np.empty((len(triples), 8), np.uint16)
    for shift in range(8):
        windows[:, shift] = triples >> (8 - shift)
    return windows.reshape(-1)


def _walk_lossless(bits: npt.NDArray[np.uint16], steps: Steps, samples: int) -> int:
    """Bits that so many samples take (T.81, H.1.2.2)."""
    lengths = np.frombuffer(steps[0], np.uint8)[bits].tobytes()
    position = 0
    try:
        for _ in range(samples):
            position += lengths[position]
    except IndexError:
        raise ValueError("a compressed frame ends before its last row") from None
    return position


def _walk_blocks(bits: npt.NDArray[np.uint16], dc_steps: Steps, ac_steps: Steps, blocks: int) -> int:
    """Bits that so many blocks of 8 x 8 coefficients take (T.81, F.1.2)."""
    dc_lengths = np.frombuffer(dc_steps[0], np.uint8)[bits].tobytes()
    ac_lengths = np.frombuffer(ac_steps[0], np.uint8)[bits].tobytes()
    symbols = np.frombuffer(ac_steps[1], np.uint8)[bits].tobytes()
    position = 0
    try:
        for _ in range(blocks):
            position += dc_lengths[position]
            coefficient = 1
            while coefficient < _BLOCK:
                symbol = symbols[position]
                position += ac_lengths[position]
                # A symbol of size 0 ends the block, but for the one that stands for sixteen zeros.
                coefficient += (symbol >> 4) + 1 if symbol & 15 or symbol == 0xF0 else _BLOCK
    except IndexError:
        raise ValueError("a compressed frame ends before its last row") from None
    return position


def _tables(content: bytes, *, is_lossless: bool) -> dict[int, Steps]:
    """The Huffman tables of a segment (T.81, B.2.4.2 and C.2) by class and number."""
    tables: dict[int, Steps] = {}
    position = 0
    while position + 17 <= len(content):
        name, counts = content[position], content[position + 1 : position + 17]
        symbols = content[position + 17 : position + 17 + sum(counts)]
        tables[name] = _steps(counts, symbols, is_lossless=is_lossless)
        position += 17 + sum(counts)
    return tables


def _steps(counts: bytes, symbols: bytes, *, is_lossless: bool) -> Steps:
    lengths = np.full(1 << _WINDOW_BITS, _NO_CODE, np.uint8)
    values = np.zeros(1 << _WINDOW_BITS, np.uint8)
    first, number = 0, 0
    for length, count in enumerate(counts, start=1):
        for symbol in symbols[number : number + count]:
            end = first + (1 << (_WINDOW_BITS - length))
            # A lossless difference of 32768 has no bits of its own (T.81, H.1.2.2).
            extra = 0 if is_lossless and symbol == 16 else symbol & (31 if is_lossless else 15)
            lengths[first:end] = length + extra
            values[first:end] = symbol
            first = end
        number += count
    return lengths.tobytes(), values.tobytes()
