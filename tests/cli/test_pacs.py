"""`volseg pacs`: what the verbs print, how they ask for a password, and that mistakes end in one paragraph."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dicom_files import SECRETS, SeriesSpec, write_series
from volseg.io.pacs import DicomWeb, Dimse, FoundSeries, SeriesQuery

WEB = ("--dicomweb", "http://127.0.0.1:9/dicom-web")
NODE = ("--dimse", "127.0.0.1:9")
FETCH = ("pacs", "fetch", "out", "--series", "1.2.3")


@pytest.mark.parametrize("verb", ["find", "fetch", "store"])
def test_help_names_the_servers(volseg_cli: Callable, verb: str):
    outcome = volseg_cli("pacs", verb, "--help")
    assert outcome.code == 0
    assert "--dicomweb" in outcome.out
    assert "--dimse" in outcome.out


def test_help_loads_no_network_and_no_dicom():
    code = "import sys; from volseg.cli.app import run; run(['pacs', 'fetch', '--help']); print('LOADED', *sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.rpartition("LOADED")[2].split())
    assert not loaded & {"pynetdicom", "dicomweb_client", "requests", "pydicom", "numpy"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "Which PACS?"),
        ((*WEB, *NODE), "Which PACS?"),
        (("--dicomweb", "pacs.example"), "no DICOMweb address"),
        (("--dimse", "pacs.example"), "Expected HOST:PORT"),
        ((*NODE, "--called", "MUCH-TOO-LONG-A-TITLE"), "cannot be an AE title"),
        ((*NODE, "--user", "me"), "belong to --dicomweb"),
        ((*WEB, "--password-file", "secret"), "needs --user"),
        ((*WEB, "--user", "me", "--password-file", "absent"), "cannot be read"),
        ((*WEB, "--user", "me", "--password-file", "empty"), "is empty"),
        ((*WEB, "--ca-file", "absent"), "no such file"),
        (("--dicomweb", "pacs", "--user", "me"), "no DICOMweb address"),
        ((*WEB, "--study", "1.2.*"), "no DICOM UID"),
        (WEB, "cannot be reached"),
        (NODE, "cannot be reached"),
    ],
)
def test_mistakes_end_in_one_paragraph(
    volseg_cli: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    expected: str,
):
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n")
    outcome = volseg_cli(*FETCH, *options)
    assert outcome.code == 2
    assert expected in outcome.err
    assert outcome.err.startswith("volseg: ")
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""
    assert not Path("out").exists()


@pytest.mark.parametrize("server", [WEB, NODE])
def test_debug_shows_no_patient_id(volseg_cli: Callable, server: tuple[str, str]):
    outcome = volseg_cli("pacs", "find", "--patient-id", "GEHEIM-ID-77", "--debug", *server)
    assert outcome.code == 2
    assert "Traceback" in outcome.err
    assert "GEHEIM" not in outcome.err


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, object]]:
    """The server and the query of each search, which finds two series."""
    seen = []

    def find(self: object, query: SeriesQuery) -> list[FoundSeries]:
        seen.append((self, query))
        names = {"patient_id": "GEHEIM-ID-77", "patient_name": "GEHEIM^NAME"} if query.identity else {}
        return [
            FoundSeries("1.2", "1.2.4", "MR", "t1 mprage", None, **names),
            FoundSeries("1.2", "1.2.3", "CT", "thorax", 412, **names),
        ]

    monkeypatch.setattr(DicomWeb, "find", find)
    monkeypatch.setattr(Dimse, "find", find)
    return seen


def test_find_lists_series_without_names(volseg_cli: Callable, servers: list):
    outcome = volseg_cli(
        "pacs", "find", "--modality", "ct", "--dimse", "h:104", "--called", "A", "--aet", "B"
    )
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["study", "series", "modality", "instances", "description"]
    assert lines[1].split() == ["1.2", "1.2.3", "CT", "412", "thorax"]
    assert lines[2].split() == ["1.2", "1.2.4", "MR", "t1", "mprage"]
    assert not any(secret in outcome.out + outcome.err for secret in SECRETS)
    assert servers == [(Dimse("h", 104, called="A", calling="B"), SeriesQuery(modality="CT"))]


def test_find_shows_names_when_asked(volseg_cli: Callable, servers: list):
    outcome = volseg_cli("pacs", "find", "--identity", *WEB)
    assert outcome.out.count("GEHEIM^NAME") == 2


def test_find_that_finds_nothing_says_so(volseg_cli: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(DicomWeb, "find", lambda self, query: [])
    assert volseg_cli("pacs", "find", *WEB).out == "no series found\n"


def test_the_password_comes_from_a_file(volseg_cli: Callable, servers: list, tmp_path: Path):
    (tmp_path / "secret").write_text("sesame opens\nnot this\n")
    volseg_cli("pacs", "find", "--user", "me", "--password-file", tmp_path / "secret", *WEB)
    assert servers[0][0] == DicomWeb(WEB[1], user="me", password="sesame opens")


def test_a_password_in_the_clear_is_warned_of(volseg_cli: Callable, servers: list, tmp_path: Path):
    (tmp_path / "secret").write_text("sesame")
    words = ("pacs", "find", "--user", "me", "--password-file", tmp_path / "secret", "--dicomweb")
    assert "travels in the clear" in volseg_cli(*words, "http://pacs.example/dicom-web").err
    assert volseg_cli(*words, "https://pacs.example/dicom-web").err == ""


def test_the_password_is_asked_for(volseg_cli: Callable, servers: list, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr("typer.prompt", lambda text, **options: asked.append((text, options)) or "sesame")
    outcome = volseg_cli("pacs", "find", "--user", "me", *WEB)
    assert outcome.code == 0
    assert servers[0][0] == DicomWeb(WEB[1], user="me", password="sesame")
    assert asked == [("password of me", {"hide_input": True, "err": True})]
    assert "sesame" not in outcome.out + outcome.err


def test_store_tells_what_was_left_out(volseg_cli: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    write_series(tmp_path, SeriesSpec(shape=(5, 6, 2)))
    (tmp_path / "notes.txt").write_text("hello")
    monkeypatch.setattr(Dimse, "store", lambda self, instances: ((instance, "") for instance in instances))
    outcome = volseg_cli("pacs", "store", tmp_path, *NODE)
    assert outcome.out == ("stored  2 instances at 127.0.0.1:9\nleft out what is no complete DICOM file: 1\n")
