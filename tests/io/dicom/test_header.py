"""From headers to frames: tolerant of what scanners write, and a reason for every file that is no scan."""

import math
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.dicom_enhanced import Frames, write_enhanced
from tests.dicom_files import SECRETS, VENDORS, SeriesSpec, raw_value, save, slice_dataset, write_series
from volseg.io.dicom.elements import Elements, Scanner
from volseg.io.dicom.frame import Dropped, Frame, Reason
from volseg.io.dicom.header import read_frames
from volseg.origin import FileRef

ONE = SeriesSpec(shape=(6, 5, 1), orientation="oblique")


def frame_of(tmp_path: Path, edit: Callable[[Dataset], object] | None = None, **changes) -> Frame:
    (frame,) = frames_of(tmp_path, edit, **changes)
    return frame


def frames_of(tmp_path: Path, edit: Callable[[Dataset], object] | None = None, **changes) -> list[Frame]:
    found = read(tmp_path, edit, **changes)
    assert isinstance(found, list), found
    return found


def dropped_of(tmp_path: Path, edit: Callable[[Dataset], object] | None = None, **changes) -> Dropped:
    found = read(tmp_path, edit, **changes)
    assert isinstance(found, Dropped), found
    assert str(found.file) in found.text
    assert not any(secret in found.text for secret in SECRETS)
    return found


def read(tmp_path: Path, edit: Callable[[Dataset], object] | None, **changes) -> list[Frame] | Dropped:
    spec = SeriesSpec(**({"shape": (6, 5, 1), "orientation": "oblique"} | changes))
    with config.disable_value_validation():
        dataset = slice_dataset(spec, 0)
        if edit:
            edit(dataset)
        path = save(dataset, tmp_path / "file", spec)
    return read_frames(FileRef(path))


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian", "deflated", "jpeg-ls"])
def test_what_a_classic_header_says(tmp_path: Path, vendor: str, syntax: str) -> None:
    spec = SeriesSpec(orientation="oblique", vendor=vendor, syntax=syntax, slope=0.5, shape=(6, 5, 3))
    written = write_series(tmp_path, spec)
    for number, path in enumerate(written.files):
        (frame,) = read_frames(FileRef(path))
        np.testing.assert_allclose(frame.position, spec.slice_positions[number], atol=1e-5)
        np.testing.assert_allclose(frame.orientation, spec.cosines.ravel(), atol=1e-12)
        assert frame.pixel_spacing == (0.9, 0.7)
        assert (frame.rows, frame.columns) == (5, 6)
        assert (frame.slope, frame.intercept) == (0.5, -1024)
        assert frame.series.series_uid == spec.series_uid
        assert frame.series.modality == "CT"
        assert frame.frame_of_reference == spec.frame_of_reference
        assert frame.encoding.is_big_endian is (syntax == "big-endian")
        assert frame.encoding.bits_stored == 12


@pytest.mark.parametrize("preamble", ["none", "bare"])
@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian"])
def test_files_without_preamble(tmp_path: Path, preamble: str, syntax: str) -> None:
    frame = frame_of(tmp_path, preamble=preamble, syntax=syntax)
    assert frame.position == pytest.approx(ONE.slice_positions[0])
    assert frame.pixel_bytes == 60


def test_the_place_of_the_pixels(tmp_path: Path) -> None:
    frame = frame_of(tmp_path)
    assert frame.pixel_offset is not None
    data = frame.file.path.read_bytes()
    stored = np.frombuffer(data[frame.pixel_offset :], "<u2", 30).reshape(5, 6)
    np.testing.assert_array_equal(stored, ONE.stored[:, :, 0].T)
    assert frame.pixel_bytes == 60
    packed = frame_of(tmp_path, syntax="rle")
    assert packed.pixel_bytes is None
    assert packed.file.path.read_bytes()[packed.pixel_offset or 0 :][:4] == b"\xfe\xff\x00\xe0"
    assert frame_of(tmp_path, syntax="deflated").pixel_offset is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0.70000000000000000001\\0.9", (0.7, 0.9)),
        (b"0,75\\0,8", (0.75, 0.8)),
        (b"  0.75 \\ 0.8  ", (0.75, 0.8)),
        (b"7.5e-1\\+.8", (0.75, 0.8)),
        (b"0.75\\0.8\\", (0.75, 0.8)),
        (b"", None),
        (b"0.75", None),
        (b"0.75\\", None),
        (b"0\\0.8", None),
        (b"-0.75\\0.8", None),
        (b"nan\\0.8", None),
        (b"inf\\inf", None),
        (b"1,024.5\\1", None),
        (b"0.75 mm\\0.8 mm", None),
        (b"\xb2\\\xb3", None),
        (b"1_0\\2", None),
        (b"0.7\\0.8\\0.9", None),
        (b"1e999\\1", None),
    ],
)
def test_decimal_strings_as_they_come(tmp_path: Path, text: bytes, expected: tuple | None) -> None:
    frame = frame_of(tmp_path, lambda dataset: raw_value(dataset, "PixelSpacing", "DS", text))
    assert frame.pixel_spacing == expected


