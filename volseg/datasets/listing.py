"""The image files of a downloaded folder, and what is wrong with them, all at once."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from volseg.errors import InputError, counted, few
from volseg.io.formats import suffix_of

NIFTI = (".nii", ".nii.gz")

_MOST_PROBLEMS = 12
_ARCHIVE_LEFTOVERS = "__MACOSX"


def find_images(root: Path, suffixes: Sequence[str] = NIFTI) -> list[Path]:
    """The files below a folder, at any depth, whose names end like images; ordered by path.

    Hidden files and folders are passed over, and with them the "._" files and __MACOSX folders that macOS archives
    leave. Links are followed, and no folder is entered twice. A link that leads nowhere is listed, so that it is missed.

    Args:
        root: a folder; anything else holds no files.
        suffixes: in lower case, such as ".nii.gz"; names may have them in upper case.

    Raises:
        InputError: a folder may not be read.
    """
    return sorted(path for path in _walk(root) if suffix_of(path) in suffixes)


def refuse(source: Path, problems: Sequence[str], advice: str) -> None:
    """Nothing, where there is no problem.

    Raises:
        InputError: all problems in one paragraph (the first dozen in words), and what to do.
    """
    if problems:
        told = few(problems, _MOST_PROBLEMS)
        raise InputError(f"{source}: {counted(len(problems), 'problem')}: {told}. {advice}")


def left_out(names: Iterable[str], why: str) -> tuple[str, ...]:
    """A note on what of a folder is no case, such as "2 volumes without ...: a, b"; () where there is nothing."""
    listed = sorted(names)
    return (f"{len(listed)} {why} left out: {few(listed, 5)}",) if listed else ()


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden file or of what macOS leaves in archives."""
    return name.startswith(".") or name == _ARCHIVE_LEFTOVERS


def _walk(root: Path) -> Iterator[Path]:
    visited: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_refuse_folder):
        found = Path(folder).stat()
        if (found.st_dev, found.st_ino) in visited:
            folders.clear()
            continue
        visited.add((found.st_dev, found.st_ino))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(folder, name) for name in files if not is_hidden(name))


def _refuse_folder(error: OSError) -> None:
    if isinstance(
        error, FileNotFoundError | NotADirectoryError
    ):  # the root is a file, or a folder just went away
        return
    raise InputError(f"{error.filename}: the folder cannot be read ({error.strerror}).") from error
