"""NRRD, MetaImage and MGH: what is particular to them."""

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from tests.grids import SHAPE, SPACING_MM, affine_of, oblique_grid
from tests.io.images import ITK_SUFFIXES, MGH_SUFFIXES, itk_image, some_voxels
from volseg.errors import FileFormatError, GeometryError, IntensityError, OutputError
from volseg.geometry import Grid
from volseg.io import read_volume, write_label_map, write_volume
from volseg.volume import LabelMap, Volume

META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 10 20 30
ElementSpacing = 0.7 0.9 2.5
DimSize = 5 6 7
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""

NRRD = """NRRD0004
type: short
dimension: 3
space: {space}
sizes: 5 6 7
space directions: (0.7,0,0) (0,0.9,0) (0,0.5,2.5)
space origin: (10,20,30)
endian: {endian}
encoding: {encoding}

"""


def voxel_bytes(order: str = "<") -> bytes:
    return some_voxels().astype(f"{order}i2").tobytes(order="F")


def save_nrrd(
    path: Path, *, space: str = "left-posterior-superior", encoding: str = "raw", data: bytes = b""
) -> Path:
    text = NRRD.format(space=space, endian="little", encoding=encoding)
    path.write_bytes(text.encode() + (data or voxel_bytes()))
    return path


@pytest.mark.parametrize("suffix", ITK_SUFFIXES)
def test_components_become_channels(tmp_path: Path, suffix: str) -> None:
    array = some_voxels(shape=(3, *SHAPE), dtype="f4")
    SimpleITK.WriteImage(itk_image(array, oblique_grid(), is_vector=True), str(tmp_path / f"scan{suffix}"))
    np.testing.assert_array_equal(read_volume(tmp_path / f"scan{suffix}").array, array)