@given(st.floats(-1e4, 1e4), st.integers(1, 17), st.sampled_from(".,"))
@settings(max_examples=50, deadline=None)
def test_a_number_is_what_was_written(value: float, digits: int, mark: str) -> None:
    text = f"{value:.{digits}g}"
    stored = text.replace(".", mark).encode()
    assert Elements({"SliceThickness": ("DS", stored)}).number("SliceThickness") == float(text)


def test_wrong_value_representations(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        raw_value(dataset, "PixelSpacing", "FD", np.array([0.75, 0.5]).tobytes())
        raw_value(dataset, "SliceThickness", "LO", b"2.5")
        raw_value(dataset, "ImageOrientationPatient", "UN", b"1\\0\\0\\0\\0\\-1")
        raw_value(dataset, "InstanceNumber", "DS", b"12.0")

    frame = frame_of(tmp_path, edit)
    assert frame.pixel_spacing == (0.75, 0.5)
    assert frame.slice_thickness == 2.5
    assert frame.orientation == (1, 0, 0, 0, 0, -1)
    assert frame.instance_number == 12


def test_what_is_missing_is_none(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        for keyword in ("FrameOfReferenceUID", "InstanceNumber", "SliceThickness", "PixelSpacing"):
            del dataset[keyword]
        raw_value(dataset, "ImagePositionPatient", "DS", b"1\\2")
        raw_value(dataset, "ImageOrientationPatient", "DS", b"1\\0\\0\\0\\x\\0")
        del dataset["RescaleSlope"], dataset["RescaleIntercept"]

    frame = frame_of(tmp_path, edit)
    assert frame.frame_of_reference == ""
    assert frame.instance_number is frame.slice_thickness is frame.pixel_spacing is None
    assert frame.position is frame.orientation is None
    assert (frame.slope, frame.intercept) == (1, 0)
    assert "as stored" in frame.notes[0]


def test_impossible_factors_are_kept_for_the_refusal(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, lambda dataset: raw_value(dataset, "RescaleSlope", "DS", b"none"))
    assert math.isnan(frame.slope)


def test_damaged_values_warn_nobody(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        raw_value(dataset, "SOPInstanceUID", "UI", b"not a uid")
        raw_value(dataset, "SeriesDescription", "LO", b"\x1b[31mred\xff" + b"x" * 100)
        raw_value(dataset, "SpecificCharacterSet", "CS", b"ISO_IR 999")
        raw_value(dataset, "PatientBirthDate", "DA", b"yesterday")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = frame_of(tmp_path, edit).file.path
    (frame,) = frames_of_path(path)  # a warning is an error here
    assert "\x1b" not in frame.series.description


def test_text_in_its_character_set(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 192"
        raw_value(dataset, "SeriesDescription", "LO", "Schädel nativ".encode())

    assert frame_of(tmp_path, edit).series.description == "Schädel nativ"


def test_no_identity_but_a_hash_that_tells_patients_apart(tmp_path: Path) -> None:
    first, again = (frame_of(tmp_path) for _ in range(2))
    other = frame_of(tmp_path, patient_id="GEHEIM-ID-78")
    assert first.series.patient == again.series.patient != other.series.patient
    shown = repr((first.series, first.notes, first.encoding))
    assert not any(secret in shown for secret in SECRETS)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda d: d.update({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}), Reason.SCOUT),
        (lambda d: d.update({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}), Reason.SCREENSHOT),
        (lambda d: d.update({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}), Reason.SCREENSHOT),
        (lambda d: d.update({"PhotometricInterpretation": "PALETTE COLOR"}), Reason.SCREENSHOT),
        (lambda d: d.update({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}), Reason.NOT_IMAGE),
        (lambda d: d.update({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.30"}), Reason.NOT_IMAGE),
        (lambda d: d.update({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}), Reason.NOT_IMAGE),
        (lambda d: d.update({"Rows": 0}), Reason.UNREADABLE),
        (lambda d: d.__delitem__("Columns"), Reason.UNREADABLE),
        (lambda d: d.__delitem__("BitsAllocated"), Reason.UNREADABLE),
        (lambda d: d.__delitem__("PixelRepresentation"), Reason.UNREADABLE),
        (lambda d: d.update({"NumberOfFrames": 99999999}), Reason.UNREADABLE),
        (lambda d: d.update({"NumberOfFrames": -1}), Reason.UNREADABLE),
    ],
)
def test_files_set_aside(tmp_path: Path, edit: Callable[[Dataset], object], reason: Reason) -> None:
    assert dropped_of(tmp_path, edit).reason is reason


@pytest.mark.parametrize("keep", ["modality SR", "nothing"])
def test_objects_without_pixels(tmp_path: Path, keep: str) -> None:
    def edit(dataset: Dataset) -> None:
        for keyword in ("Rows", "Columns", "BitsAllocated", "PixelData"):
            del dataset[keyword]
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        dataset.Modality = keep.removeprefix("modality ") if keep != "nothing" else None

    dropped = dropped_of(tmp_path, edit)
    assert dropped.reason is Reason.NOT_IMAGE
    assert "Basic Text SR" in dropped.text


def test_a_scan_without_pixels_is_incomplete_not_another_kind(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        for keyword in ("Rows", "Columns", "BitsAllocated", "PixelData"):
            del dataset[keyword]

    assert dropped_of(tmp_path, edit).reason is Reason.UNREADABLE


def test_secondary_captures(tmp_path: Path) -> None:
    capture = "1.2.840.10008.5.1.4.1.1.7"

    def without_place(dataset: Dataset) -> None:
        dataset.SOPClassUID = capture
        del dataset["ImagePositionPatient"]

    assert dropped_of(tmp_path, without_place).reason is Reason.SCREENSHOT
    placed = frame_of(tmp_path, lambda dataset: dataset.update({"SOPClassUID": capture}))
    assert placed.position is not None


def test_a_mosaic_and_a_scan_without_position_stay_frames(tmp_path: Path) -> None:
    mosaic = frame_of(tmp_path, lambda d: d.update({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}))
    assert "MOSAIC" in mosaic.traits.image_type
    lost = frame_of(tmp_path, lambda dataset: dataset.__delitem__("ImagePositionPatient"))
    assert lost.position is None


def test_a_file_cut_anywhere_gives_frames_to_refuse_or_a_reason(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, vendor="philips")
    data = frame.file.path.read_bytes()
    assert frame.pixel_offset is not None
    seen = set()
    for length in range(0, len(data), 3):
        frame.file.path.write_bytes(data[:length])
        found = read_frames(frame.file)
        if isinstance(found, Dropped):
            seen.add(found.reason)
            assert length < frame.pixel_offset
            assert found.reason is (Reason.NOT_DICOM if length < 132 else Reason.UNREADABLE)
        else:
            assert found[0].position == frame.position
            assert min(found[0].pixel_bytes or 0, length - (found[0].pixel_offset or 0)) < 60
    assert seen == {Reason.NOT_DICOM, Reason.UNREADABLE}


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_damage_in_the_header_never_raises(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    path = frame_of(folder, vendor=data.draw(st.sampled_from(VENDORS))).file.path
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    assert read_frames(FileRef(path))


def test_endless_nesting_is_damage(tmp_path: Path) -> None:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    nested = (b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + item) * 5000
    start = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100\x08\x00\x08\x00CS\x02\x00A\\"
    (tmp_path / "deep").write_bytes(start + nested)
    dropped = read_frames(FileRef(tmp_path / "deep"))
    assert isinstance(dropped, Dropped)
    assert dropped.reason is Reason.UNREADABLE


@pytest.mark.parametrize("is_undefined", [True, False])
@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian"])
def test_elements_inside_other_sequences_are_not_the_files(
    tmp_path: Path, syntax: str, is_undefined: bool
) -> None:
    inner = Dataset()
    inner.ImagePositionPatient, inner.Rows, inner.PixelData = [9, 9, 9], 99, b"\1\2"
    inner["PixelData"].VR = "OW"

    def edit(dataset: Dataset) -> None:
        dataset.ReferencedImageSequence = Sequence([inner, inner])
        dataset["ReferencedImageSequence"].is_undefined_length = is_undefined
        for item in dataset.ReferencedImageSequence:
            item.is_undefined_length_sequence_item = is_undefined

    frame = frame_of(tmp_path, edit, syntax=syntax)
    assert frame.position == pytest.approx(ONE.slice_positions[0])
    assert frame.rows == 5


@pytest.mark.parametrize("shared", [("measures", "orientation"), (), ("measures", "orientation", "values")])
@pytest.mark.parametrize("syntax", ["implicit", "explicit", "rle"])
def test_enhanced_frames_in_any_order(tmp_path: Path, shared: tuple, syntax: str) -> None:
    spec = SeriesSpec(
        orientation="sagittal",
        shape=(6, 5, 4),
        slope=[1, 1, 1, 1] if shared[2:] else [1, 0.5, 2, 3],
        syntax=syntax,
    )
    frames = Frames(order=lambda count: [2, 0, 3, 1], shared=shared)
    written = write_enhanced(tmp_path / "multi", spec, frames)
    found = read_frames(FileRef(written.files[0]))
    assert isinstance(found, list)
    assert [frame.number for frame in found] == [0, 1, 2, 3]
    for frame, number in zip(found, [2, 0, 3, 1], strict=True):
        np.testing.assert_allclose(frame.position, spec.slice_positions[number], atol=1e-9)
        np.testing.assert_allclose(frame.orientation, spec.cosines.ravel(), atol=1e-9)
        assert frame.pixel_spacing == (0.9, 0.7)
        assert frame.slope == spec.slopes[number]
        assert frame.file_frames == 4
        assert frame.encoding is found[0].encoding


@pytest.mark.parametrize(
    ("dimension", "values", "trait"),
    [
        ("temporal", (1, 2), "temporal_position"),
        ("echo", (4.6, 9.2), "echo_time_ms"),
        ("b-value", (0.0, 800.0), "b_value"),
        ("stack", (1, 2), "stack_id"),
    ],
)
def test_enhanced_traits(tmp_path: Path, dimension: str, values: tuple, trait: str) -> None:
    spec = SeriesSpec(shape=(6, 5, 3), modality="MR", intercept=0)
    written = write_enhanced(tmp_path / "multi", spec, Frames(dimension=dimension, values=values))
    found = read_frames(FileRef(written.files[0]))
    assert isinstance(found, list)
    expected = [str(value) if dimension == "stack" else value for value in np.repeat(values, 3).tolist()]
    assert [getattr(frame.traits, trait) for frame in found] == expected


def test_further_enhanced_macros(tmp_path: Path) -> None:
    def edit(group: Dataset, number: int) -> None:
        for sequence, keyword, value in (
            ("MRModifierSequence", "InversionTimes", [150.0]),
            ("MRTimingAndRelatedParametersSequence", "RepetitionTime", "500"),
            ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", 33.5 + number),
            ("ContrastBolusUsageSequence", "ContrastBolusAgentPhase", "POST_CONTRAST"),
            ("MRImageFrameTypeSequence", "FrameType", ["ORIGINAL", "PRIMARY", "T1", "NONE"]),
        ):
            item = Dataset()
            setattr(item, keyword, value)
            setattr(group, sequence, [item])
        group.FrameContentSequence[0].FrameAcquisitionDateTime = f"2019081711223{number}"
        direction = Dataset()
        direction.DiffusionGradientOrientation = [0.0, 0.6, 0.8]
        diffusion = Dataset()
        diffusion.DiffusionGradientDirectionSequence = [direction]
        group.MRDiffusionSequence = [diffusion]

    spec = SeriesSpec(shape=(6, 5, 2), modality="MR", edit=edit)
    written = write_enhanced(tmp_path / "multi", spec)
    found = read_frames(FileRef(written.files[0]))
    assert isinstance(found, list)
    traits = found[1].traits
    assert (traits.inversion_time_ms, traits.repetition_time_ms, traits.trigger_time_ms) == (150, 500, 34.5)
    assert traits.contrast_phase == "POST_CONTRAST"
    assert traits.image_type == ("ORIGINAL", "PRIMARY", "T1", "NONE")
    assert traits.gradient == (0.0, 0.6, 0.8)
    assert traits.acquisition_time == "20190817112231"


def test_concatenations_and_single_frames(tmp_path: Path) -> None:
    written = write_enhanced(tmp_path / "multi", SeriesSpec(shape=(6, 5, 3)), Frames(parts=3))
    for part, path in enumerate(written.files):
        (frame,) = read_frames(FileRef(path))
        assert frame.concatenation == ("1.2.826.0.1.999.77", part + 1, 3)
        assert frame.position == pytest.approx(written.spec.slice_positions[part])


def test_groups_that_do_not_add_up(tmp_path: Path) -> None:
    def edit(dataset: Dataset, part: int) -> None:
        dataset.NumberOfFrames = 5

    written = write_enhanced(tmp_path / "multi", SeriesSpec(shape=(6, 5, 3)), edit=edit)
    dropped = read_frames(FileRef(written.files[0]))
    assert isinstance(dropped, Dropped)
    assert "announces 5 frames and describes 3" in dropped.text


def test_old_multi_frames_have_no_position(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.NumberOfFrames = 2
        dataset.PixelData *= 2

    found = frames_of(tmp_path, edit)
    assert [frame.position for frame in found] == [None, None]


@pytest.mark.parametrize(
    ("creators", "values", "b_value", "gradient"),
    [
        (
            {0x00190010: "SIEMENS MR HEADER"},
            {0x0019100C: ("IS", "800"), 0x0019100E: ("FD", [0.0, 0.0, 1.0])},
            800,
            (0, 0, 1),
        ),
        ({0x00190010: "OTHER"}, {0x0019100C: ("IS", "800")}, None, None),
        ({0x00430010: "GEMS_PARM_01"}, {0x00431039: ("IS", ["1000000050", "8", "0", "0"])}, 50, None),
        ({0x20010010: "Philips Imaging DD 001"}, {0x20011003: ("FL", 400.0)}, 400, None),
        ({0x00650010: "Image Private Header"}, {0x00651009: ("FD", 600.0)}, 600, None),
    ],
)
@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_private_diffusion(
    tmp_path: Path, creators: dict, values: dict, b_value: float | None, gradient: tuple | None, syntax: str
) -> None:
    def edit(dataset: Dataset) -> None:
        for tag, name in creators.items():
            dataset.add_new(tag, "LO", name)
        for tag, (vr, value) in values.items():
            dataset.add_new(tag, vr, value)

    traits = frame_of(tmp_path, edit, modality="MR", syntax=syntax).traits
    assert (traits.b_value, traits.gradient) == (b_value, gradient)


def test_classic_traits(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.EchoTime, dataset.EchoNumbers, dataset.FlipAngle = "4.6", 2, "15"
        dataset.TemporalPositionIdentifier, dataset.TriggerTime = 3, "33"
        dataset.ScanningSequence, dataset.ConvolutionKernel = ["GR", "SE"], ["B30f", "3"]

    traits = frame_of(tmp_path, edit).traits
    assert (traits.echo_time_ms, traits.echo_number, traits.flip_angle) == (4.6, 2, 15)
    assert (traits.temporal_position, traits.trigger_time_ms, traits.acquisition_number) == (3, 33, 1)
    assert (traits.scanning_sequence, traits.kernel) == ("GR\\SE", "B30f\\3")
    assert traits.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert traits.acquisition_time == traits.content_time == "20190817112233.445"


def test_time_slots_of_dynamic_pet(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.SeriesType, dataset.NumberOfSlices, dataset.ImageIndex = ["DYNAMIC", "IMAGE"], 47, 95
        dataset.Units = "BQML"

    frame = frame_of(tmp_path, edit, modality="PT")
    assert frame.traits.temporal_position == 3
    assert frame.notes == ("PET: the values' unit is BQML; no SUV factor was applied",)


def test_notes_and_the_modality_table(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.LossyImageCompression = "01"
        dataset.add_new(0x20050010, "LO", "Philips MR Imaging DD 001")
        dataset.add_new(0x2005100E, "FL", 0.0123)
        item = Dataset()
        item.LUTDescriptor = [256, 0, 16]
        dataset.ModalityLUTSequence = [item]

    frame = frame_of(tmp_path, edit, modality="MR")
    assert frame.encoding.has_modality_lut
    assert [note.split(":")[0] for note in frame.notes] == [
        "Philips",
        "the pixels were once compressed with loss",
    ]


def test_frames_of_a_series_share_what_is_the_same(tmp_path: Path) -> None:
    written = write_series(tmp_path, SeriesSpec(shape=(6, 5, 40), vendor="siemens"))
    frames = [frame for path in written.files for frame in frames_of_path(path)]
    for name in ("series", "encoding", "traits", "orientation", "pixel_spacing", "sop_class"):
        assert len({id(getattr(frame, name)) for frame in frames}) == 1
    own = sum(map(sys.getsizeof, (frames[0], frames[0].position, frames[0].sop_uid, frames[0].file)))
    assert own < 600


def frames_of_path(path: Path) -> list[Frame]:
    found = read_frames(FileRef(path))
    assert isinstance(found, list)
    return found


def test_little_is_read_of_a_large_file(tmp_path: Path) -> None:
    class Counting:
        def __init__(self, data: bytes) -> None:
            self.data, self.position, self.read_bytes = data, 0, 0

        def seek(self, position: int) -> None:
            self.position = position

        def read(self, count: int) -> bytes:
            found = self.data[self.position : self.position + count]
            self.position += len(found)
            self.read_bytes += len(found)
            return found

    def edit(dataset: Dataset) -> None:
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", bytes(1 << 22))

    path = frame_of(tmp_path, edit).file.path
    stream = Counting(path.read_bytes())
    scanner = Scanner(stream, len(stream.data), {0x00280010: "Rows"})  # pyright: ignore[reportArgumentType]
    layout, elements = scanner.layout(), Elements()
    assert layout is not None
    assert scanner.scan(layout, elements)
    assert elements.whole("Rows") == 5
    assert stream.read_bytes < 1 << 17


def picture(vr: bytes) -> bytes:
    """Fragments of a picture (PS3.5 A.4) whose bytes are no elements."""
    item = (
        struct.pack("<HHI", 0xFFFE, 0xE000, 0),
        struct.pack("<HHI", 0xFFFE, 0xE000, 18),
        bytes(range(1, 19)),
    )
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return vr + struct.pack("<HI", 0, 0xFFFFFFFF) + b"".join(item) + end


@pytest.mark.parametrize("has_icon", [True, False])
def test_packed_pictures_before_the_pixels(tmp_path: Path, has_icon: bool) -> None:
    file = save(slice_dataset(ONE, 0), tmp_path / "file", ONE)
    data = file.read_bytes()
    pixels = data.index(struct.pack("<HH", 0x7FE0, 0x0010) + b"OW")
    if has_icon:
        inner = struct.pack("<HH", 0x7FE0, 0x0010) + picture(b"OB")
        item = (
            struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        )
        head = struct.pack("<HH2sHI", 0x0088, 0x0200, b"SQ", 0, 0xFFFFFFFF)
        added = head + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    else:
        added = struct.pack("<HH", 0x0029, 0x1010) + picture(b"OB")
    file.write_bytes(data[:pixels] + added + data[pixels:])
    (frame,) = frames_of_path(file)
    assert (frame.pixel_offset, frame.pixel_bytes) == (pixels + len(added) + 12, 60)


@pytest.mark.parametrize(
    ("written", "found"), [(None, "MONOCHROME2"), ("", "MONOCHROME2"), ("monochrome1", "MONOCHROME1")]
)
def test_one_sample_is_grey_unless_said_otherwise(tmp_path: Path, written: str | None, found: str) -> None:
    def edit(dataset: Dataset) -> None:
        del dataset.PhotometricInterpretation
        if written is not None:
            raw_value(dataset, "PhotometricInterpretation", "CS", written.encode())

    assert frame_of(tmp_path, edit).encoding.photometric == found


def test_whether_a_rescale_was_given(tmp_path: Path) -> None:
    assert frame_of(tmp_path).has_rescale
    assert not frame_of(tmp_path, lambda dataset: dataset.pop("RescaleSlope")).has_rescale
