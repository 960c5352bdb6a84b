"""All or nothing: a file appears under its name only when it is complete."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volseg.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; when the block ends well, what was written moves to where it belongs.

    The given path lies in a hidden folder beside the target and has the target's name, so that writers which choose
    by suffix, or which write a second file beside a header, need no special care. Files are flushed to the disk, then
    renamed, the target itself last. After an error or an interrupt nothing is left behind and an older file of that
    name is untouched.

    Raises:
        OutputError: no permission, no space, no such folder, or any other refusal of the file system.
    """
    hidden: Path | None = None
    try:
        hidden = Path(tempfile.mkdtemp(prefix=".volseg-", dir=path.parent))
        yield hidden / path.name
        written = sorted(hidden.iterdir(), key=lambda file: file.name == path.name)
        for file in written:
            with file.open("r+b") as opened:
                os.fsync(opened.fileno())
        for file in written:
            file.replace(path.parent / file.name)
    except OSError as error:
        raise OutputError(_reason(path, error)) from error
    finally:
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)


def _reason(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{path} cannot be written: no space left in {path.parent}. Free some, or write elsewhere."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} cannot be written: no permission to write in {path.parent}. Choose another folder."
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not path.parent.is_dir():
        return f"{path} cannot be written: there is no folder {path.parent}. Create it first."
    return f"{path} cannot be written: {error.strerror or error}."
