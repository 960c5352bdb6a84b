"""DICOMweb against Orthanc: what goes in comes out as it was, nothing is told about the patient."""

import logging
from pathlib import Path

import pytest
import requests
from pydicom import dcmread

from tests.dicom_files import SECRETS, SeriesSpec, write_series
from tests.dicom_pixels import TRANSFER_SYNTAXES
from tests.pacs.conftest import Orthanc
from volseg.errors import InputError
from volseg.io.pacs import DicomWeb, SeriesQuery, fetch_series, find_series, store_files

pytestmark = pytest.mark.pacs

STUDY = "1.2.826.0.1.999.41"


def spec_of(number: int, **options: object) -> SeriesSpec:
    """A series of its own; large enough for every coder."""
    given = {"shape": (40, 36, 3), "study_uid": STUDY, "series_uid": f"{STUDY}.{number}"} | options
    return SeriesSpec(**given)


@pytest.mark.parametrize(("number", "syntax"), list(enumerate(TRANSFER_SYNTAXES, start=1)))
def test_every_transfer_syntax_passes_as_it_is(orthanc: Orthanc, tmp_path: Path, number: int, syntax: str):
    spec = spec_of(number, syntax=syntax)
    written = write_series(tmp_path / "in", spec)
    assert len(store_files(orthanc.web, [written.folder]).stored) == 3
    fetched = fetch_series(orthanc.web, spec.series_uid, tmp_path / "out")
    sent = {dcmread(file).SOPInstanceUID: dcmread(file) for file in written.files}
    assert {file.stem for file in fetched} == set(sent)
    for file in fetched:
        came = dcmread(file)
        assert came.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[syntax]
        assert came == sent[came.SOPInstanceUID]


def test_an_instance_of_several_megabytes(orthanc: Orthanc, tmp_path: Path):
    spec = spec_of(20, shape=(1100, 1000, 2))
    written = write_series(tmp_path / "in", spec)
    store_files(orthanc.web, [written.folder])
    fetched = fetch_series(orthanc.web, spec.series_uid, tmp_path / "out", study_uid=STUDY)
    assert {dcmread(file).PixelData for file in fetched} == {
        dcmread(file).PixelData for file in written.files
    }


def test_search_by_study_modality_and_patient(orthanc: Orthanc, tmp_path: Path):
    ours, other = f"{STUDY}.30", f"{STUDY}.31"
    for series_uid, modality, patient_id in ((ours, "CT", "GEHEIM-77-A"), (other, "MR", "GEHEIM-77-B")):
        spec = SeriesSpec(
            study_uid=series_uid + ".1", series_uid=series_uid, modality=modality, patient_id=patient_id
        )
        store_files(orthanc.web, [write_series(tmp_path / series_uid, spec).folder])
    for query, expected in (
        (SeriesQuery(study_uid=f"{other}.1"), other),
        (SeriesQuery(modality="MR"), other),
        (SeriesQuery(patient_id="GEHEIM-77-A"), ours),
        (SeriesQuery(series_uid=ours), ours),
    ):
        found = find_series(orthanc.web, query)
        assert [series.series_uid for series in found] == [expected]
        assert (found[0].instances, found[0].study_uid) == (7, f"{expected}.1")
        assert (found[0].description, found[0].patient_name) == ("test series", "")
    named = find_series(orthanc.web, SeriesQuery(series_uid=ours, identity=True))[0]
    assert (named.patient_id, named.patient_name) == ("GEHEIM-77-A", "GEHEIM^NAME")


def test_what_is_not_there(orthanc: Orthanc, tmp_path: Path):
    with pytest.raises(InputError, match=r"has no series 1\.2\.3\.4"):
        fetch_series(orthanc.web, "1.2.3.4", tmp_path)
    with pytest.raises(InputError, match="Is it the root of the DICOMweb service"):
        find_series(DicomWeb(orthanc.url + "/nothing"), SeriesQuery())
    with pytest.raises(InputError, match="cannot be reached"):
        find_series(DicomWeb(f"http://127.0.0.1:{orthanc.dicom_port}"), SeriesQuery())
    assert list(tmp_path.iterdir()) == []


def test_instances_lost_on_the_way_are_missed(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The connection ends in the middle of the answer, as a proxy may do it, without an error of its own."""
    spec = spec_of(40)
    store_files(orthanc.web, [write_series(tmp_path / "in", spec).folder])
    whole = requests.Response.iter_content

    def half(self: requests.Response, *args: object, **kwargs: object):
        content = b"".join(whole(self, *args, **kwargs))
        yield content[: len(content) // 2] if b"DICM" in content else content

    monkeypatch.setattr(requests.Response, "iter_content", half)
    with pytest.raises(InputError, match="2 of the 3 instances") as caught:
        fetch_series(orthanc.web, spec.series_uid, tmp_path / "out")
    assert "end before their data do: 1" in str(caught.value)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_nothing_is_told_about_the_patient(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    spec = spec_of(50)
    written = write_series(tmp_path / "in", spec)
    caplog.clear()
    store_files(orthanc.web, [written.folder])
    query = SeriesQuery(series_uid=spec.series_uid, patient_id=spec.patient_id, identity=True)
    found = find_series(orthanc.web, query)
    fetched = fetch_series(orthanc.web, spec.series_uid, tmp_path / "out")
    captured = capfd.readouterr()
    told = "\n".join([caplog.text, captured.out, captured.err, repr(found), repr(query), *map(str, fetched)])
    assert len(found) == 1
    assert not any(secret in told for secret in SECRETS)
