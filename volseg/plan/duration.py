"""Durations as people write them."""

import re

from volseg.errors import ConfigError

_DURATION = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s)?\s*"
)


def parse_duration(text: str) -> float:
    """Seconds of a duration such as "2h", "90m", "1h30m" or "45s".

    Raises:
        ConfigError: not a duration, or zero.
    """
    match = _DURATION.fullmatch(text.lower())
    parts = [float(part or 0) for part in match.groups()] if match else [0.0]
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if seconds <= 0:
        raise ConfigError(f"'{text}' is no duration; write it like 2h, 90m, 1h30m or 45s.")
    return seconds


def readable_duration(seconds: float) -> str:
    """A duration for people, such as "2.5 h", "12 min" or "0.8 s"."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.2g} s"
