"""The --device option, the same for every verb."""

from enum import StrEnum


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
