"""Each way a file can be unusable gets one clear message that names it, and never a wrong answer."""

import gzip
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.grids import SHAPE, affine_of
from tests.io.images import ALL_SUFFIXES, ITK_SUFFIXES, save_nifti, some_voxels
from volseg.errors import FileFormatError, GeometryError, InputError, IntensityError
from volseg.geometry import Grid
from volseg.io import read_label_map, read_volume, write_volume
from volseg.volume import LabelMap, Volume

READERS = pytest.mark.parametrize("read", [read_volume, read_label_map])
Reader = Callable[[Path], Volume | LabelMap]


@READERS
@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_a_missing_file(tmp_path: Path, suffix: str, read: Reader) -> None:
    with pytest.raises(InputError, match=r"scan.*there is no such file"):
        read(tmp_path / f"scan{suffix}")


@READERS
def test_a_folder(tmp_path: Path, read: Reader) -> None:
    (tmp_path / "scan.nii.gz").mkdir()
    for folder in (tmp_path, tmp_path / "scan.nii.gz"):
        with pytest.raises(InputError, match=r"is a folder; expected an image file"):
            read(folder)


@pytest.mark.parametrize("name", ["scan.jpg", "scan.nii.bz2", "scan", "scan.gz"])
def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(
        FileFormatError, match=r"no image format volseg reads; known are \.nii, \.nii\.gz, .*\.mhd"
    ):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("suffix", [*ALL_SUFFIXES, ".img"])
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"scan{suffix}").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"is empty \(0 bytes\)"):
        read_volume(tmp_path / f"scan{suffix}")


