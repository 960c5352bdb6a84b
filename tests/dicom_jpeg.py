"""A small writer of 12-bit JPEG (extended sequential DCT, process 4 of ITU-T T.81), which no Python library writes.

Quantised by 1 and with Huffman codes of one length each: correct, near lossless, not small.
"""

import struct

import numpy as np
from scipy.fft import dctn

_DC_BITS, _AC_BITS = 5, 9
_ZIGZAG = sorted(
    ((row, column) for row in range(8) for column in range(8)),
    key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]),
)


def jpeg_12bit(plane: np.ndarray) -> bytes:
    """The codestream of a plane [rows, columns] of values from 0 to 4095."""
    rows, columns = plane.shape
    padded = np.pad(plane.astype(np.float64) - 2048, [(0, -rows % 8), (0, -columns % 8)], mode="edge")
    bits: list[str] = []
    previous = 0
    for row in range(0, padded.shape[0], 8):
        for column in range(0, padded.shape[1], 8):
            block = np.rint(dctn(padded[row : row + 8, column : column + 8], norm="ortho")).astype(int)
            zigzag = [int(block[at]) for at in _ZIGZAG]
            bits.append(_coded(zigzag[0] - previous, 0, _DC_BITS))
            previous = zigzag[0]
            bits.extend(_ac_codes(zigzag[1:]))
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    scan = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHHB3B", 12, rows, columns, 1, 1, 0x11, 0)
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xDB, b"\0" + b"\1" * 64),
            _segment(0xC1, frame),
            _segment(0xC4, _fixed_length_table(0x00, _DC_BITS, 16)),
            _segment(0xC4, _fixed_length_table(0x10, _AC_BITS, 0xFF)),
            _segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0])),
            scan + b"\xff\xd9",
        ]
    )


def _ac_codes(values: list[int]) -> list[str]:
    codes = []
    last = max((at for at, value in enumerate(values) if value), default=-1)
    run = 0
    for value in values[: last + 1]:
        if value == 0:
            run += 1
            continue
        codes.extend([f"{0xF0:0{_AC_BITS}b}"] * (run // 16))
        codes.append(_coded(value, run % 16, _AC_BITS))
        run = 0
    if last < 62:
        codes.append(f"{0:0{_AC_BITS}b}")  # end of block
    return codes


def _coded(value: int, run: int, code_bits: int) -> str:
    """Huffman code of (run, size), then the value's own bits (T.81, F.1.2)."""
    size = abs(value).bit_length()
    own = value if value > 0 else value + (1 << size) - 1
    return f"{run << 4 | size:0{code_bits}b}" + (f"{own:0{size}b}" if size else "")


def _fixed_length_table(kind: int, length: int, symbols: int) -> bytes:
    """A Huffman table whose symbol n has the code n in `length` bits."""
    counts = bytearray(16)
    counts[length - 1] = symbols
    return bytes([kind]) + bytes(counts) + bytes(range(symbols))


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
