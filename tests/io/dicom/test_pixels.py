"""Pixels exactly as stored and rescaled, in every transfer syntax, or an error that names the file."""

import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jpeg_ls
import numpy as np
import openjpeg.utils
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from tests.dicom_enhanced import Frames, write_enhanced
from tests.dicom_files import SeriesSpec, Written, save, short, slice_dataset, write_series, zip_folder
from tests.dicom_pixels import TRANSFER_SYNTAXES, pixel_bytes
from volseg.errors import InputError, SeriesError
from volseg.io.dicom.codestream import Codestream
from volseg.io.dicom.entropy import LOSSLESS, check_scan
from volseg.io.dicom.frame import Frame, Reason
from volseg.io.dicom.header import read_frames
from volseg.io.dicom.pixels import content_key, read_planes, refuse_pixels
from volseg.origin import FileRef

PACKED = ("jpeg-12bit", "jpeg-lossless", "jpeg-ls", "jpeg2000", "rle")


def frames_of(*files: Path | FileRef) -> list[Frame]:
    frames: list[Frame] = []
    for file in files:
        found = read_frames(file if isinstance(file, FileRef) else FileRef(file))
        assert isinstance(found, list), found
        frames.extend(found)
    return frames


def one(tmp_path: Path, edit: Callable[[Dataset], object] | None = None, **changes) -> Frame:
    spec = SeriesSpec(**({"shape": (6, 5, 1)} | changes))
    with config.disable_value_validation():
        dataset = slice_dataset(spec, 0)
        if edit:
            edit(dataset)
        (frame,) = frames_of(save(dataset, tmp_path / "file.dcm", spec))
    return frame


def truth_of(written: Written) -> np.ndarray:
    return written.truth.transpose(2, 1, 0)


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
@pytest.mark.parametrize("is_signed", [False, True])
def test_every_transfer_syntax_is_exact(tmp_path: Path, syntax: str, is_signed: bool) -> None:
    spec = SeriesSpec(shape=(40, 37, 2), syntax=syntax, is_signed=is_signed and syntax != "jpeg-12bit")
    written = write_series(tmp_path, spec)
    planes = read_planes(frames_of(*written.files))
    assert planes.dtype == np.int16
    np.testing.assert_allclose(planes, truth_of(written), atol=1 if syntax == "jpeg-12bit" else 0)


@pytest.mark.parametrize("syntax", PACKED)
def test_fragmented_frames(tmp_path: Path, syntax: str) -> None:
    written = write_series(tmp_path, SeriesSpec(shape=(40, 37, 1), syntax=syntax, fragments=5))
    np.testing.assert_allclose(read_planes(frames_of(*written.files)), truth_of(written), atol=1)


@pytest.mark.parametrize(
    ("allocated", "stored", "high_bit"),
    [
        (8, 8, 7),
        (8, 6, 5),
        (8, 5, 7),
        (16, 16, 15),
        (16, 12, 11),
        (16, 10, 15),
        (16, 12, 13),
        (32, 32, 31),
        (32, 20, 25),
    ],
)
@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("syntax", ["implicit", "big-endian", "deflated"])
def test_bits_wherever_they_are(
    tmp_path: Path, allocated: int, stored: int, high_bit: int, is_signed: bool, syntax: str
) -> None:
    spec = SeriesSpec(
        shape=(5, 3, 1),
        syntax=syntax,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        is_signed=is_signed,
        intercept=0,
        has_junk_bits=high_bit + 1 < allocated,
    )
    written = write_series(tmp_path, spec)
    planes = read_planes(frames_of(*written.files))
    if stored == 32 and not is_signed:
        assert planes.dtype == np.float32
        np.testing.assert_array_equal(planes, truth_of(written).astype(np.float32))
    else:
        assert planes.dtype == (np.int32 if stored > 16 else planes.dtype)
        np.testing.assert_array_equal(planes, truth_of(written))