@pytest.mark.parametrize("suffix", ITK_SUFFIXES)
@pytest.mark.parametrize("frames", [1, 4])
def test_a_fourth_axis_becomes_channels(tmp_path: Path, suffix: str, frames: int) -> None:
    array = some_voxels(shape=(frames, *SHAPE), dtype="f4")
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(0, 3, 2, 1)), isVector=False)
    image.SetSpacing((*SPACING_MM, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    volume = read_volume(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.grid.spacing_mm, SPACING_MM)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("RAS", (1, 1, 1)),
    ],
)
def test_the_worlds_of_nrrd(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    grid = read_volume(save_nrrd(tmp_path / "scan.nrrd", space=space)).grid
    np.testing.assert_allclose(grid.affine[:3, 3], np.multiply(signs, (10, 20, 30)))
    np.testing.assert_allclose(grid.affine[:3, 2], np.multiply(signs, (0, 0.5, 2.5)), atol=1e-9)


def test_a_sheared_nrrd_is_read(tmp_path: Path) -> None:
    volume = read_volume(save_nrrd(tmp_path / "scan.nrrd"))
    assert volume.grid.spacing_mm[2] == pytest.approx(np.hypot(0.5, 2.5))
    np.testing.assert_array_equal(volume.array[0], some_voxels())


def test_a_header_without_position_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "NRRD0004\r\ntype: short\r\ndimension: 3\r\nsizes: 5 6 7\r\nendian: big\r\nencoding: raw\r\n\r\n"
    (tmp_path / "scan.nrrd").write_bytes(text.encode() + voxel_bytes(">"))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nrrd").array[0], some_voxels())
    assert "does not say where the patient is" in caplog.text


@pytest.mark.parametrize("suffix", [*ITK_SUFFIXES, *MGH_SUFFIXES])
def test_a_sheared_grid_is_refused_on_writing_and_nothing_is_left(tmp_path: Path, suffix: str) -> None:
    label_map = LabelMap(np.ones(SHAPE, np.uint8), oblique_grid(shear=0.2))
    with pytest.raises(OutputError, match=r"sheared .*11\.54 degrees.*Write \.nii\.gz instead"):
        write_label_map(label_map, tmp_path / f"seg{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_meta_image_shorter_or_longer_than_its_header(tmp_path: Path, suffix: str) -> None:
    header = META if suffix == ".mha" else META.replace("LOCAL", "scan.raw")
    path = tmp_path / f"scan{suffix}"
    data_path = path if suffix == ".mha" else tmp_path / "scan.raw"
    path.write_text(header)
    start = path.read_bytes() if suffix == ".mha" else b""
    data_path.write_bytes(start + voxel_bytes())
    np.testing.assert_array_equal(read_volume(path).array[0], some_voxels())
    for wrong in (voxel_bytes()[:-2], voxel_bytes() + b"xx"):
        data_path.write_bytes(start + wrong)
        with pytest.raises(FileFormatError, match="announces 420 bytes of voxels"):
            read_volume(path)


def test_a_compressed_meta_image_with_one_bad_byte_is_refused(tmp_path: Path) -> None:
    """ITK alone would return wrong voxels here."""
    packed = bytearray(zlib.compress(voxel_bytes()))
    header = META.replace(
        "CompressedData = False", f"CompressedData = True\nCompressedDataSize = {len(packed)}"
    )
    path = tmp_path / "scan.mha"
    path.write_bytes(header.encode() + packed)
    np.testing.assert_array_equal(read_volume(path).array[0], some_voxels())
    packed[-50] ^= 0xFF
    path.write_bytes(header.encode() + packed)
    with pytest.raises(FileFormatError, match="damaged or incomplete"):
        read_volume(path)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("change", ["short", "long"])
def test_nrrd_shorter_or_longer_than_its_header(tmp_path: Path, encoding: str, change: str) -> None:
    data = voxel_bytes()[:-2] if change == "short" else voxel_bytes() + b"xx"
    path = save_nrrd(
        tmp_path / "scan.nrrd", encoding=encoding, data=gzip.compress(data) if encoding == "gzip" else data
    )
    with pytest.raises(FileFormatError, match="announces 420 bytes of voxels"):
        read_volume(path)


def test_a_truncated_gzip_nrrd_is_refused(tmp_path: Path) -> None:
    path = save_nrrd(tmp_path / "scan.nrrd", encoding="gzip", data=gzip.compress(voxel_bytes())[:-40])
    with pytest.raises(FileFormatError, match="damaged or incomplete"):
        read_volume(path)


def test_a_text_nrrd_is_read(tmp_path: Path) -> None:
    numbers = " ".join(str(value) for value in some_voxels().ravel(order="F"))
    path = save_nrrd(tmp_path / "scan.nrrd", encoding="ascii", data=numbers.encode())
    np.testing.assert_array_equal(read_volume(path).array[0], some_voxels())


@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii"])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_header_claiming_terabytes_is_refused_before_itk_allocates(
    tmp_path: Path, suffix: str, encoding: str
) -> None:
    path = save_nrrd(tmp_path / "scan.nrrd", encoding=encoding, data=gzip.compress(voxel_bytes()))
    if suffix == ".mha":
        path = tmp_path / "scan.mha"
        path.write_bytes(META.encode() + voxel_bytes())
    path.write_bytes(path.read_bytes().replace(b"5 6 7", b"30000 30000 30000"))
    with pytest.raises(FileFormatError, match="announces 54,000,000,000,000 bytes"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_zero_extents_are_refused(tmp_path: Path, suffix: str) -> None:
    path = save_nrrd(tmp_path / "scan.nrrd")
    if suffix == ".mha":
        path = tmp_path / "scan.mha"
        path.write_bytes(META.encode() + voxel_bytes())
    path.write_bytes(path.read_bytes().replace(b"5 6 7", b"5 0 7"))
    with pytest.raises(FileFormatError, match=r"scan"):
        read_volume(path)


def test_a_singular_direction_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.mha").write_bytes(
        META.replace("1 0 0 0 1 0 0 0 1", "0 0 0 0 0 0 0 0 0").encode() + voxel_bytes()
    )
    with pytest.raises((GeometryError, FileFormatError), match=r"scan\.mha"):
        read_volume(tmp_path / "scan.mha")


def test_colour_and_complex_nrrd_are_refused(tmp_path: Path) -> None:
    colour = SimpleITK.GetImageFromArray(some_voxels(shape=(7, 6, 5, 3), dtype="u1"), isVector=True)
    SimpleITK.WriteImage(colour, str(tmp_path / "colour.nrrd"))
    raw = (tmp_path / "colour.nrrd").read_bytes()
    (tmp_path / "colour.nrrd").write_bytes(raw.replace(b"kinds: vector", b"kinds: RGB-color"))
    complex_image = SimpleITK.GetImageFromArray(some_voxels(shape=(7, 6, 5)).astype("c8"))
    SimpleITK.WriteImage(complex_image, str(tmp_path / "complex.nrrd"))
    for name in ("colour", "complex"):
        with pytest.raises(IntensityError, match="colour or complex"):
            read_volume(tmp_path / f"{name}.nrrd")


def test_a_plane_is_no_volume(tmp_path: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(some_voxels(shape=(6, 5))), str(tmp_path / "plane.nrrd"))
    with pytest.raises(FileFormatError, match="2 axes"):
        read_volume(tmp_path / "plane.nrrd")


@pytest.mark.parametrize(
    "header", [META.replace("LOCAL", "LIST"), META.replace("LOCAL", "slice%03d.raw 1 7 1")]
)
def test_voxels_in_many_files_are_refused(tmp_path: Path, header: str) -> None:
    (tmp_path / "scan.mhd").write_text(header)
    with pytest.raises(FileFormatError, match="over several files"):
        read_volume(tmp_path / "scan.mhd")


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "scan.mhd").write_text(META.replace("LOCAL", "gone.raw"))
    with pytest.raises(Exception, match=r"gone\.raw.*no such file"):
        read_volume(tmp_path / "scan.mhd")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_another_format_under_this_suffix_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"scan{suffix}").write_bytes(b"this is a letter, not an image" * 30)
    with pytest.raises(FileFormatError, match=r"is not a (NRRD|MetaImage) file"):
        read_volume(tmp_path / f"scan{suffix}")