def test_gzip_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(FileFormatError, match="is empty"):
        read_volume(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
@pytest.mark.parametrize("content", [b"dear colleague, " * 99, b"\0" * 600, b"\1", bytes(range(256)) * 3])
def test_no_nifti(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"scan{suffix}").write_bytes(content)
    (tmp_path / "scan.img").write_bytes(content)
    with pytest.raises(FileFormatError, match="is not a NIfTI file"):
        read_volume(tmp_path / f"scan{suffix}")


def test_a_nifti_with_a_damaged_magic(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="is not a NIfTI file"):
        read_volume(save_nifti(tmp_path / "scan.nii", magic=b"xyz"))


def test_a_header_cut_short(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FileFormatError, match="is not a NIfTI file"):
        read_volume(path)


def test_analyze_has_no_left_and_right(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(some_voxels(), affine_of(degrees=(0.0, 0.0, 0.0))), tmp_path / "scan.hdr")
    with pytest.raises(FileFormatError, match="does not say which side is left"):
        read_volume(tmp_path / "scan.hdr")


@pytest.mark.parametrize("name", ["scan.hdr", "scan.img"])
def test_half_of_a_pair(tmp_path: Path, name: str) -> None:
    save_nifti(tmp_path / "scan.hdr")
    next(path for path in tmp_path.iterdir() if path.name != name).unlink()
    with pytest.raises(FileFormatError, match=r"half of a pair; scan.* is missing"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("kept", [10, 20, 200, -100, -9, -8, -4, -1])
def test_truncated_gzip(tmp_path: Path, kept: int) -> None:
    path = save_nifti(tmp_path / "scan.nii.gz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileFormatError, match=r"scan\.nii\.gz"):
        read_volume(path)


@pytest.mark.parametrize("position", [15, 200, -200, -7, -3])
def test_one_wrong_byte_in_gzip(tmp_path: Path, position: int) -> None:
    path = save_nifti(tmp_path / "scan.nii.gz")
    raw = bytearray(path.read_bytes())
    raw[position] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match=r"scan\.nii\.gz"):
        read_volume(path)


def test_garbage_after_gzip(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii.gz")
    path.write_bytes(path.read_bytes() + b"garbage")
    with pytest.raises(FileFormatError, match="damaged or incomplete"):
        read_volume(path)


def test_zeros_after_gzip_are_only_padding(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii.gz")
    path.write_bytes(path.read_bytes() + bytes(512))
    np.testing.assert_array_equal(read_volume(path).array[0], some_voxels())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
@pytest.mark.parametrize("extents", [(5, 6, 8), (5, 6, 6), (7, 7, 7)])
def test_header_and_file_of_different_size(
    tmp_path: Path, suffix: str, extents: tuple[int, int, int]
) -> None:
    path = save_nifti(tmp_path / f"scan{suffix}", dim=[3, *extents, 1, 1, 1, 1])
    with pytest.raises(
        FileFormatError, match=r"its header announces [\d,]+ bytes, but the file holds (more than )?\d+"
    ):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
def test_a_header_claiming_terabytes_is_refused_without_allocating(tmp_path: Path, suffix: str) -> None:
    path = save_nifti(tmp_path / f"scan{suffix}", dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    tracemalloc.start()
    with pytest.raises(FileFormatError, match=r"announces 54,000,000,000,\d{3} bytes|announces 54,000,000,"):
        read_volume(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 5e6


def test_a_header_claiming_what_gzip_could_just_hold_is_counted_before_allocating(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    raw = save_nifti(tmp_path / "scan.nii", dim=[3, 300, 300, 300, 1, 1, 1, 1]).read_bytes()
    path.write_bytes(gzip.compress(raw) + gzip.compress(np.random.default_rng(0).bytes(200_000)))
    tracemalloc.start()
    with pytest.raises(FileFormatError, match="but the file holds 200,772"):
        read_volume(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10e6


def test_a_small_header_on_a_gzip_bomb_stops_early(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    raw = save_nifti(tmp_path / "scan.nii").read_bytes()
    path.write_bytes(gzip.compress(raw + bytes(50_000_000), 1))
    with pytest.raises(FileFormatError, match="the file holds more than 772"):
        read_volume(path)


@pytest.mark.parametrize(
    "dim", [[0, 5, 6, 7, 1, 1, 1, 1], [9, 5, 6, 7, 1, 1, 1, 1], [3, -5, 6, 7, 1, 1, 1, 1]]
)
def test_impossible_dimensions(tmp_path: Path, dim: list[int]) -> None:
    with pytest.raises(FileFormatError, match="damaged: its header gives the dimensions"):
        read_volume(save_nifti(tmp_path / "scan.nii", dim=dim))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dim", [[3, 5, 0, 7, 1, 1, 1, 1], [4, 5, 6, 7, 0, 1, 1, 1]])
def test_no_voxels(tmp_path: Path, suffix: str, dim: list[int]) -> None:
    with pytest.raises(FileFormatError, match="is empty: its header gives the extents"):
        read_volume(save_nifti(tmp_path / f"scan{suffix}", dim=dim))


@pytest.mark.parametrize("offset", [-16.0, 100.0, 352.5, np.nan, np.inf, 1e12])
def test_impossible_places_of_the_voxels(tmp_path: Path, offset: float) -> None:
    with pytest.raises(FileFormatError, match=r"puts the voxels at byte|announces"):
        read_volume(save_nifti(tmp_path / "scan.nii", vox_offset=offset))


def test_an_offset_of_zero_means_right_after_the_header(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii", vox_offset=0)
    np.testing.assert_array_equal(read_volume(path).array[0], some_voxels())


@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz", ".nrrd", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_voxels_are_counted_and_the_first_is_named(
    tmp_path: Path, suffix: str, value: float
) -> None:
    array = some_voxels(shape=(2, *SHAPE), dtype="f4")
    array[1, 2, 3, 4] = array[1, 4, 0, 1] = value
    write_volume(Volume(array, Grid(SHAPE, affine_of())), tmp_path / f"scan{suffix}")
    with pytest.raises(
        IntensityError, match=r"scan.*2 of 420 voxels .* first is voxel \(2, 3, 4\) of channel 1"
    ):
        read_volume(tmp_path / f"scan{suffix}")


def test_large_finite_voxels_are_no_infinity(tmp_path: Path) -> None:
    array = np.full(SHAPE, 3e38, np.float32)
    np.testing.assert_array_equal(read_volume(save_nifti(tmp_path / "scan.nii", array)).array[0], array)


@pytest.mark.parametrize(
    ("datatype", "kind"), [(32, "complex"), (1792, "complex"), (128, "RGB colour"), (2304, "RGBA colour")]
)
def test_complex_and_colour_nifti(tmp_path: Path, datatype: int, kind: str) -> None:
    with pytest.raises(IntensityError, match=rf"{kind} voxels \(NIfTI datatype {datatype}\)"):
        read_volume(save_nifti(tmp_path / "scan.nii", datatype=datatype))


@pytest.mark.parametrize("datatype", [0, 1, 1536, 777])
def test_unknown_voxel_types(tmp_path: Path, datatype: int) -> None:
    with pytest.raises(FileFormatError, match=f"NIfTI datatype {datatype}"):
        read_volume(save_nifti(tmp_path / "scan.nii", datatype=datatype))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_zero_or_infinite_affine(tmp_path: Path, value: float) -> None:
    path = save_nifti(tmp_path / "scan.nii.gz", srow_x=[value] * 4, srow_y=[value] * 4, srow_z=[value] * 4)
    with pytest.raises(GeometryError, match=r"scan\.nii\.gz: the affine"):
        read_volume(path)


def test_zero_spacing_where_only_the_qform_counts(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii", sform_code=0, qform_code=1, pixdim=[1, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(GeometryError, match=r"scan\.nii"):
        read_volume(path)


def test_zero_spacing_where_nothing_else_counts(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii", sform_code=0, qform_code=0, pixdim=[1, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(GeometryError, match=r"scan\.nii: the affine is singular"):
        read_volume(path)


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs POSIX users")
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mgz", *ITK_SUFFIXES])
def test_no_permission_to_read(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(b"anything")

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"scan.*no permission to read it"):
        read_volume(path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)
def test_no_permission_to_read_as_another_user(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii.gz")
    path.chmod(0o000)
    code = (
        "import os, sys, volseg.io, volseg.io.nifti\n"
        "os.setgid(65534); os.setuid(65534)\n"
        f"try: volseg.io.read_volume({str(path)!r})\n"
        "except volseg.errors.InputError as error: sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert done.returncode == 1
    assert "no permission to read it" in done.stderr
    assert "Traceback" not in done.stderr