def test_overlay_bits_below_are_dropped_too(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.HighBit = 15
        dataset.PixelData = ((np.arange(30, dtype="<u2") << 4) | 0xB).tobytes()

    planes = read_planes([one(tmp_path, edit, intercept=0)])
    np.testing.assert_array_equal(planes.ravel(), np.arange(30))


def test_big_endian_bytes_in_words(tmp_path: Path) -> None:
    spec = {"shape": (5, 3, 1), "bits_allocated": 8, "bits_stored": 8, "intercept": 0, "syntax": "big-endian"}

    def edit(dataset: Dataset) -> None:
        values = np.arange(16, dtype=np.uint8)
        values[15] = 0
        dataset.PixelData = values.view("<u2").astype(">u2").tobytes()
        dataset["PixelData"].VR = "OW"

    np.testing.assert_array_equal(read_planes([one(tmp_path, edit, **spec)]).ravel(), np.arange(15))


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_float_pixels(tmp_path: Path, keyword: str, kind: str) -> None:
    values = np.linspace(-1.5, 7.25, 30)

    def edit(dataset: Dataset) -> None:
        for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            del dataset[name]
        dataset.BitsAllocated = 8 * int(kind[-1])
        setattr(dataset, keyword, values.astype(kind).tobytes())

    planes = read_planes([one(tmp_path, edit, slope=2.0, intercept=1.0)])
    assert planes.dtype == np.float32
    expected = (values.astype(kind).astype(np.float64) * 2 + 1).astype(np.float32)
    np.testing.assert_array_equal(planes.ravel(), expected)


def test_monochrome1_is_not_inverted(tmp_path: Path) -> None:
    written = write_series(tmp_path, SeriesSpec(shape=(6, 5, 1), photometric="MONOCHROME1"))
    np.testing.assert_array_equal(read_planes(frames_of(*written.files)), truth_of(written))


@given(
    st.lists(
        st.tuples(st.sampled_from([1.0, 2.0, -3.0]), st.integers(-70000, 70000)), min_size=2, max_size=3
    ),
    st.booleans(),
    st.sampled_from([8, 12, 16]),
)
@settings(max_examples=30, deadline=None)
def test_whole_factors_give_the_smallest_exact_integers(
    tmp_path_factory: pytest.TempPathFactory, factors: list, is_signed: bool, bits: int
) -> None:
    slopes, intercepts = zip(*factors, strict=True)
    spec = SeriesSpec(
        shape=(6, 5, len(factors)), slope=slopes, intercept=intercepts, is_signed=is_signed, bits_stored=bits
    )
    written = write_series(tmp_path_factory.mktemp("series"), spec)
    planes = read_planes(frames_of(*written.files))
    np.testing.assert_array_equal(planes, truth_of(written))
    fits = written.truth.min() >= -(2**15) and written.truth.max() < 2**15
    assert planes.dtype == (np.int16 if fits else np.int32)


AS_WRITTEN_NOT_WHOLE = st.floats(1e-3, 50).filter(lambda slope: not float(short(slope)).is_integer())
"""A decimal string has 16 characters: 10.999999999999993 is written as 11."""


@given(st.lists(AS_WRITTEN_NOT_WHOLE, min_size=2, max_size=3))
@settings(max_examples=20, deadline=None)
def test_other_factors_are_applied_in_double_precision(
    tmp_path_factory: pytest.TempPathFactory, slopes: list
) -> None:
    written = write_series(
        tmp_path_factory.mktemp("series"), SeriesSpec(shape=(6, 5, len(slopes)), slope=slopes)
    )
    frames = frames_of(*written.files)
    planes = read_planes(frames)
    assert planes.dtype == np.float32
    stored = written.spec.stored.transpose(2, 1, 0)
    for plane, values, frame in zip(planes, stored, frames, strict=True):
        np.testing.assert_array_equal(plane, (values * frame.slope + frame.intercept).astype(np.float32))


def test_one_fraction_among_whole_factors_makes_all_float(tmp_path: Path) -> None:
    written = write_series(tmp_path, SeriesSpec(shape=(6, 5, 3), slope=[1, 1, 0.5]))
    planes = read_planes(frames_of(*written.files))
    assert planes.dtype == np.float32
    np.testing.assert_array_equal(planes, truth_of(written))


@pytest.mark.parametrize("syntax", ["explicit", "deflated", "big-endian", *PACKED])
def test_frames_of_one_file_in_any_order(tmp_path: Path, syntax: str) -> None:
    spec = SeriesSpec(shape=(36, 33, 4), syntax=syntax, slope=[1, 2, 3, 4])
    written = write_enhanced(tmp_path / "multi", spec, Frames(order=lambda count: [3, 1, 0, 2]))
    frames = frames_of(written.files[0])
    wanted = [frames[n] for n in (2, 1, 3, 0)]
    np.testing.assert_allclose(
        read_planes(wanted), truth_of(written), atol=4 if syntax == "jpeg-12bit" else 0
    )
    np.testing.assert_allclose(read_planes(wanted[2:3])[0], truth_of(written)[2], atol=4)


def test_concatenated_and_interleaved_files(tmp_path: Path) -> None:
    written = write_enhanced(tmp_path / "multi", SeriesSpec(shape=(6, 5, 4)), Frames(parts=2))
    first, second = (frames_of(file) for file in written.files)
    planes = read_planes([first[0], second[0], first[1], second[1]])
    np.testing.assert_array_equal(planes, truth_of(written)[[0, 2, 1, 3]])


@pytest.mark.parametrize("table", ["none", "basic", "extended", "none, fragmented", "basic, fragmented"])
def test_offset_tables(tmp_path: Path, table: str) -> None:
    spec = SeriesSpec(shape=(36, 33, 3), syntax="jpeg-ls")
    fragments = 3 if "fragmented" in table else 1

    def edit(dataset: Dataset, part: int) -> None:
        packed = list(generate_frames(dataset.PixelData, number_of_frames=3))
        if table == "extended":
            data, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
                packed
            )
            dataset.PixelData = data
        else:
            dataset.PixelData = encapsulate(packed, fragments_per_frame=fragments, has_bot="basic" in table)
        dataset["PixelData"].is_undefined_length = True

    written = write_enhanced(tmp_path / "multi", spec, edit=edit)
    np.testing.assert_array_equal(read_planes(frames_of(written.files[0])), truth_of(written))


