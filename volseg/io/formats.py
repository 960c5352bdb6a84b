"""Which suffix is which format, and which module reads and writes it."""

import importlib
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from volseg.volume import Volume

_MODULES = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".hdr": "nifti",
    ".img": "nifti",
    ".mgh": "mgh",
    ".mgz": "mgh",
    ".nrrd": "itk",
    ".nhdr": "itk",
    ".mha": "itk",
    ".mhd": "itk",
}
_PARTNERS = {".hdr": ".img", ".img": ".hdr", ".nhdr": ".raw", ".mhd": ".raw"}

KNOWN_SUFFIXES = tuple(_MODULES)
"""Every image suffix volseg reads and writes."""


class Format(Protocol):
    """What a format's module offers."""

    DTYPES: tuple[np.dtype[Any], ...]
    """The voxel types its files can hold."""

    def read(self, path: Path) -> Volume:
        """The volume [C, I, J, K] of an existing file, with its origin filled in."""
        ...

    def write(self, volume: Volume, path: Path, dtype: np.dtype[Any]) -> None:
        """Write the volume with voxels of one of DTYPES; path has one of the format's suffixes."""
        ...


def suffix_of(path: str | Path) -> str:
    """The image suffix of a path in lower case, such as ".nii.gz"; empty where there is none."""
    name = Path(path).name.lower()
    return max((suffix for suffix in KNOWN_SUFFIXES if name.endswith(suffix)), key=len, default="")


def is_image(path: str | Path) -> bool:
    """Whether the name ends like an image volseg can read (the file itself is not looked at)."""
    return bool(suffix_of(path))


def stem(path: str | Path) -> str:
    """The file name without its image suffix: "scan" for "folder/scan.nii.gz"; as Path.stem for other files."""
    suffix = suffix_of(path)
    return Path(path).name[: -len(suffix)] if suffix else Path(path).stem


def format_of(path: Path) -> Format | None:
    """The module that reads and writes a path, by its suffix; None for an unknown suffix."""
    module = _MODULES.get(suffix_of(path))
    return None if module is None else cast(Format, importlib.import_module(f"volseg.io.{module}"))


def is_dicom_source(path: str | Path) -> bool:
    """Whether a path is to be read as DICOM: a folder, a zip, a DICOMDIR, or a file that is DICOM by its content.

    An image suffix decides without a look at the file, but for `.img` without its `.hdr`, which scanners use too.
    """
    path = Path(path)
    if path.is_dir():
        return True
    header = partner_of(path)
    lonely_img = suffix_of(path) == ".img" and header is not None and not header.exists()
    if not path.is_file() or (is_image(path) and not lonely_img):
        return False
    if path.suffix.lower() == ".zip" or path.name.upper() == "DICOMDIR":
        return True
    return bool(importlib.import_module("volseg.io.dicom.files").is_dicom(path))


def partner_of(path: Path) -> Path | None:
    """The second file of a format that keeps header and voxels apart: scan.img for scan.hdr; None for others."""
    partner = _PARTNERS.get(suffix_of(path))
    if partner is None:
        return None
    return path.with_suffix(partner.upper() if path.suffix.isupper() else partner)
