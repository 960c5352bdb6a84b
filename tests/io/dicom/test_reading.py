"""From a folder to the one volume that is meant: exact, or an error that says what to do."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.dicom_files import SECRETS, SeriesSpec, Written, write_dicomdir, write_series, zip_folder
from tests.io.dicom.case import part, setting
from volseg.errors import FileFormatError, InputError, SeriesError
from volseg.io import is_dicom_source, read_label_map, read_volume, write_volume
from volseg.io.dicom.index import index_series
from volseg.io.dicom.reading import is_segmentation, read_series, read_stack, read_summary
from volseg.volume import Volume

CT = SeriesSpec(tilt_degrees=14.0)
BONE = replace(
    CT, shape=(7, 4, 5), series_uid="1.2.826.0.1.999.1.22", series_number=2, seed=3, description="bone"
)


def check_exact(volume: Volume, written: Written) -> None:
    assert volume.grid.distance_mm(written.grid) < 0.01
    np.testing.assert_allclose(volume.array[0], written.truth, atol=1e-3)
    brightest = np.unravel_index(int(volume.array[0].argmax()), volume.grid.shape)
    np.testing.assert_allclose(volume.grid.index_to_world(brightest), written.marker_ras, atol=0.01)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique", "prone"])
def test_bright_voxel_is_where_it_was(folder: Path, orientation: str):
    written = write_series(folder, replace(CT, orientation=orientation))
    check_exact(read_series(folder), written)


def test_origin_knows_the_planes(folder: Path):
    written = write_series(folder / "deep" / "er", replace(CT, series_uid="1.2.3.4.5"))
    origin = read_series(folder).origin
    assert (origin.path, origin.series_uid, origin.modality) == (folder / "deep" / "er", "1.2.3.4.5", "CT")
    assert origin.dicom is not None
    assert [file.path for file in origin.dicom.files] == list(written.files)
    assert origin.dicom.frames == (0,) * 7
    np.testing.assert_array_equal(origin.dicom.slices, range(7))


def test_array_is_a_view_with_the_columns_fastest(folder: Path):
    write_series(folder, CT)
    volume = read_series(folder)
    assert volume.array.dtype == np.int16
    assert volume.array.shape == (1, 6, 5, 7)
    assert volume.array[0].flags.f_contiguous


def test_every_kind_of_source(folder: Path, tmp_path: Path):
    written = write_series(folder, CT)
    archive = zip_folder(folder, tmp_path / "export.zip")
    disc = write_dicomdir(tmp_path / "disc", [written])
    for source in (folder, archive, disc, disc.parent):
        assert is_dicom_source(source)
        check_exact(read_volume(source), written)
        check_exact(read_volume(str(source)), written)
    assert read_volume(archive).origin.path == archive
    assert read_volume(disc).origin.path == disc.parent or read_volume(disc).origin.path.is_relative_to(
        disc.parent
    )


@pytest.mark.parametrize("name", ["IM0001", "scan.dcm", "scan.IMA", "1.2.3.4", "scan.img", "scan.jpg"])
def test_one_file_of_any_name(folder: Path, name: str):
    written = write_series(folder, replace(CT, shape=(6, 5, 1), file_name=lambda _: name))
    volume = read_volume(folder / name)
    assert volume.array.shape == (1, 6, 5, 1)
    np.testing.assert_array_equal(volume.array[0], written.truth)


def test_an_image_suffix_is_believed(tmp_path: Path):
    array = np.zeros((5, 6, 7), np.int16)
    nib.save(nib.Nifti1Pair(array, np.eye(4)), tmp_path / "scan.hdr")
    assert not is_dicom_source(tmp_path / "scan.img")
    assert read_volume(tmp_path / "scan.img").grid.shape == (5, 6, 7)


def test_nifti_keeps_the_tilt(folder: Path, tmp_path: Path):
    written = write_series(folder, CT)
    write_volume(read_series(folder), tmp_path / "ct.nii.gz")
    image = nib.load(tmp_path / "ct.nii.gz")
    np.testing.assert_allclose(image.affine, written.grid.affine, atol=1e-4)
    assert b"GEHEIM" not in image.header.binaryblock
    assert image.header["descrip"].item() == b""


def test_folders_are_channels_of_one_case(folder: Path):
    first, second = write_series(folder / "a", CT), write_series(folder / "b", replace(CT, seed=5))
    volume = read_volume([folder / "a", folder / "b"])
    np.testing.assert_array_equal(volume.array, [first.truth, second.truth])
    assert volume.origin.other_paths == (folder / "b",)


def test_several_series_are_listed(folder: Path):
    write_series(folder / "a", CT)
    write_series(folder / "b", BONE)
    with pytest.raises(SeriesError) as caught:
        read_volume(folder)
    message = str(caught.value)
    assert caught.value.reason == "ambiguous"
    words = (
        "test series",
        "bone",
        "6 x 5 x 7",
        "7 x 4 x 5",
        "0.7 x 0.9 x 2.5 mm",
        CT.series_uid,
        BONE.series_uid,
    )
    assert [word for word in (*words, "--series") if word not in message] == []
    assert not [secret for secret in SECRETS if secret in message]


@pytest.mark.parametrize("wanted", ["1.2.826.0.1.999.1.22", "999.1.22", "22"])
def test_a_series_is_named_by_its_uid_or_an_ending(folder: Path, wanted: str):
    write_series(folder / "a", CT)
    bone = write_series(folder / "b", BONE)
    check_exact(read_series(folder, series=wanted), bone)


def test_a_key_or_ending_that_does_not_fit_one(folder: Path):
    write_series(folder / "a", CT)
    write_series(folder / "b", replace(BONE, series_uid="1.2.826.0.1.999.3.1"))
    for wanted, reason in (("1", "ambiguous"), ("999", "unknown-series"), ("", "unknown-series")):
        with pytest.raises(SeriesError, match="series") as caught:
            read_series(folder, series=wanted)
        assert caught.value.reason == reason


def test_volumes_of_one_series_have_keys_of_their_own(folder: Path):
    for name, number in (("A", 1), ("B", 2)):
        write_series(folder, part(CT, name, seed=number, edit=setting(TemporalPositionIdentifier=number)))
    for wanted in (None, CT.series_uid):
        with pytest.raises(SeriesError, match="#2") as caught:
            read_series(folder, series=wanted)
        assert caught.value.reason == "ambiguous"
    keys = [summary.key for summary in index_series(folder)]
    first, second = (read_series(folder, series=key) for key in keys)
    assert not np.array_equal(first.array, second.array)
    np.testing.assert_array_equal(read_series(folder, series="#2").array, second.array)
    np.testing.assert_array_equal(read_series(folder, series="#1").array, first.array)


def test_a_series_that_was_sent_again_is_one(folder: Path):
    written = write_series(folder / "a", CT)
    write_series(folder / "b", replace(CT, series_uid="1.2.826.0.1.999.1.5", syntax="rle"))
    check_exact(read_series(folder), written)


def test_the_same_grid_with_other_content_is_no_copy(folder: Path):
    write_series(folder / "a", CT)
    write_series(folder / "b", replace(CT, series_uid="1.2.826.0.1.999.1.5", seed=9))
    with pytest.raises(SeriesError) as caught:
        read_series(folder)
    assert caught.value.reason == "ambiguous"


def test_a_refused_series_says_why(folder: Path):
    write_series(folder, CT).files[3].unlink()
    for wanted in (None, CT.series_uid):
        with pytest.raises(SeriesError, match=r"slice|gap") as caught:
            read_series(folder, series=wanted)
        assert caught.value.reason == "missing-slices"


def test_gaps_are_filled_on_request_and_told(folder: Path, caplog: pytest.LogCaptureFixture):
    written = write_series(folder, CT)
    written.files[3].unlink()
    volume = read_series(folder, allow_gaps=True)
    assert volume.grid.distance_mm(written.grid) < 0.01
    kept = [0, 1, 2, 4, 5, 6]
    np.testing.assert_allclose(volume.array[0][:, :, kept], written.truth[:, :, kept], atol=0.5)
    between = (written.truth[:, :, 2] + written.truth[:, :, 4]) / 2
    np.testing.assert_allclose(volume.array[0][:, :, 3], between, atol=0.51)
    assert volume.origin.dicom is not None
    np.testing.assert_allclose(volume.origin.dicom.slices, kept)
    assert volume.origin.dicom.notes
    assert volume.origin.dicom.notes[0] in caplog.text


def test_a_small_volume_is_not_taken_for_a_large_one_that_is_refused(folder: Path):
    write_series(folder / "a", CT).files[3].unlink()
    small = write_series(folder / "b", replace(BONE, shape=(6, 5, 2)))
    with pytest.raises(SeriesError, match="--series") as caught:
        read_series(folder)
    assert caught.value.reason == "missing-slices"
    check_exact(read_series(folder, series=BONE.series_uid), small)


def test_a_refused_series_of_another_modality_is_a_rival_unless_the_series_is_named(folder: Path):
    other = replace(CT, modality="MR", series_uid="1.2.826.0.1.999.1.5", study_uid="1.2.826.0.1.999.6")
    write_series(folder / "a", other).files[3].unlink()
    written = write_series(folder / "b", BONE)
    with pytest.raises(SeriesError) as caught:
        read_series(folder)
    assert caught.value.reason == "missing-slices"
    check_exact(read_series(folder, series=BONE.series_uid), written)


def test_a_series_that_lost_a_file_to_damage_is_refused(folder: Path):
    written = write_series(folder, CT)
    outermost = written.files[-1]  # at the end of the stack no gap would show
    whole = outermost.read_bytes()
    outermost.write_bytes(whole[: whole.rindex(CT.series_uid.encode()) + 40])
    with pytest.raises(SeriesError, match=outermost.name) as caught:
        read_series(folder)
    assert caught.value.reason == "unreadable"
    rest = read_series(folder, allow_gaps=True)
    assert rest.grid.shape[2] == CT.shape[2] - 1
    assert rest.origin.dicom is not None
    assert outermost.name in "".join(rest.origin.dicom.notes)


def test_pixels_that_cannot_be_decoded_are_told_by_the_index(folder: Path):
    write_series(folder, replace(CT, edit=setting(RescaleSlope=0)))
    (summary,) = index_series(folder)
    assert (summary.verdict, summary.reason) == ("refused", "unsupported")


def test_damaged_files_beside_the_series_are_named(folder: Path, caplog: pytest.LogCaptureFixture):
    written = write_series(folder / "a", CT)
    (folder / "a" / "torn").write_bytes(written.files[0].read_bytes()[:700])
    (folder / "b").mkdir()
    (folder / "b" / "elsewhere").write_bytes(written.files[0].read_bytes()[:700])
    with caplog.at_level(logging.WARNING):
        volume = read_series(folder)
    check_exact(volume, written)
    (warning,) = caplog.messages
    assert str(folder / "a" / "torn") in warning
    assert "elsewhere" not in warning
    assert volume.origin.dicom is not None
    assert any("torn" in note for note in volume.origin.dicom.notes)


def test_what_was_set_aside_is_noted(folder: Path):
    write_series(folder, CT)
    write_series(folder / "again", CT)
    volume = read_series(folder)
    assert volume.origin.dicom is not None
    assert "set aside: 7 x duplicate" in volume.origin.dicom.notes


def test_a_refused_or_missing_stack_is_not_read(folder: Path):
    write_series(folder, CT).files[3].unlink()
    write_series(folder / "s", replace(BONE, edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])))
    summaries = index_series(folder)
    for summary in summaries:
        with pytest.raises(SeriesError):
            read_summary(summary, summaries)
    refused = next(summary.stack for summary in summaries if summary.stack)
    with pytest.raises(SeriesError) as caught:
        read_stack(refused)
    assert caught.value.reason == "missing-slices"


def test_a_folder_without_dicom(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing here")
    for read in (read_series, read_volume):
        with pytest.raises(
            FileFormatError, match=r"is a folder; expected an image file, or a folder of DICOM"
        ):
            read(tmp_path)


def test_an_archive_without_dicom(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing here")
    with pytest.raises(FileFormatError, match="an archive of DICOM files"):
        read_volume(zip_folder(tmp_path / "in", tmp_path / "a.zip"))


def test_only_scouts(folder: Path):
    write_series(folder, replace(CT, edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])))
    with pytest.raises(SeriesError, match="no image series among 7 files") as caught:
        read_series(folder)
    assert caught.value.reason == "scout"


def test_a_series_is_no_label_map(folder: Path):
    written = write_series(folder, CT)
    with pytest.raises(InputError, match="is a folder"):
        read_label_map(folder)
    assert not is_segmentation(written.files[0])
    assert not is_segmentation(folder)


def test_readers_of_dicom_are_loaded_for_dicom_only(folder: Path, tmp_path: Path):
    nib.save(nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    code = f"import sys; from volseg.io import read_volume; read_volume({str(tmp_path / 'a.nii.gz')!r}); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    loaded = run.stdout.split()  # nibabel loads pydicom on its own
    assert {"highdicom", "SimpleITK"}.isdisjoint(loaded)
    assert not [name for name in loaded if name.startswith("volseg.io.dicom")]


@pytest.mark.parametrize(
    ("name", "content"), [("IM9999", b""), ("a.dcm", b"\0" * 500), ("readme.txt", b"hello")]
)
def test_files_that_may_have_been_slices_are_named(folder: Path, name: str, content: bytes):
    written = write_series(folder / "a", CT)
    (folder / "a" / name).write_bytes(content)
    (folder / "elsewhere").write_bytes(b"")
    volume = read_series(folder)
    check_exact(volume, written)
    assert volume.origin.dicom is not None
    told = " ".join(volume.origin.dicom.notes)
    assert (name in told) is (name != "readme.txt")
    assert "elsewhere" not in told


def test_what_the_values_are_is_noted(folder: Path):
    write_series(folder, replace(CT, modality="PT", slope=0.25, intercept=0.0))
    (summary,) = index_series(folder)
    origin = read_series(folder).origin
    assert origin.dicom is not None
    assert origin.dicom.notes == ("PET: the values' unit is not given; no SUV factor was applied",)
    assert summary.text == origin.dicom.notes[0]


def test_a_series_without_a_uid_has_a_key(folder: Path):
    def edit(dataset: Dataset, _: int) -> None:
        del dataset.SeriesInstanceUID

    written = write_series(folder, replace(CT, edit=edit))
    (summary,) = index_series(folder)
    assert (summary.key, summary.series_uid, summary.verdict) == ("no-uid", "", "ok")
    check_exact(read_series(folder), written)
