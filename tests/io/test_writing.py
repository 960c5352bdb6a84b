"""A result is written whole or not at all, and never over its own source."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.grids import SHAPE, oblique_grid
from tests.io.images import ALL_SUFFIXES, save_nifti, some_voxels
from volseg.errors import OutputError
from volseg.geometry import Grid
from volseg.io import read_label_map, read_volume, write_label_map, write_volume
from volseg.io.atomic import replacing
from volseg.volume import LabelMap, Volume


def some_labels() -> LabelMap:
    return LabelMap((some_voxels(dtype="u1") // 90).astype(np.uint8), oblique_grid())


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_only_the_image_is_left_and_an_older_one_is_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"seg{suffix}"
    write_label_map(LabelMap(np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4))), path)
    write_label_map(some_labels(), path)
    partner = {".hdr": {"seg.img"}, ".nhdr": {"seg.raw"}, ".mhd": {"seg.raw"}}.get(suffix, set())
    assert files_in(tmp_path) == {path.name} | partner
    np.testing.assert_array_equal(read_label_map(path).array, some_labels().array)


def test_a_pair_may_be_named_by_its_voxels(tmp_path: Path) -> None:
    write_label_map(some_labels(), tmp_path / "seg.img")
    assert files_in(tmp_path) == {"seg.hdr", "seg.img"}
    np.testing.assert_array_equal(read_label_map(tmp_path / "seg.hdr").array, some_labels().array)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    path = tmp_path / "seg.nii.gz"
    path.write_bytes(b"old")

    def write_half_of_it() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise interruption

    with pytest.raises(interruption):
        write_half_of_it()
    assert files_in(tmp_path) == {"seg.nii.gz"}
    assert path.read_bytes() == b"old"


def test_a_killed_run_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    code = (
        "import os\nfrom pathlib import Path\nfrom volseg.io.atomic import replacing\n"
        f"with replacing(Path({str(tmp_path / 'seg.nii.gz')!r})) as temporary:\n"
        "    temporary.write_bytes(b'half')\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert not (tmp_path / "seg.nii.gz").exists()


def test_the_file_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("fsync"), real_fsync(handle))[1])
    monkeypatch.setattr(
        Path, "replace", lambda a, b: (events.append(f"rename {b.name}"), real_replace(a, b))[1]
    )
    write_label_map(some_labels(), tmp_path / "seg.hdr")
    assert events == ["fsync", "fsync", "rename seg.img", "rename seg.hdr"]


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_no_such_folder(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*missing\. Create it first"):
        write_label_map(some_labels(), tmp_path / "missing" / f"seg{suffix}")


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="there is no folder"):
        write_label_map(some_labels(), tmp_path / "file" / "seg.nii.gz")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mgz", ".nrrd"])
def test_no_space(tmp_path: Path, suffix: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / f"seg{suffix}").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=r"seg.*no space left"):
        write_label_map(some_labels(), tmp_path / f"seg{suffix}")
    assert files_in(tmp_path) == {f"seg{suffix}"}
    assert (tmp_path / f"seg{suffix}").read_bytes() == b"old"


FULL_DISK = """
import resource, signal, sys
import numpy as np
import volseg.io, volseg.io.nifti, volseg.io.mgh, volseg.io.itk
from volseg.errors import OutputError
from volseg.geometry import Grid
from volseg.volume import Volume

array = np.random.default_rng(0).integers(0, 30000, (40, 50, 60)).astype("i2")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
for path in sys.argv[1:]:
    try:
        volseg.io.write_volume(Volume(array, Grid(array.shape, np.eye(4))), path)
    except OutputError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_told_whoever_writes(tmp_path: Path) -> None:
    """A limit on file size stands for a full disk: every write beyond it fails."""
    names = [f"scan{number}{suffix}" for number, suffix in enumerate(ALL_SUFFIXES)]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *(str(tmp_path / name) for name in names)],
        capture_output=True, text=True, check=False, cwd=Path.cwd(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in names:
        assert any(name in line and "space" in line for line in done.stdout.splitlines()), name
    assert not files_in(tmp_path)


def test_no_permission_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(OutputError, match="no permission to write"):
        write_label_map(some_labels(), tmp_path / "seg.nii.gz")


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_the_source_is_never_overwritten(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    write_volume(Volume(some_voxels(), oblique_grid()), path)
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    source = read_volume(path)
    labels = LabelMap(np.ones(SHAPE, np.uint8), source.grid)
    link = tmp_path / f"link{suffix}"
    link.symlink_to(path)
    for target in (path, str(path), tmp_path / "." / path.name, link):
        with pytest.raises(OutputError, match="is the input itself"):
            write_label_map(labels, target, source=source)
    with pytest.raises(OutputError, match="is the input itself"):
        write_volume(source, path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_label_map_is_not_written_over_what_it_was_read_from(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "seg.nii", np.ones(SHAPE, np.uint8))
    with pytest.raises(OutputError, match="is the input itself"):
        write_label_map(read_label_map(path), path)


def test_the_second_file_of_a_pair_is_the_source_too(tmp_path: Path) -> None:
    save_nifti(tmp_path / "scan.hdr")
    source = read_volume(tmp_path / "scan.hdr")
    with pytest.raises(OutputError, match="is the input itself"):
        write_volume(source, tmp_path / "scan.img")


@pytest.mark.parametrize(("suffix", "partner"), [(".mhd", ".raw"), (".nhdr", ".raw"), (".hdr", ".img")])
def test_a_data_file_of_another_image_is_not_overwritten(tmp_path: Path, suffix: str, partner: str) -> None:
    (tmp_path / f"scan{partner}").write_bytes(b"precious")
    with pytest.raises(OutputError, match="belongs to another image"):
        write_label_map(some_labels(), tmp_path / f"scan{suffix}")
    assert (tmp_path / f"scan{partner}").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["seg.png", "seg", "seg.gz"])
def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"no image format volseg writes; known are \.nii, "):
        write_label_map(some_labels(), tmp_path / name)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "seg.nii.gz").mkdir()
    with pytest.raises(OutputError, match="is a folder; give the name of a file in it"):
        write_label_map(some_labels(), tmp_path / "seg.nii.gz")


def test_negative_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not negative, found -3"):
        write_label_map(LabelMap(np.full(SHAPE, -3), oblique_grid()), tmp_path / "seg.nii.gz")
    assert not files_in(tmp_path)
