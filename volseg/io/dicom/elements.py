"""Data elements of a DICOM file up to its pixels (PS3.5 section 7), read leniently and without warnings.

Only wanted elements are kept, as the bytes they were stored in; numbers and text are made of them when asked for.
What cannot be a number is NaN: the caller decides what a missing value means.
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR

UNDEFINED_LENGTH = 0xFFFFFFFF
DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_DEPTH = 32
"""Sequences nested deeper than this are damage: no object of the standard needs more than ten."""

_PIXEL_TAGS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_SHORT = frozenset(re.findall("..", "AEASATCSDADSDTFDFLISLOLTPNSHSLSSSTTMUIULUS"))
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FD": "d", "FL": "f", "OF": "f", "OD": "d"}
_BULK = frozenset(("OB", "OW"))
_VAGUE = frozenset(("", "UN", "OB", "OW"))
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WINDOW_BYTES = 1 << 15


class Layout(NamedTuple):
    """Where the data set of a file starts and how its elements are written."""

    start: int
    is_explicit: bool
    is_little: bool
    transfer_syntax: str
    """Empty where the file does not say."""


class PixelElement(NamedTuple):
    """Where the pixels are: the element that holds them and its value."""

    tag: int
    offset: int
    """First byte of the value in the file."""
    length: int | None
    """None for an undefined length (encapsulated pixels)."""


@dataclass(frozen=True, slots=True)
class Elements:
    """The wanted elements of a data set or of a sequence item, by keyword."""

    values: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Value representation and stored bytes."""
    sequences: "dict[str, list[Elements]]" = field(default_factory=dict)
    is_little: bool = True

    def raw(self, keyword: str) -> bytes:
        """The stored bytes without padding; empty where absent."""
        return self.values.get(keyword, ("", b""))[1].strip(b" \0")

    def text(self, keyword: str, character_set: str = "") -> str:
        """The value as printable text; empty where absent."""
        return _printable(self.raw(keyword), character_set)

    def texts(self, keyword: str) -> tuple[str, ...]:
        """The values of a list, in upper case."""
        text = self.text(keyword)
        return tuple(part.strip().upper() for part in text.split("\\")) if text else ()

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """The values as floats, NaN where one is none; empty where absent or empty."""
        vr, raw = self.values.get(keyword, ("", b""))
        return _numbers(vr, raw, self.is_little) if raw else ()

    def vector(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Exactly so many finite numbers, or None."""
        numbers = self.numbers(keyword)
        return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None

    def number(self, keyword: str) -> float | None:
        """The first value, if it is a finite number."""
        first = self.numbers(keyword)[:1]
        return first[0] if first and math.isfinite(first[0]) else None

    def whole(self, keyword: str) -> int | None:
        """The first value, if it is a whole number."""
        number = self.number(keyword)
        return int(number) if number is not None and number == int(number) else None

    def item(self, keyword: str) -> "Elements | None":
        """The first item of a sequence."""
        items = self.sequences.get(keyword)
        return items[0] if items else None


def is_plausible(start: bytes) -> bool:
    """Whether a file that starts like this (its first 400 bytes or all of it) can be DICOM, preamble or not."""
    if start[128:132] == b"DICM":
        return True
    is_explicit, is_little = _sniff(start[:8])
    position, before = 0, -1
    for _ in range(2):
        if len(start) < position + 8:
            return False
        tag, _, length, skip = _element(start[position:].ljust(12, b"\0"), 0, is_explicit, is_little)
        if tag >> 16 not in (2, 8) or tag <= before or length > 256:
            return False
        position, before = position + skip + length, tag
    return True


class Scanner:
    """Reads elements through a window that moves over a stream."""

    def __init__(self, stream: BinaryIO, size: int, wanted: Mapping[int, str]) -> None:
        """A stream of so many bytes, and the keywords of the tags to keep."""
        self._stream, self._size, self._wanted = stream, size, wanted
        self._base, self._data = 0, b""

    def layout(self) -> Layout | None:
        """Where the data set starts; None where this is no DICOM file."""
        start = self._peek(0, 400)
        if not is_plausible(start):
            return None
        position, transfer_syntax = (132 if start[128:132] == b"DICM" else 0), ""
        while (head := self._peek(position, 12))[:2] == b"\2\0" and len(head) >= 8:
            tag, _, length, skip = _element(head.ljust(12, b"\0"), 0, _sniff(head)[0], True)
            if tag == 0x00020010:
                transfer_syntax = _printable(self._peek(position + skip, length), "")
            position += skip + length
        is_explicit, is_little = _sniff(self._peek(position, 8))
        return Layout(position, is_explicit or transfer_syntax == DEFLATED, is_little, transfer_syntax)

    def scan(self, layout: Layout, elements: Elements) -> PixelElement | None:
        """Fill in the wanted elements before the pixels; returns where the pixels are, None where there are none.

        Raises:
            EOFError: the file ends inside an element.
            ValueError: the elements are damaged.
        """
        position = layout.start
        while position + 8 <= self._size:
            tag, vr, length, skip = self._head(position, layout)
            if tag in _PIXEL_TAGS:
                return PixelElement(tag, position + skip, None if length == UNDEFINED_LENGTH else length)
            position = self._keep(elements, (tag, vr, length), position + skip, layout, 0)
        if position < self._size:
            raise EOFError
        return None

    def _keep(
        self, elements: Elements, head: tuple[int, str, int], position: int, layout: Layout, depth: int
    ) -> int:
        """Keep an element if it is wanted; returns where the next one starts."""
        tag, vr, length = head
        keyword = self._wanted.get(tag)
        if length == UNDEFINED_LENGTH or (keyword and "SQ" in (vr, _dictionary_vr(tag))):
            # An unknown value of undefined length is written as implicit (PS3.5 section 6.2.2).
            inside = layout._replace(is_explicit=layout.is_explicit and vr != "UN")
            # Encapsulated pixels of an icon or of a private picture are items without elements (PS3.5 A.4).
            is_packed = vr in _BULK and not keyword
            items, end = self._items(position, length, inside, depth + 1, is_packed=is_packed)
            if keyword:
                elements.sequences[keyword] = items
            return end
        if position + length > self._size:
            raise EOFError
        if keyword:
            known = _dictionary_vr(tag) if vr in _VAGUE else vr
            elements.values[keyword] = (known, self._peek(position, length))
        return position + length

    def _items(
        self, position: int, length: int, layout: Layout, depth: int, *, is_packed: bool
    ) -> tuple[list[Elements], int]:
        if depth > MAX_DEPTH:
            raise ValueError("sequences nested without end")
        end = self._size if length == UNDEFINED_LENGTH else position + length
        if end > self._size:
            raise EOFError
        items: list[Elements] = []
        while position + 8 <= end:
            tag, _, item_length, skip = self._head(position, layout._replace(is_explicit=False))
            position += skip
            if tag == _SEQUENCE_END:
                return items, position
            if tag != _ITEM:
                raise ValueError(f"a sequence holds ({tag >> 16:04X},{tag & 0xFFFF:04X}) instead of an item")
            if is_packed:
                position += item_length
                continue
            item, position = self._item(position, item_length, layout, depth)
            items.append(item)
        if length == UNDEFINED_LENGTH:
            raise EOFError
        return items, end

    def _item(self, position: int, length: int, layout: Layout, depth: int) -> tuple[Elements, int]:
        end = self._size if length == UNDEFINED_LENGTH else position + length
        if end > self._size:
            raise EOFError
        elements = Elements(is_little=layout.is_little)
        while position + 8 <= end:
            tag, vr, item_length, skip = self._head(position, layout)
            if tag == _ITEM_END:
                return elements, position + skip
            position = self._keep(elements, (tag, vr, item_length), position + skip, layout, depth)
        if length == UNDEFINED_LENGTH:
            raise EOFError
        return elements, end

    def _head(self, position: int, layout: Layout) -> tuple[int, str, int, int]:
        start = position - self._base
        if start < 0 or start + 12 > len(self._data):
            self._peek(position, 12)
            start = position - self._base
        if len(self._data) < start + 12:
            return _element(
                self._peek(position, 12).ljust(12, b"\0"), 0, layout.is_explicit, layout.is_little
            )
        return _element(self._data, start, layout.is_explicit, layout.is_little)

    def _peek(self, position: int, count: int) -> bytes:
        """The bytes at a position, fewer where the stream ends."""
        start = position - self._base
        if start < 0 or start + count > len(self._data):
            self._stream.seek(position)
            count = min(count, max(0, self._size - position))
            self._data = self._stream.read(max(count, _WINDOW_BYTES))
            self._base, start = position, 0
        return self._data[start : start + count]


_HEADS = {True: struct.Struct("<HH2sHI"), False: struct.Struct(">HH2sHI")}
_IMPLICIT_HEADS = {True: struct.Struct("<HHI"), False: struct.Struct(">HHI")}


def _element(data: bytes, start: int, is_explicit: bool, is_little: bool) -> tuple[int, str, int, int]:
    """Tag, value representation, length and size of an element's head; 12 bytes of data are there."""
    if is_explicit:
        group, element, letters, short_length, long_length = _HEADS[is_little].unpack_from(data, start)
        vr = letters.decode("latin-1")
        if vr in _LONG:
            return group << 16 | element, vr, long_length, 12
        if vr in _SHORT:
            return group << 16 | element, vr, short_length, 8
    # Items and delimiters carry no letters, and some writers leave them out for an element of their own.
    group, element, length = _IMPLICIT_HEADS[is_little].unpack_from(data, start)
    return group << 16 | element, "", length, 8


def _sniff(head: bytes) -> tuple[bool, bool]:
    """Whether an element's head is explicit and little endian; what is written wins over what a file claims."""
    vr = head[4:6].decode("latin-1")
    is_explicit = vr in _LONG or vr in _SHORT
    return is_explicit, not (is_explicit and head[0] == 0 and head[1] != 0)


@lru_cache(maxsize=4096)
def _numbers(vr: str, raw: bytes, is_little: bool) -> tuple[float, ...]:
    code = _BINARY.get(vr)
    if code is not None:
        count = len(raw) // struct.calcsize(code)
        return tuple(map(float, struct.unpack_from(f"{'<' if is_little else '>'}{count}{code}", raw)))
    parts = [part.strip() for part in raw.decode("latin-1").strip(" \0").split("\\")]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(map(_number, parts))


def _number(text: str) -> float:
    """A decimal string (PS3.5 section 6.2) of any length; some writers use their country's decimal comma."""
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    return float(text) if _DECIMAL.fullmatch(text) else math.nan


@lru_cache(maxsize=4096)
def _printable(raw: bytes, character_set: str) -> str:
    encoding = python_encoding.get(character_set.partition("\\")[0].strip(), "latin-1")
    text = raw.decode(encoding, errors="replace")
    return "".join(letter for letter in text if letter.isprintable()).strip()


@lru_cache(maxsize=1024)
def _dictionary_vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"
