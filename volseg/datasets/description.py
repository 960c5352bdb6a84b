"""The JSON file that describes a collection: its labels in either direction, its channels, what they were taken with."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from volseg.errors import InputError
from volseg.labels import Label, LabelTable, default_colour

_MR_WORDS = re.compile(
    r"mri?|t1|t2|t1n|t1c|t1w|t2w|t2f|t1ce|t1gd|t1kb|flair|adc|dwi|swi|pdw?|stir|bssfp|cine|lge|dce"
)
_CT_WORDS = re.compile(r"ct|cbct|ncct|cect|cta")


def read_description(path: Path, advice: str) -> dict[str, Any]:
    """The table that a JSON file holds.

    Args:
        path: the file.
        advice: what to do where it is not there, as a sentence.

    Raises:
        InputError: it is not there, may not be read, is no JSON, or holds no table.
    """
    description = read_json(path, advice)
    if not isinstance(description, dict):
        raise InputError(
            f"{path}: holds a {type(description).__name__}; expected a table with training and labels."
        )
    return description


def read_json(path: Path, advice: str) -> Any:
    """Whatever a JSON file holds; raises as read_description."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found. {advice}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{path}: is no valid JSON ({error}). Take the file as it comes with the collection."
        ) from error


def label_entry(path: Path, key: str, value: Any) -> tuple[int, str]:
    """From `"1": "Anterior"`, `"Anterior": 1` or `"Anterior": "1"` to (1, "Anterior").

    Raises:
        InputError: neither side is a whole number, or the other is no name.
    """
    number, name = (key, value) if key.isdecimal() else (str(value), key)
    if not number.isdecimal() or not isinstance(name, str) or isinstance(value, bool):
        raise InputError(
            f'{path}: "labels" holds {key!r}: {value!r}; expected a whole number and a name, such as "1": "Anterior".'
        )
    return int(number), name


def label_table(path: Path, entries: Iterable[tuple[int, str]]) -> LabelTable:
    """Labels with default colours from (value, name); the background's is left out.

    Raises:
        InputError: one value has two names, or there is no label.
        ConfigError: two labels share a name.
    """
    listed = list(entries)
    names = dict(listed)
    if len(names) < len(listed):
        raise InputError(f'{path}: "labels" gives one number to two names: {sorted(listed)}.')
    values = sorted(value for value in names if value != 0)
    if not values:
        raise InputError(f'{path}: "labels" names no label but the background.')
    return LabelTable(tuple(Label(value, names[value], default_colour(n)) for n, value in enumerate(values)))


def numbered_channels(path: Path, key: str, entries: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of `{"0": "FLAIR", "1": "T1w"}` by their numbers.

    Raises:
        InputError: the numbers have gaps.
    """
    if sorted(entries) != sorted(str(n) for n in range(len(entries))):
        raise InputError(
            f'{path}: "{key}" has the keys {", ".join(entries)}; expected the channel numbers 0, 1, ... without a gap.'
        )
    return tuple(str(entries[str(n)]) for n in range(len(entries)))


def modality_of(channel_names: Iterable[str]) -> str:
    """The DICOM modality that all channels are named after: "CT", "MR", or "" where their names do not tell."""
    words = [set(re.split(r"[^a-z0-9]+", name.lower())) for name in channel_names]
    for modality, known in (("CT", _CT_WORDS), ("MR", _MR_WORDS)):
        if words and all(any(known.fullmatch(word) for word in each) for each in words):
            return modality
    return ""
