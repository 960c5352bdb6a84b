"""C-FIND, C-GET and C-STORE against Orthanc, and against nodes that misbehave."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from tests.dicom_files import SECRETS, SeriesSpec, Written, write_series
from tests.dicom_pixels import TRANSFER_SYNTAXES
from tests.pacs.conftest import Orthanc
from volseg.errors import InputError, OutputError
from volseg.io.pacs import Dimse, SeriesQuery, fetch_series, find_series, store_files

pytestmark = pytest.mark.pacs

STUDY = "1.2.826.0.1.999.42"
CT, VERIFICATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"
FIND, GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


def write(folder: Path, number: int, **options: object) -> Written:
    given = {"shape": (40, 36, 3), "study_uid": STUDY, "series_uid": f"{STUDY}.{number}"} | options
    return write_series(folder, SeriesSpec(**given))


@pytest.mark.parametrize(("number", "syntax"), list(enumerate(TRANSFER_SYNTAXES, start=1)))
def test_every_transfer_syntax_passes_as_it_is(orthanc: Orthanc, tmp_path: Path, number: int, syntax: str):
    written = write(tmp_path / "in", number, syntax=syntax, shape=(40, 36, 2))
    assert len(store_files(orthanc.node, [written.folder]).stored) == 2
    fetched = fetch_series(orthanc.node, f"{STUDY}.{number}", tmp_path / "out")
    sent = {dcmread(file).SOPInstanceUID: dcmread(file) for file in written.files}
    assert {file.stem for file in fetched} == set(sent)
    for file in fetched:
        came = dcmread(file)
        assert came.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[syntax]
        assert came == sent[came.SOPInstanceUID]


def test_several_transfer_syntaxes_at_once(orthanc: Orthanc, tmp_path: Path):
    for number, syntax in ((20, "rle"), (21, "big-endian"), (22, "implicit")):
        write(tmp_path / syntax, number, syntax=syntax)
    assert len(store_files(orthanc.node, [tmp_path]).stored) == 9


def test_search_by_study_modality_and_patient(orthanc: Orthanc, tmp_path: Path):
    ours, other = f"{STUDY}.30", f"{STUDY}.31"
    write(tmp_path / "a", 30, study_uid=f"{ours}.1", patient_id="GEHEIM-78-A")
    write(tmp_path / "b", 31, study_uid=f"{other}.1", patient_id="GEHEIM-78-B", modality="PT")
    store_files(orthanc.node, [tmp_path])
    for query, expected in (
        (SeriesQuery(study_uid=f"{other}.1"), other),
        (SeriesQuery(modality="PT"), other),
        (SeriesQuery(patient_id="GEHEIM-78-A"), ours),
        (SeriesQuery(series_uid=ours), ours),
        (SeriesQuery(series_uid=ours, study_uid=f"{ours}.1"), ours),
    ):
        found = find_series(orthanc.node, query)
        assert [series.series_uid for series in found] == [expected]
        assert (found[0].instances, found[0].study_uid) == (3, f"{expected}.1")
        assert (found[0].description, found[0].patient_name) == ("test series", "")
    assert find_series(orthanc.node, SeriesQuery(series_uid=ours, study_uid=f"{other}.1")) == []
    named = find_series(orthanc.node, SeriesQuery(patient_id="GEHEIM-78-A", identity=True))[0]
    assert (named.patient_id, named.patient_name) == ("GEHEIM-78-A", "GEHEIM^NAME")


def test_a_wrong_title_is_refused_with_the_reason(orthanc: Orthanc):
    node = Dimse(orthanc.host, orthanc.dicom_port, called="WRONG")
    with pytest.raises(InputError, match=r"Called AE title not recognised.*'WRONG' was called"):
        find_series(node, SeriesQuery())


def test_a_stranger_is_told_to_ask(orthanc: Orthanc):
    node = Dimse(orthanc.host, orthanc.dicom_port, called=orthanc.node.called, calling="STRANGER")
    with pytest.raises(InputError, match="C-FIND"):
        find_series(node, SeriesQuery())


def test_a_web_server_is_no_node(orthanc: Orthanc):
    port = int(orthanc.url.split(":")[2].split("/")[0])
    with pytest.raises(InputError, match="does not answer as a DICOM node"):
        find_series(Dimse(orthanc.host, port), SeriesQuery())


def test_nothing_is_told_about_the_patient(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    written = write(tmp_path / "in", 50)
    caplog.clear()
    store_files(orthanc.node, [written.folder])
    query = SeriesQuery(study_uid=STUDY, patient_id=written.spec.patient_id, identity=True)
    found = find_series(orthanc.node, query)
    fetched = fetch_series(orthanc.node, f"{STUDY}.50", tmp_path / "out")
    captured = capfd.readouterr()
    told = "\n".join([caplog.text, captured.out, captured.err, repr(found), repr(query), *map(str, fetched)])
    assert found
    assert not any(secret in told for secret in SECRETS)


# --- nodes with a mind of their own ---------------------------------------------------------------------------------

Serve = Callable[..., AbstractContextManager[Dimse]]


@pytest.fixture
def serve() -> Serve:
    """A block with a node: accepted (SOP class, transfer syntaxes), and what it does on each event."""

    @contextmanager
    def block(contexts: list[tuple[str, list[str]]], handlers: list[tuple[object, ...]]) -> Iterator[Dimse]:
        node = AE(ae_title="ODD")
        for abstract_syntax, syntaxes in contexts:
            node.add_supported_context(abstract_syntax, syntaxes, scu_role=True, scp_role=True)
        server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None
        try:
            yield Dimse("127.0.0.1", server.server_address[1], called="ODD")
        finally:
            server.shutdown()

    return block


def answers_to(
    written: Written, listed: int, *, with_classes: bool = True
) -> Callable[[evt.Event], Iterator]:
    """A C-FIND handler that knows one series of so many instances."""
    files = [dcmread(file, stop_before_pixels=True) for file in written.files]

    def find(event: evt.Event) -> Iterator:
        asked = event.identifier
        chosen = files[:listed] if asked.QueryRetrieveLevel == "IMAGE" else files[:1]
        for file in chosen:
            answer = Dataset()
            for element in asked:
                if element.keyword in file and (with_classes or element.keyword != "SOPClassUID"):
                    answer[element.tag] = file[element.tag]
            yield 0xFF00, answer

    return find


def sends(datasets: list[Dataset]) -> Callable[[evt.Event], Iterator]:
    """A C-GET handler that sends these."""

    def get(event: evt.Event) -> Iterator:
        yield len(datasets)
        for dataset in datasets:
            yield 0xFF00, dataset

    return get


def fetched_from(serve: Serve, tmp_path: Path, find: Callable, get: Callable) -> list[Path]:
    contexts = [(FIND, [IMPLICIT]), (GET, [IMPLICIT]), (CT, [EXPLICIT, IMPLICIT])]
    with serve(contexts, [(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get)]) as node:
        return fetch_series(node, f"{STUDY}.60", tmp_path / "out", study_uid=STUDY)


def test_a_node_that_sends_less_than_it_lists(serve: Serve, tmp_path: Path):
    written = write(tmp_path / "in", 60)
    with pytest.raises(InputError, match="1 of the 3 instances"):
        fetched_from(serve, tmp_path, answers_to(written, 3), sends([dcmread(f) for f in written.files[:2]]))
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_node_that_fails_halfway_tells_its_status(serve: Serve, tmp_path: Path):
    written = write(tmp_path / "in", 60)

    def get(event: evt.Event) -> Iterator:
        yield 3
        yield 0xFF00, dcmread(written.files[0])
        yield 0xA702, Dataset()

    with pytest.raises(InputError, match=r"2 of the 3 instances.*status 0xA702"):
        fetched_from(serve, tmp_path, answers_to(written, 3), get)


def test_a_node_that_sends_the_whole_study(serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    written, other = write(tmp_path / "in", 60), write(tmp_path / "other", 61)
    everything = [dcmread(file) for file in (*other.files, *written.files)]
    files = fetched_from(serve, tmp_path, answers_to(written, 3), sends(everything))
    assert {dcmread(file).SeriesInstanceUID for file in files} == {f"{STUDY}.60"}
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert "3 instances that are not of this series" in caplog.text


def test_a_node_that_does_not_tell_sop_classes(serve: Serve, tmp_path: Path):
    written = write(tmp_path / "in", 60)
    find = answers_to(written, 3, with_classes=False)
    assert len(fetched_from(serve, tmp_path, find, sends([dcmread(file) for file in written.files]))) == 3


def test_a_node_that_aborts(serve: Serve, tmp_path: Path):
    written = write(tmp_path / "in", 60)

    def get(event: evt.Event) -> Iterator:
        yield 3
        yield 0xFF00, dcmread(written.files[0])
        event.assoc.abort()

    with pytest.raises(InputError, match=r"2 of the 3 instances.*ended the connection"):
        fetched_from(serve, tmp_path, answers_to(written, 3), get)


def test_a_folder_that_fills_up(serve: Serve, tmp_path: Path):
    written = write(tmp_path / "in", 60)
    first = dcmread(written.files[0]).SOPInstanceUID
    (tmp_path / "out" / f"{first}.dcm").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot be written"):
        fetched_from(
            serve, tmp_path, answers_to(written, 3), sends([dcmread(file) for file in written.files])
        )


def test_a_node_without_c_get(serve: Serve, tmp_path: Path):
    written = write(tmp_path / "in", 60)
    find = [(evt.EVT_C_FIND, answers_to(written, 3))]
    told = pytest.raises(InputError, match="does not offer C-GET to VOLSEG")
    with serve([(VERIFICATION, [IMPLICIT]), (FIND, [IMPLICIT])], find) as node, told:
        fetch_series(node, f"{STUDY}.60", tmp_path / "out", study_uid=STUDY)


def test_a_node_of_old_takes_implicit_vr_only(serve: Serve, tmp_path: Path):
    written, packed = write(tmp_path / "in", 60), write(tmp_path / "packed", 62, syntax="jpeg-lossless")
    received: list[Dataset] = []

    def keep(event: evt.Event) -> int:
        assert event.context.transfer_syntax == IMPLICIT
        received.append(event.dataset)
        return 0

    with serve([(VERIFICATION, [IMPLICIT]), (CT, [IMPLICIT])], [(evt.EVT_C_STORE, keep)]) as node:
        store_files(node, [written.folder])
        assert {d.SOPInstanceUID: d.PixelData for d in received} == {
            dcmread(file).SOPInstanceUID: dcmread(file).PixelData for file in written.files
        }
        with pytest.raises(
            OutputError, match=r"3 of 4 files were not stored.*does not accept CT Image Storage"
        ):
            store_files(node, [written.files[0], packed.folder])
    assert len(received) == 4


def test_a_node_that_refuses_is_quoted(serve: Serve, tmp_path: Path):
    written = write(tmp_path / "in", 60)
    statuses = iter([0, 0xB000, 0xA700])
    told = pytest.raises(OutputError, match=r"1 of 3 files were not stored.*refused with status 0xA700")
    with serve([(CT, [EXPLICIT])], [(evt.EVT_C_STORE, lambda event: next(statuses))]) as node, told:
        store_files(node, [written.folder])


def test_a_node_that_hangs_up_while_storing(serve: Serve, tmp_path: Path):
    written = write(tmp_path / "in", 60)
    count = iter(range(3))

    def keep(event: evt.Event) -> int:
        if next(count) == 1:
            event.assoc.abort()
        return 0

    told = pytest.raises(OutputError, match=r"2 of 3 files were not stored; the other 1 were.*ended the conn")
    with serve([(CT, [EXPLICIT])], [(evt.EVT_C_STORE, keep)]) as node, told:
        store_files(node, [written.folder])