def test_members_of_an_archive(tmp_path: Path) -> None:
    written = write_series(tmp_path / "in", SeriesSpec(shape=(6, 5, 3)))
    archive = zip_folder(written.folder, tmp_path / "a.zip")
    frames = frames_of(*(FileRef(archive, file.name) for file in written.files))
    np.testing.assert_array_equal(read_planes(frames), truth_of(written))


def test_damage_in_an_archive_is_found_by_its_checksum(tmp_path: Path) -> None:
    written = write_series(tmp_path / "in", SeriesSpec(shape=(6, 5, 1)))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(written.files[0], "one")
    (frame,) = frames_of(FileRef(tmp_path / "a.zip", "one"))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[30 + 3 + (frame.pixel_offset or 0) + 9] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match="archive is damaged"):
        read_planes([frame])


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian", "deflated", *PACKED])
def test_a_file_cut_anywhere_in_its_pixels_is_refused(tmp_path: Path, syntax: str) -> None:
    frame = one(tmp_path, shape=(36, 33, 1), syntax=syntax)
    data = frame.file.path.read_bytes()
    start = frame.pixel_offset or len(data) - 300
    for length in np.linspace(start, len(data) - 1, 25).astype(int).tolist():
        frame.file.path.write_bytes(data[:length])
        (cut,) = frames_of(frame.file)
        with pytest.raises(SeriesError, match=r"file\.dcm") as caught:
            read_planes([cut])
        assert caught.value.reason == Reason.TRUNCATED


def test_a_cut_native_file_tells_the_bytes(tmp_path: Path) -> None:
    frame = one(tmp_path)
    data = frame.file.path.read_bytes()
    frame.file.path.write_bytes(data[:-10])
    with pytest.raises(SeriesError, match="holds 50 bytes of pixels; 60 are announced"):
        read_planes([frame])


def test_pixels_shorter_or_longer_than_announced(tmp_path: Path) -> None:
    short = one(tmp_path, lambda dataset: dataset.update({"PixelData": bytes(58)}))
    with pytest.raises(SeriesError) as caught:
        read_planes([short])
    assert caught.value.reason == Reason.TRUNCATED
    padded = one(tmp_path, lambda dataset: dataset.update({"PixelData": dataset.PixelData + bytes(2)}))
    assert read_planes([padded]).shape == (1, 5, 6)
    longer = one(tmp_path, lambda dataset: dataset.update({"Columns": 5}))
    with pytest.raises(SeriesError) as caught:
        read_planes([longer])
    assert caught.value.reason == Reason.CORRUPT


def test_bytes_of_odd_count_are_padded(tmp_path: Path) -> None:
    spec = {"shape": (5, 3, 1), "bits_allocated": 8, "bits_stored": 8}
    assert one(tmp_path, **spec).pixel_bytes == 16
    np.testing.assert_array_equal(
        read_planes([one(tmp_path, **spec)]), SeriesSpec(**spec).truth.transpose(2, 1, 0)
    )


