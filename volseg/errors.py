"""What can go wrong, as one tree.

VolsegError               anything the user can act on; the command line prints it as one paragraph, exit code 2
├── InputError            a file or value given by the user cannot be used
│   ├── FileFormatError   not a readable image: wrong format, truncated, size and header disagree
│   ├── GeometryError     the position of the voxels in the patient is missing, impossible or contradictory
│   ├── SeriesError       a DICOM series cannot become one volume; it carries a reason code
│   └── IntensityError    the voxel values cannot be used: NaN, infinity, RGB, complex
├── OutputError           a result cannot be written
├── ConfigError           a configuration file or option is wrong
├── PackageError          a model package is damaged, unknown or of another format
├── DeviceError           the requested device is not there or too small
└── TrainingError         a training cannot go on: its loss is no number any more

A message names the file, what was found, what was expected and what to do.
"""

from collections.abc import Sequence


class VolsegError(Exception):
    """Base of every error a user can act on."""


class InputError(VolsegError):
    """A file or value given by the user cannot be used."""


class FileFormatError(InputError):
    """The file is not a readable image of a known format."""


class GeometryError(InputError):
    """The voxel-to-patient mapping is missing, impossible or contradictory."""


class SeriesError(InputError):
    """A DICOM series cannot become one volume; `reason` is a code for tables, such as "missing-slices"."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class IntensityError(InputError):
    """The voxel values cannot be used as intensities or labels."""


class OutputError(VolsegError):
    """A result cannot be written."""


class ConfigError(VolsegError):
    """A configuration file or option is wrong."""


class PackageError(VolsegError):
    """A model package is damaged, unknown or of another format."""


class DeviceError(VolsegError):
    """The requested device is not available."""


class TrainingError(VolsegError):
    """A training cannot go on."""


def few(names: Sequence[str], most: int) -> str:
    """The first names of a list for a message, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(count: int, noun: str) -> str:
    """A number and its noun for a message: "1 slice", "3 slices"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
