"""DICOMweb with answers made up below the HTTP client: what is asked, what is believed, what is told of trouble."""

import json
import logging
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import requests
from pydicom import dcmread

from tests.dicom_files import SECRETS, SeriesSpec, Written, write_series
from volseg.errors import InputError, OutputError
from volseg.io.pacs import DicomWeb, FoundSeries, SeriesQuery, fetch_series, find_series, store_files

SERIES, STUDY = "1.2.826.0.1.999.1.1", "1.2.826.0.1.999.1"
SECRET_ID = "GEHEIM-ID-77"


@pytest.fixture
def series(tmp_path: Path) -> Written:
    return write_series(tmp_path / "series", SeriesSpec(shape=(5, 6, 4)))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[requests.PreparedRequest]]:
    """Let every HTTP request meet the next of these answers: (status, content type, body), or an error to raise."""

    def answer_with(*prepared: tuple[int, str, bytes] | Exception) -> list[requests.PreparedRequest]:
        waiting, seen = list(prepared), []

        def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
            seen.append(request)
            answer = waiting.pop(0)
            if isinstance(answer, Exception):
                raise answer
            response = requests.Response()
            response.status_code, response.raw = answer[0], BytesIO(answer[2])
            response.headers["Content-Type"] = answer[1]
            response.url, response.request = str(request.url), request
            return response

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
        return seen

    return answer_with


def as_json(*found: dict[str, object]) -> tuple[int, str, bytes]:
    """A page of QIDO-RS results."""
    page = [
        {
            tag: {"vr": "UI", "Value": [value]} if value is not None else {"vr": "UI"}
            for tag, value in one.items()
        }
        for one in found
    ]
    return 200, "application/dicom+json", json.dumps(page).encode()


NOTHING = as_json()
ONE_SERIES = {"0020000D": STUDY, "0020000E": SERIES, "00080060": "CT", "0008103E": None, "00201209": 2}


@pytest.mark.parametrize(
    "url",
    [
        "pacs.example",
        "ftp://pacs.example/x",
        "http://",
        "http:///x",
        "",
        "http://[::1",
        "http://a:99999/",
        "https:/a",
    ],
)
def test_what_is_no_address_of_a_service(url: str):
    with pytest.raises(InputError, match="no DICOMweb address"):
        DicomWeb(url)


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(InputError, match="a password") as caught:
        DicomWeb("https://me:sesame@pacs.example/dicom-web")
    assert "sesame" not in str(caught.value)
    assert "sesame" not in repr(DicomWeb("https://pacs.example/dicom-web/", user="me", password="sesame"))


def test_search_reads_what_is_there(answers: Callable[..., list[requests.PreparedRequest]]):
    seen = answers(as_json(ONE_SERIES), NOTHING)
    found = find_series(DicomWeb("https://a/b/"), SeriesQuery(modality="CT", patient_id=SECRET_ID))
    assert found == [FoundSeries(STUDY, SERIES, "CT", "", 2)]
    assert str(seen[0].url).startswith("https://a/b/series?")
    assert "PatientID=GEHEIM-ID-77" in str(seen[0].url)
    assert "PatientName" not in str(seen[0].url)


def test_identity_is_kept_only_where_asked_for(answers: Callable[..., list[requests.PreparedRequest]]):
    page = ONE_SERIES | {"00100020": SECRET_ID, "00100010": {"Alphabetic": "GEHEIM^NAME"}}
    answers(as_json(page), NOTHING, as_json(page), NOTHING)
    assert find_series(DicomWeb("https://a"), SeriesQuery())[0].patient_name == ""
    named = find_series(DicomWeb("https://a"), SeriesQuery(identity=True))[0]
    assert (named.patient_id, named.patient_name) == (SECRET_ID, "GEHEIM^NAME")
    assert "GEHEIM" not in repr(named)


def test_pages_are_joined_and_a_server_that_repeats_itself_ends(
    answers: Callable[..., list[requests.PreparedRequest]],
):
    first = as_json({"00080018": "1.1"}, {"00080018": "1.2"})
    second = as_json({"00080018": "1.3"})
    seen = answers(first, second, second)
    assert list(DicomWeb("https://a").instances(FoundSeries("1", "2"))) == ["1.1", "1.2", "1.3"]
    assert "offset=2" in str(seen[1].url)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((401, "text/html", b"GEHEIM"), "wants a user and a password"),
        ((403, "text/html", b"GEHEIM"), "does not allow this"),
        ((404, "text/html", b"GEHEIM"), "nothing at this address"),
        ((500, "text/html", b"GEHEIM"), "HTTP status 500"),
        ((200, "text/html", b"<html>GEHEIM"), "not DICOMweb"),
        ((200, "application/json", b'["GEHEIM"]'), "not DICOMweb"),
        (requests.ConnectionError("/series?PatientID=GEHEIM-ID-77"), "cannot be reached"),
        (requests.exceptions.SSLError("GEHEIM"), "certificate is not trusted"),
        (requests.ReadTimeout("GEHEIM"), "did not answer in time"),
        (requests.exceptions.ChunkedEncodingError("GEHEIM"), "ended the connection"),
        (requests.exceptions.InvalidURL("GEHEIM"), "cannot be reached"),
        (requests.exceptions.InvalidHeader("GEHEIM"), "not DICOMweb"),
    ],
)
def test_trouble_on_the_way_is_told_without_the_patient(
    answers: Callable[..., list[requests.PreparedRequest]],
    answer: tuple[int, str, bytes] | Exception,
    expected: str,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG)
    answers(answer)
    with pytest.raises(InputError, match=expected) as caught:
        find_series(DicomWeb("https://a/b"), SeriesQuery(patient_id=SECRET_ID))
    assert caught.value.__suppress_context__, "a traceback would show the address with the patient's ID"
    assert not any(secret in str(caught.value) + caplog.text for secret in SECRETS)