def packed_frame(syntax: str) -> bytes:
    stored = SeriesSpec(shape=(36, 33, 1)).stored.transpose(2, 1, 0)
    value = pixel_bytes(stored, syntax=syntax, bits_stored=12, bits_allocated=16, is_signed=False)
    (data,) = generate_frames(value, number_of_frames=1)
    return data


def with_frame(tmp_path: Path, syntax: str, data: bytes, **changes) -> Frame:
    def edit(dataset: Dataset) -> None:
        dataset.PixelData = encapsulate([data])
        dataset["PixelData"].is_undefined_length = True
        dataset.update(changes)

    return one(tmp_path, edit, shape=(36, 33, 1), syntax=syntax)


@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("syntax", PACKED)
def test_a_cut_codestream_in_a_whole_file_is_refused(tmp_path: Path, syntax: str, ending: bytes) -> None:
    data = packed_frame(syntax)
    for length in np.linspace(4, len(data) - 12, 12).astype(int).tolist():
        frame = with_frame(tmp_path, syntax, data[:length] + ending)
        with pytest.raises(SeriesError, match=r"file\.dcm") as caught:
            read_planes([frame])
        assert caught.value.reason == Reason.CORRUPT


@pytest.mark.parametrize("syntax", PACKED)
def test_a_codestream_with_a_hole_is_refused(tmp_path: Path, syntax: str) -> None:
    data = packed_frame(syntax)
    half = len(data) // 2
    with pytest.raises(SeriesError) as caught:
        read_planes([with_frame(tmp_path, syntax, data[:half] + data[half + 40 :])])
    assert caught.value.reason == Reason.CORRUPT


@pytest.mark.parametrize(
    ("syntax", "fewest"),
    [("jpeg-12bit", 15), ("jpeg-lossless", 1), ("jpeg-ls", 20), ("rle", 1), ("jpeg2000", 0)],
)
def test_damage_is_refused_where_the_format_shows_it(tmp_path: Path, syntax: str, fewest: int) -> None:
    """No codestream has a checksum: a bit that only changes a value cannot be told. Nothing else may happen."""
    data = packed_frame(syntax)
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(40):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        try:
            planes = read_planes([with_frame(tmp_path, syntax, bytes(damaged))])
        except SeriesError as error:
            refused += error.reason == Reason.CORRUPT
        else:
            assert planes.shape == (1, 33, 36)
    assert refused >= fewest


@pytest.mark.parametrize("syntax", [syntax for syntax in PACKED if syntax != "rle"])
def test_a_codestream_of_another_size_is_corrupt(tmp_path: Path, syntax: str) -> None:
    """RLE is left out: it does not say its rows and columns, only their product is known."""
    frame = with_frame(tmp_path, syntax, packed_frame(syntax), Rows=36, Columns=33)
    with pytest.raises(
        SeriesError, match=r"33 x 36 pixels and 1 components stands where one of 36 x 33"
    ) as caught:
        read_planes([frame])
    assert caught.value.reason == Reason.CORRUPT


def test_rle_of_another_size_is_corrupt(tmp_path: Path) -> None:
    for columns in (35, 37):
        with pytest.raises(SeriesError) as caught:
            read_planes([with_frame(tmp_path, "rle", packed_frame("rle"), Columns=columns)])
        assert caught.value.reason == Reason.CORRUPT


def test_missing_and_spare_fragments(tmp_path: Path) -> None:
    def drop_last(dataset: Dataset, part: int) -> None:
        packed = list(generate_frames(dataset.PixelData, number_of_frames=3))
        dataset.PixelData = encapsulate(packed[:2])
        dataset["PixelData"].is_undefined_length = True

    written = write_enhanced(
        tmp_path / "multi", SeriesSpec(shape=(36, 33, 3), syntax="jpeg-ls"), edit=drop_last
    )
    with pytest.raises(SeriesError, match="2 frames; 3 are announced"):
        read_planes(frames_of(written.files[0])[:1])


