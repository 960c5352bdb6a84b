"""The whole way: a series into the PACS, out again both ways, segmented, the result back in and found beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.dicom_files import SECRETS, SeriesSpec, Written, write_series
from tests.pacs.conftest import TITLE, US, Orthanc
from volseg.cli.app import run
from volseg.io import read_volume
from volseg.io.dicom.seg import read_seg, write_seg
from volseg.io.pacs import SeriesQuery, Server, fetch_series, find_series, store_files
from volseg.labels import Code, Label, LabelTable
from volseg.volume import LabelMap, Volume

pytestmark = pytest.mark.pacs

SPEC = SeriesSpec(
    shape=(24, 20, 9),
    orientation="oblique",
    tilt_degrees=11.0,
    study_uid="1.2.826.0.1.999.43",
    series_uid="1.2.826.0.1.999.43.1",
)
LABELS = LabelTable(
    (
        Label(1, "liver", (230, 75, 53), Code("SCT", "10200004", "Liver")),
        Label(2, "spleen", (77, 187, 213), Code("SCT", "78961009", "Spleen")),
    )
)


@dataclass(frozen=True)
class Stay:
    """A series in the PACS and the folders it was fetched into, by protocol."""

    written: Written
    folders: dict[str, Path]


@pytest.fixture(scope="module")
def stay(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Stay:
    folder = tmp_path_factory.mktemp("stay")
    written = write_series(folder / "scanner", SPEC)
    store_files(orthanc.node, [written.folder])
    folders = {"web": folder / "web", "node": folder / "node"}
    fetch_series(orthanc.web, SPEC.series_uid, folders["web"])
    fetch_series(orthanc.node, SPEC.series_uid, folders["node"])
    return Stay(written, folders)


def segmented(volume: Volume) -> LabelMap:
    """Two levels of intensity as two labels."""
    levels = np.quantile(volume.array, [0.6, 0.85])
    return LabelMap(np.digitize(volume.array[0], levels).astype(np.uint8), volume.grid, LABELS)


def test_both_ways_bring_the_same_bytes_and_the_same_volume(stay: Stay):
    sent = {dcmread(file).SOPInstanceUID: dcmread(file).PixelData for file in stay.written.files}
    for folder in stay.folders.values():
        came = {dcmread(file).SOPInstanceUID: dcmread(file).PixelData for file in folder.iterdir()}
        assert came == sent
        volume = read_volume(folder)
        np.testing.assert_array_equal(volume.array[0], stay.written.truth)
        np.testing.assert_allclose(volume.grid.affine, stay.written.grid.affine, atol=1e-4)
        assert np.unravel_index(volume.array[0].argmax(), volume.grid.shape) == stay.written.marker


@pytest.mark.parametrize("protocol", ["web", "node"])
def test_a_result_is_stored_beside_its_series_and_reads_back_equal(
    orthanc: Orthanc, stay: Stay, tmp_path: Path, protocol: str
):
    server: Server = orthanc.web if protocol == "web" else orthanc.node
    volume = read_volume(stay.folders[protocol])
    label_map = segmented(volume)
    before = {series.series_uid for series in segmentations(orthanc)}
    write_seg(label_map, tmp_path / "result.dcm", source=volume, model="threshold")
    assert len(store_files(server, [tmp_path / "result.dcm"]).stored) == 1
    new = [series for series in segmentations(orthanc) if series.series_uid not in before]
    assert [(series.study_uid, series.modality, series.instances) for series in new] == [
        (SPEC.study_uid, "SEG", 1)
    ]
    (file,) = fetch_series(server, new[0].series_uid, tmp_path / "back")
    assert dcmread(file).ReferencedSeriesSequence[0].SeriesInstanceUID == SPEC.series_uid
    back = read_seg(file, grid=volume.grid)
    np.testing.assert_array_equal(back.array, label_map.array)
    assert [label.name for label in back.labels] == ["liver", "spleen"]


def segmentations(orthanc: Orthanc):
    return find_series(orthanc.web, SeriesQuery(study_uid=SPEC.study_uid, modality="SEG"))


@pytest.mark.parametrize("protocol", ["web", "node"])
def test_the_verbs_do_the_same(
    orthanc: Orthanc,
    stay: Stay,
    tmp_path: Path,
    protocol: str,
    capfd: pytest.CaptureFixture[str],
):
    node = ("--dimse", str(orthanc.node), "--called", TITLE, "--aet", US)
    server = ("--dicomweb", orthanc.url) if protocol == "web" else node
    told = ""

    def volseg(*words: object) -> str:
        nonlocal told
        assert run(["pacs", *map(str, words), *server]) == 0
        captured = capfd.readouterr()
        told += captured.out + captured.err
        return captured.out

    assert volseg("store", stay.written.folder).startswith("stored  9 instances at ")
    assert SPEC.series_uid in volseg("find", "--study", SPEC.study_uid, "--modality", "CT")
    out = tmp_path / "out"
    assert volseg("fetch", out, "--series", SPEC.series_uid) == f"fetched 9 instances into {out}\n"
    assert len(list(out.iterdir())) == 9
    assert not any(secret in told for secret in SECRETS)
