"""`volseg inspect`: a table or JSON of what lies in a folder, without a word about the patient."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from tests.dicom_files import SECRETS, SeriesSpec, write_series, zip_folder
from tests.io.dicom.case import part, setting

CT = SeriesSpec(description="abdomen portal venous phase with thin slices", vendor="siemens")
MR = replace(
    CT, modality="MR", intercept=0.0, series_uid="1.2.826.0.1.999.7.1", description="head", series_number=2
)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    write_series(folder / "ct", CT)
    write_series(folder / "mr", MR).files[2].unlink()
    (folder / "readme.txt").write_text("hello")
    return folder


def test_table(volseg_cli, export: Path):
    outcome = volseg_cli("inspect", export)
    assert (outcome.code, outcome.err) == (0, "")
    header, ct, mr, _, refusal, _, total = outcome.out.splitlines()
    names = "patient study series modality description contrast slices shape spacing (mm) verdict reason"
    assert header.split() == names.split()
    for words in (
        "patient 1",
        "study 1",
        ".0.1.999.1.1",
        " CT ",
        "abdomen portal venous phase w...",
        "6 x 5 x 7",
    ):
        assert words in ct
    assert "0.7 x 0.9 x 2.5" in ct
    assert ct.split()[-2:] == ["ok", "-"]
    assert mr.split()[-2:] == ["refused", "missing-slices"]
    assert refusal.split()[0].rstrip(":") in MR.series_uid
    assert len(refusal) > 60
    assert total == "  14 files: 13 in series, 1 not-dicom"


def test_json(volseg_cli, export: Path):
    document = json.loads(volseg_cli("inspect", export, "--json").out)
    assert (document["path"], document["file_count"], document["strays"]) == (
        str(export),
        14,
        {"not-dicom": 1},
    )
    ct, mr = document["series"]
    assert ct == {
        "key": CT.series_uid,
        "patient": "patient 1",
        "study": "study 1",
        "study_uid": CT.study_uid,
        "series_uid": CT.series_uid,
        "modality": "CT",
        "description": CT.description,
        "body_part": "ABDOMEN",
        "contrast": "",
        "trait": "",
        "slices": 7,
        "shape": [6, 5, 7],
        "spacing_mm": pytest.approx([0.7, 0.9, 2.5]),
        "verdict": "ok",
        "reason": "",
        "text": ct["text"],
        "file_count": 7,
        "dropped": {},
    }
    assert (mr["verdict"], mr["reason"], mr["spacing_mm"], mr["file_count"]) == (
        "refused",
        "missing-slices",
        None,
        6,
    )
    assert "files" not in document


def test_files_are_listed_on_request(volseg_cli, export: Path):
    document = json.loads(volseg_cli("inspect", export, "--json", "--files").out)
    files = {entry["file"]: entry for entry in document["files"]}
    assert len(files) == 14
    assert files["readme.txt"]["reason"] == "not-dicom"
    assert files["readme.txt"]["series"] is None
    assert files["ct/IM0000"] == {
        "file": "ct/IM0000",
        "frame": None,
        "series": CT.series_uid,
        "reason": "",
        "text": "",
    }
    table = volseg_cli("inspect", export, "--files").out
    assert all(name in table for name in files)


def test_files_of_an_archive_are_named_by_their_members(volseg_cli, export: Path, tmp_path: Path):
    document = json.loads(
        volseg_cli("inspect", zip_folder(export, tmp_path / "a.zip"), "--json", "--files").out
    )
    assert "ct/IM0000" in {entry["file"] for entry in document["files"]}


@pytest.mark.parametrize("options", [(), ("--json",), ("--files",), ("--json", "--files"), ("--join",)])
def test_no_word_about_the_patient(volseg_cli, export: Path, options):
    outcome = volseg_cli("inspect", export, *options)
    assert not [secret for secret in SECRETS if secret in outcome.out + outcome.err]


def test_the_short_key_can_be_given_to_series(volseg_cli, tmp_path: Path):
    """Long UIDs with a common ending: the table shows as much as tells them apart."""
    folder = tmp_path / "export"
    for number in (1, 2):
        write_series(
            folder / str(number), replace(CT, series_uid=f"1.2.826.{number}.123456789012345678", seed=number)
        )
    write_series(folder / "3", part(replace(CT, series_uid="1.2.5"), "A", edit=setting(EchoTime="1")))
    lines = volseg_cli("inspect", folder).out.splitlines()[1:4]
    keys = [line.split()[4] for line in lines]
    assert len(set(keys)) == 3
    for key in keys:
        assert volseg_cli("convert", folder, tmp_path / "out.nii.gz", "--series", key).code == 0


def test_join(volseg_cli, tmp_path: Path):
    lower = replace(CT, shape=(6, 5, 4))
    upper = replace(
        CT, shape=(6, 5, 3), first_position=(-31.25, 42.5, 27.0), series_uid="1.2.826.0.1.999.7.9", seed=2
    )
    for number, spec in enumerate((lower, upper)):
        write_series(tmp_path / "export" / str(number), spec)
    apart, joined = (
        json.loads(volseg_cli("inspect", tmp_path / "export", "--json", *more).out)["series"]
        for more in ((), ("--join",))
    )
    assert [series["slices"] for series in apart] == [4, 3]
    assert [series["slices"] for series in joined] == [7]


def test_gaps(volseg_cli, export: Path):
    document = json.loads(volseg_cli("inspect", export, "--json", "--allow-gaps").out)
    assert [series["verdict"] for series in document["series"]] == ["ok", "ok"]


def test_nothing_dicom_is_a_refusal(volseg_cli, tmp_path: Path):
    (tmp_path / "readme.txt").write_text("hello")
    for source in (tmp_path, tmp_path / "readme.txt", tmp_path / "nowhere"):
        outcome = volseg_cli("inspect", source)
        assert outcome.code == 2
        assert str(source) in outcome.err


def test_nothing_but_refusals_is_no_failure(volseg_cli, tmp_path: Path):
    write_series(tmp_path / "export", CT).files[2].unlink()
    assert volseg_cli("inspect", tmp_path / "export").code == 0


def test_progress_goes_to_a_terminal_only(volseg_cli, export: Path, monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    outcome = volseg_cli("inspect", export, "--json")
    assert "14 files read" in terminal.getvalue()
    assert json.loads(outcome.out)["file_count"] == 14


def test_a_series_without_a_uid_is_listed(volseg_cli, tmp_path: Path):
    def edit(dataset: Dataset, _: int) -> None:
        del dataset.SeriesInstanceUID

    write_series(tmp_path, replace(CT, edit=edit))
    (tmp_path / "readme.txt").write_text("hello")
    out = volseg_cli("inspect", tmp_path).out
    assert "no-uid" in out
    assert out.splitlines()[-1] == "  8 files: 7 in series, 1 not-dicom"
    (record,) = json.loads(volseg_cli("inspect", tmp_path, "--json").out)["series"]
    assert (record["key"], record["verdict"]) == ("no-uid", "ok")