def multipart(*parts: bytes) -> tuple[int, str, bytes]:
    body = b"".join(b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts)
    return 200, 'multipart/related; type="application/dicom"; boundary=x', body + b"\r\n--x--"


def listing(series: Written) -> list[tuple[int, str, bytes]]:
    uids = [{"00080018": f"{SERIES}.{n + 1}", "00080016": "1.2.3"} for n in range(4)]
    return [as_json(ONE_SERIES), NOTHING, as_json(*uids), NOTHING]


def test_wado_writes_what_came(
    answers: Callable[..., list[requests.PreparedRequest]], series: Written, tmp_path: Path
):
    contents = [file.read_bytes() for file in series.files]
    seen = answers(*listing(series), multipart(*contents))
    files = fetch_series(DicomWeb("https://a"), SERIES, tmp_path / "out")
    assert {file.read_bytes() for file in files} == set(contents)
    assert seen[-1].headers["Accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'


def test_a_server_without_the_wildcard_may_choose(
    answers: Callable[..., list[requests.PreparedRequest]], series: Written, tmp_path: Path
):
    contents = [file.read_bytes() for file in series.files]
    seen = answers(*listing(series), (406, "text/plain", b""), multipart(*contents))
    assert len(fetch_series(DicomWeb("https://a"), SERIES, tmp_path / "out")) == 4
    assert "transfer-syntax" not in seen[-1].headers["Accept"]


@pytest.mark.parametrize("damage", ["cut", "junk"])
def test_wado_that_breaks_off_leaves_what_came(
    answers: Callable[..., list[requests.PreparedRequest]], series: Written, tmp_path: Path, damage: str
):
    contents = [file.read_bytes() for file in series.files]
    contents[2] = contents[2][:-9] if damage == "cut" else b"<html>GEHEIM</html>"
    answers(*listing(series), multipart(*contents))
    came = 3 if damage == "cut" else 2
    with pytest.raises(InputError, match=f"{4 - came} of the 4 instances") as caught:
        fetch_series(DicomWeb("https://a"), SERIES, tmp_path / "out")
    assert "GEHEIM" not in str(caught.value)
    assert len(list((tmp_path / "out").iterdir())) == came


def stow(**sequences: str) -> tuple[int, str, bytes]:
    tags = {"stored": "00081199", "failed": "00081198"}
    answer: dict[str, object] = {}
    for kind, sop_uid in sequences.items():
        item = {"00081155": {"vr": "UI", "Value": [sop_uid]}, "00081197": {"vr": "US", "Value": [0x0122]}}
        answer[tags[kind]] = {"vr": "SQ", "Value": [item]}
    return 200, "application/dicom+json", json.dumps(answer).encode()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (stow(failed=f"{SERIES}.1"), "refused with reason 0x0122"),
        (stow(), "did not confirm it"),
        (stow(stored="1.2.3"), "did not confirm it"),
        ((200, "text/html", b"please log in"), "did not confirm it"),
        ((409, "application/dicom+json", b"{}"), "refused the instance"),
    ],
)
def test_only_what_the_server_confirms_is_stored(
    answers: Callable[..., list[requests.PreparedRequest]],
    series: Written,
    answer: tuple[int, str, bytes],
    reason: str,
):
    by_uid = {dcmread(file).SOPInstanceUID: file for file in series.files}
    files = [by_uid[uid] for uid in sorted(by_uid)]
    answers(answer, *(stow(stored=f"{SERIES}.{n}") for n in (2, 3, 4)))
    with pytest.raises(OutputError, match="1 of 4 files were not stored") as caught:
        store_files(DicomWeb("https://a"), files)
    assert reason in str(caught.value)


def test_a_wrong_password_ends_the_transfer_at_once(
    answers: Callable[..., list[requests.PreparedRequest]], series: Written
):
    seen = answers((401, "text/html", b""))
    with pytest.raises(InputError, match="wants a user and a password"):
        store_files(DicomWeb("https://a", user="mé", password="p"), [series.folder])
    assert len(seen) == 1
    assert seen[0].headers["Authorization"] == "Basic bcOpOnA="


def test_settings_of_the_environment_are_not_used(
    answers: Callable[..., list[requests.PreparedRequest]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "netrc").write_text("machine a login me password sesame\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen = answers(NOTHING)
    find_series(DicomWeb("http://a"), SeriesQuery())
    assert "Authorization" not in seen[0].headers