def test_near_lossless_and_lossy(tmp_path: Path) -> None:
    plane = SeriesSpec(shape=(36, 33, 1)).stored[:, :, 0].T.astype(np.uint16)
    near = bytes(jpeg_ls.encode_array(np.ascontiguousarray(plane), lossy_error=3))
    values = read_planes([replace_syntax(with_frame(tmp_path, "jpeg-ls", near), "1.2.840.10008.1.2.4.81")])[0]
    assert 0 < np.abs(values + 1024 - plane).max() <= 3
    lossy = openjpeg.utils.encode_array(
        np.ascontiguousarray(plane), bits_stored=12, photometric_interpretation=2, compression_ratios=[4]
    )
    values = read_planes(
        [replace_syntax(with_frame(tmp_path, "jpeg2000", bytes(lossy)), "1.2.840.10008.1.2.4.91")]
    )[0]
    assert 0 < np.abs(values + 1024 - plane).max() < 200


def replace_syntax(frame: Frame, uid: str) -> Frame:
    return replace(frame, encoding=replace(frame.encoding, transfer_syntax=uid))


def test_jpeg2000_with_its_own_sign_and_bits(tmp_path: Path) -> None:
    """The codestream's 12 signed bits are values of any wider header; its unsigned bits take the header's sign."""
    values = np.random.default_rng(1).integers(-2048, 2048, (33, 36)).astype(np.int16)
    data = bytes(openjpeg.utils.encode_array(values, bits_stored=12, photometric_interpretation=2))
    wide = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "RescaleIntercept": 0}
    np.testing.assert_array_equal(read_planes([with_frame(tmp_path, "jpeg2000", data, **wide)])[0], values)
    unsigned = (values & 0xFFF).astype(np.uint16)
    data = bytes(openjpeg.utils.encode_array(unsigned, bits_stored=12, photometric_interpretation=2))
    same = {"PixelRepresentation": 1, "RescaleIntercept": 0}
    np.testing.assert_array_equal(read_planes([with_frame(tmp_path, "jpeg2000", data, **same)])[0], values)
    with pytest.raises(SeriesError, match="12 bits, its header speaks of 16 with a sign"):
        read_planes([with_frame(tmp_path, "jpeg2000", data, **wide)])


def lossless_jpeg(values: np.ndarray, interval: int) -> bytes:
    """JPEG lossless, first-order prediction, codes of 5 bits, with restart markers (T.81, H)."""
    rows, columns = values.shape
    scan, lines = b"", interval // columns
    for number, start in enumerate(range(0, rows, lines)):
        bits = ""
        for row in range(start, min(start + lines, rows)):
            for column in range(columns):
                above = values[row - 1, column] if row > start else 1 << 11
                difference = int(values[row, column]) - int(values[row, column - 1] if column else above)
                size = abs(difference).bit_length()
                extra = difference if difference >= 0 else difference + (1 << size) - 1
                bits += f"{size:05b}" + (f"{extra:0{size}b}" if size else "")
        bits += "1" * (-len(bits) % 8)
        marker = bytes([0xFF, 0xD0 + number % 8]) if start + lines < rows else b""
        scan += int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0") + marker
    counts = bytes([0, 0, 0, 0, 17, *[0] * 11])
    parts = [
        (0xC3, struct.pack(">BHHB3B", 12, rows, columns, 1, 1, 0x11, 0)),
        (0xC4, b"\0" + counts + bytes(range(17))),
        (0xDD, struct.pack(">H", interval)),
        (0xDA, bytes([1, 1, 0, 1, 0, 0])),
    ]
    head = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in parts)
    return b"\xff\xd8" + head + scan + b"\xff\xd9"


@pytest.mark.parametrize("syntax", ["jpeg-12bit", "jpeg-lossless", "jpeg-ls", "jpeg2000"])
def test_markers_inside_the_data_are_damage(tmp_path: Path, syntax: str) -> None:
    data = packed_frame(syntax)
    half = len(data) // 2
    spoiled = data[:half] + b"\xff\xd9" * 20 + data[half + 40 :]
    with pytest.raises(SeriesError) as caught:
        read_planes([with_frame(tmp_path, syntax, spoiled)])
    assert caught.value.reason == Reason.CORRUPT


