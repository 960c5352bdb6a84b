"""Damaged and hostile files: a wrong volume never comes out, nor any error but volseg's own."""

import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from tests.dicom_enhanced import write_enhanced
from tests.dicom_files import SeriesSpec, Written, raw_value, write_series
from tests.io.dicom.case import only, setting
from volseg.errors import VolsegError
from volseg.io import read_volume
from volseg.io.dicom.index import index_series
from volseg.io.dicom.reading import read_series
from volseg.volume import Volume

SPEC = SeriesSpec(shape=(6, 5, 5), vendor="siemens")
MIDDLE = 2
DATA_START = 132 + 12 + 152
"""First byte behind the meta group; what is said there decides how all else is read."""


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Five slices whose middle one is to be spoiled, in a copy."""
    return write_series(tmp_path_factory.mktemp("good") / "export", SPEC)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image\n" * 40,
        np.random.default_rng(0).bytes(5000),
        bytes(128) + b"DICM",
        bytes(128) + b"DICM" + np.random.default_rng(1).bytes(3000),
        bytes(4096),
        b"\xff" * 4096,
        bytes(128) + b"DICM" + b"\x08\x00\x05\x00SQ\0\0\xff\xff\xff\xff" * 3000,
    ],
    ids=["empty", "text", "random", "magic only", "magic and noise", "zeros", "ones", "nested for ever"],
)
def test_no_series_in_these_bytes(content: bytes, folder: Path):
    for name in ("scan.dcm", "scan"):
        (folder / name).write_bytes(content)
    summaries = index_series(folder)
    assert [summary for summary in summaries if summary.verdict == "ok"] == []
    assert {dropped.file.path.name for s in summaries for dropped in s.dropped} == {"scan.dcm", "scan"}
    for source in (folder, folder / "scan.dcm"):
        with pytest.raises(VolsegError):
            read_volume(source)


@pytest.mark.parametrize("syntax", ["explicit", "deflated", "rle"])
def test_file_cut_anywhere_in_the_middle_of_a_series(syntax: str, folder: Path):
    written = write_series(folder, replace(SPEC, syntax=syntax))
    whole = written.files[MIDDLE].read_bytes()
    for length in range(1, len(whole), 200):
        written.files[MIDDLE].write_bytes(whole[:length])
        with pytest.raises(VolsegError):
            read_series(folder)


def test_file_cut_anywhere_at_the_end_of_a_series(folder: Path):
    written = write_series(folder, SPEC)
    whole = written.files[-1].read_bytes()
    for length in range(201, len(whole), 200):  # a shorter one is not known for DICOM any more
        written.files[-1].write_bytes(whole[:length])
        volume = _read_or_refuse(folder)
        if volume is not None:  # a smaller volume, which says that a file beside it is damaged
            assert np.array_equal(volume.array[0], written.truth[:, :, :-1])
            assert volume.origin.dicom is not None
            assert any("damaged" in note for note in volume.origin.dicom.notes)


def _big(rows: int, columns: int) -> Callable[[Dataset, int], None]:
    return setting(Rows=rows, Columns=columns)


@pytest.mark.parametrize("syntax", ["explicit", "deflated", "rle", "jpeg-ls", "jpeg-lossless", "jpeg-12bit"])
@pytest.mark.parametrize("is_whole_series", [True, False])
def test_huge_claims_are_refused_before_memory_is_taken(syntax: str, is_whole_series: bool, folder: Path):
    edit = _big(65535, 65535)
    write_series(folder, replace(SPEC, syntax=syntax, edit=edit if is_whole_series else only(MIDDLE, edit)))
    with pytest.raises(VolsegError):
        read_volume(folder)


@pytest.mark.parametrize("count", ["0", "-1", "2", "4", "6", "100000", "2000000000", "", "x"])
def test_number_of_frames_lies(count: str, folder: Path):
    def edit(dataset: Dataset, part: int) -> None:
        raw_value(dataset, "NumberOfFrames", "IS", count.encode())

    written = write_enhanced(folder / "enhanced.dcm", SPEC, edit=edit)
    with pytest.raises(VolsegError):
        read_volume(written.files[0])


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
def test_length_of_pixel_data_lies(length: int, series: Written, folder: Path):
    _copy(series, folder)
    path = folder / series.files[MIDDLE].name
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"\xe0\x7f\x10\x00OW")
    raw[at + 8 : at + 12] = struct.pack("<I", length)
    path.write_bytes(raw)
    with pytest.raises(VolsegError):
        read_volume(folder)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_bytes_flipped_in_a_header(data: st.DataObject, series: Written):
    check_flipped(series, lambda size: data.draw(_flips(size)))


def _flips(size: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(st.integers(DATA_START, size - 1), st.integers(0, 255)), min_size=1, max_size=3)


def check_flipped(series: Written, draw: Callable[[int], list[tuple[int, int]]]) -> None:
    """Spoil bytes of the middle slice: the volume is what pydicom reads in it, or there is none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "export"
        _copy(series, folder)
        path = folder / series.files[MIDDLE].name
        raw = bytearray(path.read_bytes())
        for at, value in draw(len(raw) - 2 * SPEC.shape[0] * SPEC.shape[1]):
            raw[at] = value
        path.write_bytes(raw)
        index_series(folder)
        volume = _read_or_refuse(folder)
        if volume is not None:
            _check_volume(volume, series, path)


def _copy(series: Written, folder: Path) -> None:
    shutil.copytree(series.folder, folder, dirs_exist_ok=True)


def _read_or_refuse(folder: Path) -> Volume | None:
    try:
        return read_series(folder)
    except VolsegError:
        return None


def _check_volume(volume: Volume, series: Written, spoilt: Path) -> None:
    """The whole slices are exact and in place; the spoilt one is what it was, or what pydicom now reads in it."""
    source = volume.origin.dicom
    if source is None or {file.path for file in source.files} == {spoilt}:
        return  # it says that it is of another series now, and is a right volume of one slice
    assert volume.grid.distance_mm(series.grid) < 0.1
    array = volume.array[0].astype(np.float64)
    good = [number for number in range(SPEC.shape[2]) if number != MIDDLE]
    assert np.array_equal(array[:, :, good], series.truth[:, :, good])
    plane = array[:, :, MIDDLE]
    assert np.array_equal(plane, series.truth[:, :, MIDDLE]) or np.allclose(
        plane, _by_pydicom(spoilt), rtol=1e-6
    )


def _by_pydicom(path: Path) -> np.ndarray:
    with config.disable_value_validation():
        try:
            dataset = dcmread(path)
            slope, intercept = (
                float(dataset.get(keyword) or default)
                for keyword, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
            )
            return dataset.pixel_array.T * slope + intercept
        except (AttributeError, ValueError, TypeError, KeyError):
            reject()  # a witness that cannot read the file says nothing
