"""Listing the files of an export: folders, zips, DICOMDIRs; nothing hangs, nothing is forgotten."""

import os
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.dicom_files import SeriesSpec, write_dicomdir, write_series, zip_folder
from volseg.errors import FileFormatError, InputError
from volseg.io.dicom import files
from volseg.io.dicom.files import find_files, inflate, is_dicom, open_file, open_start, size_of
from volseg.io.dicom.frame import Dropped, Reason
from volseg.io.dicom.header import read_frames
from volseg.origin import FileRef

SPEC = SeriesSpec(shape=(6, 5, 3))


def names(source: Path) -> list[str]:
    root = source if source.is_dir() else source.parent
    return [file.member or str(file.path.relative_to(root)) for file in find_files(source)]


def test_walks_any_depth_without_minding_names(tmp_path: Path) -> None:
    for name in ("b/x/y/scan", "b/a.dcm", "a", ".hidden", "b/x/1.2.3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == [".hidden", "a", "b/a.dcm", "b/x/1.2.3", "b/x/y/scan"]


def test_lists_lazily(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}" / "f").touch()
    found = find_files(tmp_path)
    next(found)
    (tmp_path / "d2" / "late").touch()
    assert [file.path.name for file in found] == ["f", "f", "late"]


def test_a_symlink_loop_ends_and_a_broken_link_is_accounted_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path) == ["a/f", "gone"]
    dropped = read_frames(FileRef(tmp_path / "gone"))
    assert isinstance(dropped, Dropped)
    assert dropped.reason is Reason.UNREADABLE


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    dropped = read_frames(next(find_files(tmp_path)))
    assert isinstance(dropped, Dropped)
    assert "no regular file" in dropped.text
    assert not is_dicom(tmp_path / "pipe")


def test_a_folder_that_may_not_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "open").touch()
    real = os.scandir

    def scandir(folder: Path):
        if folder.name == "locked":
            raise PermissionError
        return real(folder)

    monkeypatch.setattr(files.os, "scandir", scandir)
    assert names(tmp_path) == ["locked", "open"]
    dropped = read_frames(FileRef(tmp_path / "locked"))
    assert isinstance(dropped, Dropped)
    assert dropped.reason is Reason.UNREADABLE


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        list(find_files(tmp_path / "none"))


def test_one_file_gives_itself(tmp_path: Path) -> None:
    written = write_series(tmp_path, SPEC)
    assert list(find_files(written.files[0])) == [FileRef(written.files[0])]


