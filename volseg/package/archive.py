"""The outside of a model package: a zip whose every member is named here, stored as it is, and checked.

Nothing is ever extracted to disk, and nothing is compressed: what a package unpacks to is what the file holds, so a small
file cannot claim a large memory.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from volseg.errors import PackageError
from volseg.io.atomic import replacing

WEIGHTS = "weights.safetensors"
INFO = "model.json"
CARD = "README.md"
GOLDEN = "golden.safetensors"
TEMPLATE = "template.safetensors"
CHECKSUMS = "SHA256SUMS"

_REQUIRED = (INFO, CARD, WEIGHTS)
_MOST_BYTES = {
    INFO: 1 << 20,
    CARD: 1 << 20,
    CHECKSUMS: 1 << 16,
    GOLDEN: 1 << 26,
    TEMPLATE: 1 << 24,
    WEIGHTS: 1 << 33,
}
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)


def read_members(path: Path) -> dict[str, bytes]:
    """The checked members of a package, by name, without SHA256SUMS.

    Raises:
        PackageError: no such file, no zip, or a member that is unknown, repeated, missing, compressed, encrypted, too large
            or not what its checksum says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries)
            members = {entry.filename: archive.read(entry) for entry in entries}
    except FileNotFoundError:
        raise PackageError(
            f"{path}: there is no such file; expected a model package (NAME.volseg)."
        ) from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise PackageError(f"{path} is not a readable model package ({error}); get the file again.") from None
    _check_sums(path, members)
    return members


def write_members(path: Path, members: Mapping[str, bytes]) -> None:
    """Write a package; the same members give the same bytes. A file appears only when it is complete.

    Raises:
        OutputError: the file cannot be written.
    """
    sums = "".join(f"{_sha256(data)}  {name}\n" for name, data in members.items())
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for member, data in {**members, CHECKSUMS: sums.encode()}.items():
            entry = zipfile.ZipInfo(member, _FIXED_TIME)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    unknown = [name for name in names if name not in _MOST_BYTES]
    if unknown:
        raise PackageError(
            f"{path}: unknown member {unknown[0]!r}; a model package holds only {', '.join(_MOST_BYTES)}."
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise PackageError(
            f"{path}: the member {repeated[0]} is there more than once; get the package again."
        )
    missing = [name for name in (*_REQUIRED, CHECKSUMS) if name not in names]
    if missing:
        raise PackageError(f"{path}: {', '.join(missing)} is missing; get the package again.")
    for entry in entries:
        _check_entry(path, entry)


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    if (
        entry.flag_bits & 1
        or entry.compress_type != zipfile.ZIP_STORED
        or entry.file_size != entry.compress_size
    ):
        raise PackageError(
            f"{path}: {entry.filename} is compressed or encrypted; the members of a model package are stored as "
            "they are. Write the package with volseg."
        )
    most = _MOST_BYTES[entry.filename]
    if entry.file_size > most:
        raise PackageError(
            f"{path}: {entry.filename} says it has {entry.file_size} bytes; at most {most} are allowed there."
        )


def _check_sums(path: Path, members: dict[str, bytes]) -> None:
    lines = members.pop(CHECKSUMS).decode("utf-8", errors="replace").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if len(lines) != len(members) or set(expected) != set(members):
        raise PackageError(
            f"{path}: {CHECKSUMS} does not list exactly the members of the package; get it again."
        )
    for name, data in members.items():
        if _sha256(data) != expected[name]:
            raise PackageError(
                f"{path}: {name} is not what its SHA-256 says; the file is damaged, get it again."
            )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