@pytest.mark.parametrize("suffix", MGH_SUFFIXES)
def test_mgh_refuses_what_it_cannot_trust(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    write_volume(Volume(some_voxels(), oblique_grid()), path)
    raw = gzip.decompress(path.read_bytes()) if suffix == ".mgz" else path.read_bytes()
    pack = gzip.compress if suffix == ".mgz" else bytes
    for wrong, message in [
        (raw[:-2], "announces"),
        (b"\0\0\0\2" + raw[4:], "not an MGH volume"),
        (raw[:100], "not an MGH volume"),
        (raw[:4] + (30000).to_bytes(4, "big") * 3 + raw[16:], "announces"),
        (raw[:4] + bytes(4) + raw[8:], "with no voxel"),
        (raw[:20] + (99).to_bytes(4, "big") + raw[24:], "voxel type 99"),
        (raw[:42] + bytes(36) + raw[78:], "singular"),
    ]:
        path.write_bytes(pack(wrong))
        with pytest.raises((FileFormatError, GeometryError), match=message):
            read_volume(path)


def test_mgh_without_position_is_refused(tmp_path: Path) -> None:
    """FreeSurfer assumes LIA then, nibabel LSP."""
    path = tmp_path / "scan.mgz"
    nib.save(nib.MGHImage(some_voxels(), affine_of()), path)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[28:30] = b"\0\0"
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(GeometryError, match="goodRASFlag"):
        read_volume(path)


def test_mgh_refuses_types_it_would_have_to_round(tmp_path: Path) -> None:
    grid: Grid = oblique_grid()
    with pytest.raises(OutputError, match="cannot hold voxels of type float64 without loss"):
        write_volume(Volume(some_voxels(dtype="f8"), grid), tmp_path / "scan.mgz")
    with pytest.raises(OutputError, match="cannot hold label 5000000000"):
        write_label_map(LabelMap(np.full(SHAPE, 5_000_000_000), grid), tmp_path / "seg.mgz")
    assert not list(tmp_path.iterdir())