def test_zip_members_are_the_same_bytes(tmp_path: Path) -> None:
    written = write_series(tmp_path / "in", SPEC)
    archive = zip_folder(tmp_path / "in", tmp_path / "export.zip")
    members = list(find_files(archive))
    assert len(members) == 3
    for member in members:
        original = (tmp_path / "in" / member.member).read_bytes()
        assert size_of(member) == len(original)
        with open_file(member) as stream:
            stream.seek(len(original) // 2)
            assert stream.read() == original[len(original) // 2 :]
        with open_start(member) as stream:
            assert stream.read(200) == original[:200]
        (frame,) = read_frames(member)
        assert frame.file == member
    assert str(members[0]).startswith(f"{archive}:")
    assert written.files[0].exists()


def test_zip_leaves_out_folders_and_does_not_open_archives_inside(tmp_path: Path) -> None:
    inner = zip_folder(write_series(tmp_path / "in", SPEC).folder, tmp_path / "in" / "inner.zip")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.mkdir("folder")
        archive.write(inner, "folder/inner.zip")
        archive.writestr("empty", b"")
    assert names(tmp_path / "outer.zip") == ["empty", "folder/inner.zip"]
    for member in find_files(tmp_path / "outer.zip"):
        dropped = read_frames(member)
        assert isinstance(dropped, Dropped)
        assert dropped.reason is Reason.NOT_DICOM


def test_a_zip_is_known_by_its_bytes(tmp_path: Path) -> None:
    archive = zip_folder(write_series(tmp_path / "in", SPEC).folder, tmp_path / "export.bin")
    assert len(names(archive)) == 3


def test_an_absurd_member_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "HARMLESS_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1 << 22))
    (member,) = find_files(tmp_path / "bomb.zip")
    with pytest.raises(FileFormatError, match="would unpack to at least 4,194,304"), open_file(member):
        pass
    dropped = read_frames(member)
    assert isinstance(dropped, Dropped)
    assert dropped.reason is Reason.UNREADABLE


def test_an_absurd_deflated_data_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "HARMLESS_BYTES", 1 << 20)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(bytes(1 << 23)) + packer.flush()
    with pytest.raises(FileFormatError, match="would unpack"):
        inflate(FileRef(Path("bomb.dcm")), packed)


def test_a_damaged_member_is_an_error_not_other_bytes(tmp_path: Path) -> None:
    archive = zip_folder(write_series(tmp_path / "in", SPEC).folder, tmp_path / "export.zip")
    data = bytearray(archive.read_bytes())
    data[len(data) // 6] ^= 0x55
    archive.write_bytes(data)
    outcomes = [unpacked(member) for member in find_files(archive)]
    whole = [member for member in find_files(archive) if unpacked(member) == original_of(tmp_path, member)]
    assert len(whole) == 2
    (damaged,) = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert "archive is damaged" in damaged


def unpacked(member: FileRef) -> bytes | str:
    try:
        with open_file(member) as stream:
            return stream.read()
    except FileFormatError as error:
        return str(error)


def original_of(tmp_path: Path, member: FileRef) -> bytes:
    return (tmp_path / "in" / member.member).read_bytes()


def test_an_encrypted_member_is_explained(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("secret", b"x" * 500)
    data = (tmp_path / "a.zip").read_bytes()
    central = data.index(b"PK\1\2")
    (tmp_path / "a.zip").write_bytes(data[: central + 8] + b"\1" + data[central + 9 :])
    dropped = read_frames(FileRef(tmp_path / "a.zip", "secret"))
    assert isinstance(dropped, Dropped)
    assert "password" in dropped.text


def test_a_member_that_is_not_there_is_named(tmp_path: Path) -> None:
    archive = zip_folder(write_series(tmp_path / "in", SPEC).folder, tmp_path / "export.zip")
    with pytest.raises(InputError, match="no member 'nope'"), open_file(FileRef(archive, "nope")):
        pass


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(FileFormatError, match="archive is damaged"):
        list(find_files(tmp_path / "a.zip"))


def test_threads_share_an_archive(tmp_path: Path) -> None:
    archive = zip_folder(write_series(tmp_path / "in", SPEC).folder, tmp_path / "export.zip")
    members = list(find_files(archive)) * 20
    barrier = threading.Barrier(4)

    def read(part: int) -> list[bytes]:
        barrier.wait()
        found = []
        for member in members[part::4]:
            with open_file(member) as stream:
                found.append(stream.read())
        return found

    with ThreadPoolExecutor(4) as pool:
        for part, found in enumerate(pool.map(read, range(4))):
            for member, data in zip(members[part::4], found, strict=True):
                assert data == (tmp_path / "in" / member.member).read_bytes()


def test_dicomdir_gives_its_folder_and_misses_what_is_gone(tmp_path: Path) -> None:
    written = write_series(tmp_path / "in", SPEC)
    dicomdir = write_dicomdir(tmp_path / "disc", [written])
    (tmp_path / "disc" / "README").write_text("viewer")
    whole = list(find_files(dicomdir))
    assert len(whole) == 5  # three slices, the DICOMDIR and what lies beside it
    assert set(find_files(tmp_path / "disc")) == set(whole)
    slices = [file for file in whole if isinstance(read_frames(file), list)]
    assert len(slices) == 3
    directory = read_frames(FileRef(dicomdir))
    assert isinstance(directory, Dropped)
    assert directory.reason is Reason.NOT_IMAGE
    slices[1].path.unlink()
    again = list(find_files(dicomdir))
    assert set(again) == set(whole)
    dropped = read_frames(slices[1])
    assert isinstance(dropped, Dropped)
    assert dropped.reason is Reason.UNREADABLE
    assert str(slices[1].path) in dropped.text


@pytest.mark.parametrize("rename", [str.lower, lambda name: f"{name};1"])
def test_dicomdir_finds_names_in_other_spellings(tmp_path: Path, rename) -> None:
    dicomdir = write_dicomdir(tmp_path / "disc", [write_series(tmp_path / "in", SPEC)])
    paths = sorted((tmp_path / "disc").rglob("*"), key=lambda path: -len(path.parts))
    for path in paths:
        if path != dicomdir and (path.is_file() or rename is str.lower):
            path.rename(path.with_name(rename(path.name)))
    assert all(file.path.exists() for file in find_files(dicomdir))


@pytest.mark.parametrize(
    ("preamble", "syntax"),
    [
        (preamble, syntax)
        for preamble in ("full", "none", "bare")
        for syntax in ("implicit", "explicit", "big-endian", "deflated", "rle")
        if (preamble, syntax) != ("bare", "deflated")  # nothing says that such a file is deflated
    ],
)
def test_is_dicom_tells_dicom(tmp_path: Path, preamble: str, syntax: str) -> None:
    written = write_series(tmp_path, SeriesSpec(shape=(6, 5, 1), syntax=syntax, preamble=preamble))
    assert is_dicom(written.files[0])


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\x08\x00",
        b"\x5c\x01\x00\x00" + bytes(340) + b"n+1\0",
        b"NRRD0004\ntype: short\n",
        b"ObjectType = Image\nNDims = 3\n",
        b"\x1f\x8b\x08\x00" + bytes(50),
        b"PK\3\4" + bytes(200),
        b"\x08\x00\x00\x00" * 100,
        bytes(500),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"%PDF-1.4 " * 40,
    ],
)
def test_is_dicom_tells_other_files(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "f").write_bytes(start)
    assert not is_dicom(tmp_path / "f")
    dropped = read_frames(FileRef(tmp_path / "f"))
    assert isinstance(dropped, Dropped)
    assert dropped.reason is Reason.NOT_DICOM


def test_is_dicom_of_folders_and_nothing(tmp_path: Path) -> None:
    assert not is_dicom(tmp_path)
    assert not is_dicom(tmp_path / "none")


@pytest.mark.parametrize("letters", [b"DS", b"OB", b"SQ", b"UN"])
def test_the_shortest_files_are_no_dicom(tmp_path: Path, letters: bytes) -> None:
    for count in range(14):
        (tmp_path / "short").write_bytes((b"\x08\0\5\0" + letters + bytes(8))[:count])
        assert not is_dicom(tmp_path / "short")
        found = read_frames(FileRef(tmp_path / "short"))
        assert isinstance(found, Dropped)


def test_a_dicomdir_with_a_version_behind_its_name(tmp_path: Path) -> None:
    source = write_series(tmp_path / "source", SeriesSpec())
    disc = write_dicomdir(tmp_path / "disc", [source])
    disc = disc.rename(disc.with_name("DICOMDIR;1"))
    assert len(list(find_files(disc))) == 8
