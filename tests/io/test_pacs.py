"""PACS transfers without a PACS: every instance accounted for, errors that help, nothing told about the patient."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from tests.dicom_files import SeriesSpec, Written, write_series, zip_folder
from volseg.errors import FileFormatError, InputError, OutputError
from volseg.io.pacs import (
    DicomWeb,
    Dimse,
    FoundSeries,
    SeriesQuery,
    fetch_series,
    find_series,
    store_files,
)
from volseg.io.pacs.instances import Instance, encode, file_name, gather, is_whole, read_instance
from volseg.io.pacs.server import discreet
from volseg.origin import FileRef

SERIES, STUDY = "1.2.826.0.1.999.1.1", "1.2.826.0.1.999.1"
SECRET_ID = "GEHEIM-ID-77"
CLOSED = 9
"""The discard port, where nothing listens."""


@dataclass
class FakeServer:
    """Lists some instances, sends others, perhaps stops with an error."""

    listed: Sequence[str] = ("1.1", "1.2", "1.3")
    sends: Sequence[tuple[str, bytes]] = (("1.1", b"one"), ("1.2", b"two"), ("1.3", b"three"))
    stops: InputError | None = None
    declared: int | None = None
    studies: Sequence[str] = (STUDY,)
    refuses: dict[int, str] = field(default_factory=dict)
    ends_after: int = 10**6

    def __str__(self) -> str:
        return "the fake"

    def find(self, query: SeriesQuery) -> list[FoundSeries]:
        return [FoundSeries(study, SERIES, "CT", instances=self.declared) for study in self.studies]

    def instances(self, series: FoundSeries) -> dict[str, str]:
        return dict.fromkeys(self.listed, "1.2.840.10008.5.1.4.1.1.2")

    def fetch(self, series: FoundSeries, keep: Callable[[str, bytes], None]) -> None:
        assert series.sop_classes == ("1.2.840.10008.5.1.4.1.1.2",)
        for sop_uid, content in self.sends:
            keep(sop_uid, content)
        if self.stops:
            raise self.stops

    def store(self, instances: Sequence[Instance]) -> Iterator[tuple[Instance, str]]:
        for number, instance in enumerate(instances):
            if number == self.ends_after:
                raise InputError("The line went dead.")
            yield instance, self.refuses.get(number, "")


@pytest.fixture
def series(tmp_path: Path) -> Written:
    return write_series(tmp_path / "series", SeriesSpec(shape=(5, 6, 4)))


def test_the_libraries_are_quiet_for_a_while(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with discreet():
        logging.getLogger("pynetdicom.acse").error("GEHEIM")
        logging.getLogger("dicomweb_client.web").warning("GEHEIM")
        logging.getLogger("urllib3.connectionpool").debug("GEHEIM")
        warnings.warn("GEHEIM", UserWarning, stacklevel=1)
    assert not caplog.records
    logging.getLogger("pynetdicom.acse").error("free again")
    assert len(caplog.records) == 1


def test_a_whole_series_arrives_under_its_uids(tmp_path: Path):
    files = fetch_series(FakeServer(declared=3), SERIES, tmp_path / "new" / "folder")
    assert [file.name for file in files] == ["1.1.dcm", "1.2.dcm", "1.3.dcm"]
    assert [file.read_bytes() for file in files] == [b"one", b"two", b"three"]
    assert sorted((tmp_path / "new" / "folder").iterdir()) == files, "no leftovers of the writing"


@pytest.mark.parametrize(
    ("server", "numbers"),
    [
        (FakeServer(sends=[("1.1", b"one")]), "2 of the 3"),
        (FakeServer(sends=[("1.1", b"one"), ("1.1", b"again")]), "2 of the 3"),
        (FakeServer(declared=5), "2 of the 5"),
        (FakeServer(sends=[("1.1", b"one")], stops=InputError("The line went dead.")), "The line went dead"),
        (FakeServer(sends=[]), "3 of the 3"),
        (FakeServer(listed=[], sends=[]), "0 of the 0"),
    ],
)
def test_a_short_transfer_is_an_error_that_counts(tmp_path: Path, server: FakeServer, numbers: str):
    if not server.listed:
        server.fetch = lambda series, keep: None
    with pytest.raises(InputError, match="not the whole series") as caught:
        fetch_series(server, SERIES, tmp_path)
    assert numbers in str(caught.value)
    assert len(list(tmp_path.iterdir())) == len({uid for uid, _ in server.sends}), "what arrived stays"


def test_instances_of_another_series_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    server = FakeServer(sends=[("1.1", b"one"), ("9.9", b"foreign"), ("1.2", b"two"), ("1.3", b"three")])
    assert len(fetch_series(server, SERIES, tmp_path)) == 3
    assert not (tmp_path / "9.9.dcm").exists()
    assert "1 instances that are not of this series" in caplog.text


def test_a_dead_line_after_the_last_instance_is_no_loss(tmp_path: Path):
    assert len(fetch_series(FakeServer(stops=InputError("Gone.")), SERIES, tmp_path)) == 3


def test_a_series_in_two_studies_is_not_chosen(tmp_path: Path):
    with pytest.raises(InputError, match=r"2 studies: 1\.5, 1\.6"):
        fetch_series(FakeServer(studies=("1.6", "1.5")), SERIES, tmp_path)


def test_a_series_the_server_does_not_have(tmp_path: Path):
    with pytest.raises(InputError, match=r"no series 1\.2\.826"):
        fetch_series(FakeServer(studies=()), SERIES, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_answer_for_another_series_is_no_answer(tmp_path: Path):
    with pytest.raises(InputError, match=r"no series 1\.2\.3 in study 1\.2"):
        fetch_series(FakeServer(), "1.2.3", tmp_path, study_uid="1.2")


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made a folder"):
        fetch_series(FakeServer(), SERIES, tmp_path / "file")


@pytest.mark.parametrize("uid", ["*", "1.2.*", "1.2\\1.3", "../1", "1..2", "1." + "2" * 64, "1.2\n"])
def test_what_is_no_uid_is_not_searched_for(uid: str):
    with pytest.raises(InputError, match="no DICOM UID"):
        find_series(FakeServer(), SeriesQuery(series_uid=uid))
    with pytest.raises(InputError, match="no DICOM UID"):
        find_series(FakeServer(), SeriesQuery(study_uid=uid))


@given(st.text(max_size=80))
@settings(max_examples=50, deadline=None)
def test_no_uid_leads_out_of_the_folder(uid: str):
    name = file_name(uid)
    assert Path(name).name == name
    assert name.endswith(".dcm")
    assert not name.startswith(".")
    assert len(name) <= 80
    assert name.isascii()
    assert name.isprintable()


def test_odd_uids_keep_apart():
    assert file_name("1.2") == "1.2.dcm"
    names = {file_name(uid) for uid in ("1/2", "1\\2", "1_2", "", "..", "../1.2")}
    assert len(names) == 6


def test_gather_takes_complete_files_and_names_the_others(tmp_path: Path, series: Written):
    (series.folder / "notes.txt").write_text("not DICOM")
    (series.folder / "sub").mkdir()
    write_series(
        series.folder / "sub", SeriesSpec(shape=(5, 6, 1), preamble="bare", sop_uid=lambda _: "1.77")
    )
    instances, others = gather([series.folder])
    assert {instance.sop_uid for instance in instances} == {f"{SERIES}.{n + 1}" for n in range(4)}
    assert {instance.transfer_syntax for instance in instances} == {"1.2.840.10008.1.2.1"}
    assert sorted(other.path.suffix for other in others) == ["", ".txt"]


def test_gather_looks_into_archives(tmp_path: Path, series: Written):
    archive = zip_folder(series.folder, tmp_path / "export.zip")
    instances, others = gather([archive])
    assert len(instances) == 4
    assert not others
    assert {encode(read_instance(instance.file)) for instance in instances} == {
        file.read_bytes() for file in series.files
    }


def test_a_file_given_by_name_must_be_dicom(tmp_path: Path):
    note = tmp_path / "note.txt"
    note.write_text("not DICOM")
    with pytest.raises(FileFormatError, match="no complete DICOM file"):
        store_files(FakeServer(), [note])
    with pytest.raises(InputError, match="no such file"):
        store_files(FakeServer(), [tmp_path / "absent"])
    with pytest.raises(InputError, match="no DICOM file in there"):
        store_files(FakeServer(), [tmp_path])


def test_what_was_not_stored_is_counted_and_named(series: Written):
    with pytest.raises(OutputError) as caught:
        store_files(FakeServer(refuses={1: "no room"}, ends_after=3), [series.folder])
    message = str(caught.value)
    assert "2 of 4 files were not stored; the other 2 were" in message
    assert "(no room)" in message
    assert "The line went dead" in message


def test_a_line_dead_from_the_start_is_told_plainly(series: Written):
    with pytest.raises(InputError, match=r"^The line went dead\.$"):
        store_files(FakeServer(ends_after=0), [series.folder])


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big-endian", "deflated", "rle"])
def test_truncated_instances_are_noticed(tmp_path: Path, syntax: str):
    file = write_series(tmp_path, SeriesSpec(shape=(5, 6, 1), syntax=syntax)).files[0]
    assert is_whole(dcmread(file))
    content = file.read_bytes()
    for length in (*range(140, len(content) - 10, 11), len(content) - 10):
        file.write_bytes(content[:length])
        with warnings.catch_warnings(action="ignore"), pytest.raises(FileFormatError):
            read_instance(FileRef(file))


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big-endian", "rle", "deflated"])
def test_an_instance_passes_through_unchanged(tmp_path: Path, syntax: str):
    file = write_series(tmp_path, SeriesSpec(shape=(5, 6, 1), syntax=syntax)).files[0]
    assert encode(read_instance(FileRef(file))) == file.read_bytes()


# --- DIMSE, as far as it goes without a node ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "host", "port"), [("pacs.example:104", "pacs.example", 104), ("[::1]:11112", "::1", 11112)]
)
def test_an_address_is_host_and_port(address: str, host: str, port: int):
    node = Dimse.parse(address)
    assert (node.host, node.port, str(node)) == (host, port, address)


@pytest.mark.parametrize(
    "address",
    ["pacs", "pacs:", ":104", "pacs:0", "pacs:65536", "pacs:dicom", "http://pacs:104", "a b:1", "1:2:3", ""],
)
def test_what_is_no_address_of_a_node(address: str):
    with pytest.raises(InputError, match="Expected HOST:PORT"):
        Dimse.parse(address)


@pytest.mark.parametrize("title", ["", "    ", "SEVENTEEN-LETTERS", "BACK\\SLASH", "ÄRZTE", "TAB\t"])
def test_what_cannot_be_a_title(title: str):
    with pytest.raises(InputError, match="cannot be an AE title"):
        Dimse("pacs", 104, called=title)
    with pytest.raises(InputError, match="cannot be an AE title"):
        Dimse("pacs", 104, calling=title)


@pytest.mark.parametrize(
    "server", [Dimse("127.0.0.1", CLOSED), DicomWeb(f"http://127.0.0.1:{CLOSED}/dicom-web")]
)
def test_a_server_that_is_not_there(server: Dimse | DicomWeb, tmp_path: Path, series: Written):
    for work in (
        lambda: find_series(server, SeriesQuery(patient_id=SECRET_ID)),
        lambda: fetch_series(server, SERIES, tmp_path / "out"),
        lambda: store_files(server, [series.folder]),
    ):
        with pytest.raises(InputError, match=rf"{CLOSED}.* cannot be reached") as caught:
            work()
        assert SECRET_ID not in str(caught.value)
    assert not (tmp_path / "out").exists()