def test_restart_intervals(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 4096, (33, 36))
    data = lossless_jpeg(values, interval=36 * 4)
    frame = with_frame(tmp_path, "jpeg-lossless", data, RescaleIntercept=0)
    np.testing.assert_array_equal(read_planes([frame])[0], values)
    head = Codestream(LOSSLESS, 33, 36, 1, 12, is_signed=False)
    check_scan(data, head)
    without = data.replace(b"\xff\xd2", b"", 1)
    lost = data[: data.index(b"\xff\xd3")] + data[data.index(b"\xff\xd4") :]
    for damaged in (without, lost, data[: data.index(b"\xff\xd5")] + b"\xff\xd9"):
        with pytest.raises(ValueError, match="compressed frame"):
            check_scan(damaged, head)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"slope": 0.0}, Reason.UNSUPPORTED),
        ({"slope": float("nan")}, Reason.UNSUPPORTED),
        ({"intercept": float("inf")}, Reason.UNSUPPORTED),
        ({"samples": 3}, Reason.COLOUR),
        ({"has_modality_lut": True}, Reason.UNSUPPORTED),
        ({"transfer_syntax": "1.2.840.10008.1.2.4.100"}, Reason.UNSUPPORTED),
        ({"transfer_syntax": "1.2.840.10008.1.2.4.70"}, Reason.UNSUPPORTED),
        ({"bits_allocated": 12}, Reason.UNSUPPORTED),
        ({"bits_allocated": 1}, Reason.UNSUPPORTED),
        ({"bits_stored": 17, "high_bit": 16}, Reason.UNSUPPORTED),
        ({"high_bit": 10}, Reason.UNSUPPORTED),
        ({"high_bit": 16}, Reason.UNSUPPORTED),
        ({"pixel_bytes": None}, Reason.UNSUPPORTED),
    ],
)
def test_what_cannot_be_read_is_refused_by_the_header_alone(
    tmp_path: Path, change: dict, reason: Reason
) -> None:
    frame = one(tmp_path)
    assert refuse_pixels([frame]) is None
    own = {name: value for name, value in change.items() if hasattr(frame, name)}
    encoding = replace(frame.encoding, **{name: value for name, value in change.items() if name not in own})
    wrong = replace(frame, encoding=encoding, **own)
    refusal = refuse_pixels([frame, wrong])
    assert refusal is not None
    assert refusal.reason is reason
    assert str(frame.file) in refusal.text
    with pytest.raises(SeriesError) as caught:
        read_planes([frame, wrong])
    assert caught.value.reason == reason


def test_planes_of_two_sizes_are_refused(tmp_path: Path) -> None:
    frames = [one(tmp_path, shape=shape) for shape in ((6, 5, 1), (5, 6, 1))]
    refusal = refuse_pixels(frames)
    assert refusal is not None
    assert refusal.reason is Reason.OTHER_MATRIX


def test_a_file_gone_meanwhile_is_named(tmp_path: Path) -> None:
    frame = one(tmp_path)
    frame.file.path.unlink()
    with pytest.raises(InputError, match="there is no such file"):
        read_planes([frame])


def test_content_is_the_same_however_it_is_stored(tmp_path: Path) -> None:
    keys = {
        content_key(one(tmp_path, shape=(36, 33, 1), **changes))
        for changes in (
            {},
            {"syntax": "jpeg2000"},
            {"syntax": "big-endian", "vendor": "ge", "sop_uid": lambda number: "1.2.3.4.5"},
            {"bits_allocated": 32},
        )
    }
    assert len(keys) == 1
    assert content_key(one(tmp_path, shape=(36, 33, 1), intercept=-1023)) not in keys
    assert content_key(one(tmp_path, shape=(36, 33, 1), seed=1)) not in keys


def test_content_tells_shapes_apart(tmp_path: Path) -> None:
    def blank(dataset: Dataset) -> None:
        dataset.PixelData = bytes(60)

    assert content_key(one(tmp_path, blank)) != content_key(one(tmp_path, blank, shape=(5, 6, 1)))


def test_the_same_content_with_fractional_factors(tmp_path: Path) -> None:
    def halves(dataset: Dataset) -> None:
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") * 2).astype("<u2").tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.RescaleSlope = 16, 15, "0.5"

    assert content_key(one(tmp_path, halves)) == content_key(one(tmp_path))


@pytest.mark.parametrize("syntax", ["jpeg-lossless", "jpeg-ls"])
def test_a_codestream_padded_with_one_stray_byte(tmp_path: Path, syntax: str) -> None:
    data = packed_frame(syntax).rstrip(b"\0")
    whole = read_planes([with_frame(tmp_path, syntax, data)])
    np.testing.assert_array_equal(read_planes([with_frame(tmp_path, syntax, data + b"\xbb")]), whole)
    with pytest.raises(SeriesError):
        read_planes([with_frame(tmp_path, syntax, data[:-1] + b"\xbb")])
