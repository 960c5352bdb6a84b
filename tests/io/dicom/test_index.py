"""The index of an export: order, pseudonyms, verdicts, and every file accounted for."""

import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dicom_files import SECRETS, SeriesSpec, write_series, zip_folder
from tests.io.dicom.case import part, setting
from volseg.errors import InputError
from volseg.io.dicom.frame import Reason
from volseg.io.dicom.index import SeriesSummary, file_fates, index_series

CT = SeriesSpec()
MR = SeriesSpec(
    shape=(5, 7, 4),
    modality="MR",
    intercept=0.0,
    orientation="coronal",
    patient_id="GEHEIM-2",
    study_uid="1.2.826.0.1.999.2",
    series_uid="1.2.826.0.1.999.2.1",
    edit=setting(ScanningSequence="SE", EchoTime="95", RepetitionTime="4000"),
)
BONE = replace(CT, series_uid="1.2.826.0.1.999.1.2", series_number=12, seed=3, description="bone")
EARLY = replace(CT, series_uid="1.2.826.0.1.999.1.3", series_number=2, seed=4, description="early")
SCOUT = replace(
    CT,
    shape=(9, 8, 2),
    series_uid="1.2.826.0.1.999.1.7",
    series_number=0,
    edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
)


@pytest.fixture
def export(folder: Path) -> Path:
    """Two patients, four volumes, a scout, a series with a hole, and junk."""
    for spec, name in ((CT, "z"), (BONE, "a"), (EARLY, "m"), (MR, "b"), (SCOUT, "s")):
        write_series(folder / name, spec)
    hole = replace(CT, series_uid="1.2.826.0.1.999.1.5", series_number=30, seed=8)
    write_series(folder / "hole", hole).files[3].unlink()
    (folder / "readme.txt").write_text("burned by Dr Who")
    return folder


def by_uid(summaries: list[SeriesSummary], uid: str) -> SeriesSummary:
    (found,) = [summary for summary in summaries if summary.series_uid == uid]
    return found


def test_order_is_by_patient_study_and_series_number(export: Path):
    summaries = index_series(export)
    assert [summary.series_uid for summary in summaries][-1] == ""
    told = [(summary.patient, summary.study) for summary in summaries if summary.series_uid]
    assert sorted(set(told)) == [("patient 1", "study 1"), ("patient 2", "study 2")]
    assert told == sorted(told)
    ct = [summary.series_uid.rpartition(".")[2] for summary in summaries if summary.study_uid == CT.study_uid]
    assert ct == ["7", "1", "3", "2", "5"], "series numbers 0, 1, 2, 12, 30: as numbers, not as text"
    assert [s.key for s in summaries] == [s.key for s in index_series(export)]


def test_what_a_line_says(export: Path):
    summaries = index_series(export)
    ct, mr = by_uid(summaries, CT.series_uid), by_uid(summaries, MR.series_uid)
    assert (ct.verdict, ct.reason, ct.modality, ct.description) == ("ok", "", "CT", "test series")
    assert (ct.slices, ct.shape, ct.body_part) == (7, (6, 5, 7), "ABDOMEN")
    assert ct.spacing_mm == pytest.approx(CT.spacing_mm)
    assert (mr.shape, mr.contrast) == ((5, 7, 4), "T2")
    assert mr.spacing_mm == pytest.approx(MR.spacing_mm)
    hole = by_uid(summaries, "1.2.826.0.1.999.1.5")
    assert (hole.verdict, hole.reason, hole.spacing_mm) == ("refused", "missing-slices", None)
    assert hole.text
    assert hole.shape == (6, 5, 6)
    scout = by_uid(summaries, SCOUT.series_uid)
    assert (scout.verdict, scout.reason, scout.text) == ("skipped", "scout", "2 x scout")
    assert (summaries[-1].verdict, summaries[-1].reason, summaries[-1].key) == ("skipped", "not-dicom", "")


def test_gaps_are_allowed_on_request(export: Path):
    hole = by_uid(index_series(export, allow_gaps=True), "1.2.826.0.1.999.1.5")
    assert (hole.verdict, hole.slices, hole.shape) == ("ok", 6, (6, 5, 7))


def test_nothing_of_the_patient_is_shown(export: Path):
    summaries = index_series(export)
    shown = repr(summaries) + repr([(summary.text, summary.dropped) for summary in summaries])
    assert not [secret for secret in SECRETS if secret in shown]


def test_progress_counts_every_file(export: Path):
    counts: list[int] = []
    index_series(export, progress=counts.append)
    assert counts == list(range(1, sum(path.is_file() for path in export.rglob("*")) + 1))


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_nothing(export: Path, workers: int):
    one, many = index_series(export, workers=workers), index_series(export)
    assert [(s.key, s.patient, s.files) for s in one] == [(s.key, s.patient, s.files) for s in many]


def test_a_zip_is_indexed_as_its_folder(export: Path, tmp_path: Path):
    inside, outside = index_series(zip_folder(export, tmp_path / "a.zip")), index_series(export)
    assert [(s.key, s.shape, s.reason) for s in inside] == [(s.key, s.shape, s.reason) for s in outside]


def test_volumes_of_one_series_are_numbered(folder: Path):
    for name, number in (("A", 1), ("B", 2), ("C", 3)):
        write_series(folder, part(CT, name, seed=number, edit=setting(TemporalPositionIdentifier=number)))
    summaries = index_series(folder)
    assert [summary.key for summary in summaries] == [CT.series_uid + end for end in ("#1", "#2", "#3")]
    assert len({summary.trait for summary in summaries}) == 3


def test_one_uid_for_two_patients_is_two_series(folder: Path):
    write_series(folder / "a", replace(CT, shape=(6, 5, 4)))
    other = replace(CT, shape=(6, 5, 3), patient_id="GEHEIM-3", study_uid="1.2.826.0.1.999.3", seed=2)
    far = replace(other, first_position=(-31.25, 42.5, 27.0), sop_uid=lambda n: f"1.2.3.{n}")
    write_series(folder / "b", far)
    summaries = index_series(folder)
    assert sorted(summary.slices for summary in summaries) == [3, 4], "never one volume of 7"
    assert len({summary.key for summary in summaries}) == 2
    assert len({summary.patient for summary in summaries}) == 2


def test_two_patients_in_one_study_and_series_are_never_one_volume(folder: Path):
    positions = replace(
        CT, shape=(6, 5, 8)
    ).slice_positions.tolist()  # one stack of 8, if patients did not count
    mine = replace(CT, shape=(6, 5, 4), positions=positions[:4])
    write_series(folder / "a", mine)
    write_series(
        folder / "b",
        replace(mine, positions=positions[4:], patient_id="GEHEIM-3", seed=2, sop_uid=lambda n: f"1.2.3.{n}"),
    )
    summaries = index_series(folder)
    assert [summary.slices for summary in summaries] == [4, 4], "never one volume of 8"
    assert len({summary.patient for summary in summaries}) == 2


def test_a_name_that_is_spelt_in_two_ways_divides_no_series(folder: Path):
    edit = setting(PatientName=lambda n: "GEHEIM^NAME" if n % 2 else "GEHEIM^NAME^^")
    write_series(folder, replace(CT, edit=edit))
    (summary,) = index_series(folder)
    assert (summary.slices, summary.verdict) == (7, "ok")


def test_join_leaves_series_apart_that_collide(folder: Path):
    write_series(folder / "a", CT)
    write_series(folder / "b", BONE)
    assert [summary.shape for summary in index_series(folder, join=True)] == [(6, 5, 7)] * 2


def test_join_does_not_lose_series_of_another_matrix(folder: Path):
    write_series(folder / "a", CT)
    write_series(folder / "b", replace(BONE, shape=(8, 8, 3)))
    summaries = index_series(folder, join=True)
    assert sorted(summary.slices for summary in summaries) == [3, 7]


def test_join_needs_one_frame_of_reference(folder: Path):
    """Half a volume each: without a common frame of reference nobody knows that they fit."""
    write_series(folder / "a", replace(CT, shape=(6, 5, 4)))
    upper = replace(
        BONE, shape=(6, 5, 3), first_position=(-31.25, 42.5, 27.0), frame_of_reference="1.2.826.0.1.999.4"
    )
    write_series(folder / "b", upper)
    assert len(index_series(folder, join=True)) == 2
    shutil.rmtree(folder / "b")
    write_series(folder / "b", replace(upper, frame_of_reference=CT.frame_of_reference))
    (whole,) = index_series(folder, join=True)
    assert whole.slices == 7


def test_no_such_folder(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        index_series(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path: Path):
    assert index_series(tmp_path) == []


SPOILS = ("", "", "cut", "text", "empty", "copy", "no position", "scout", "matrix")


def spoil(file: Path, way: str) -> None:
    if way == "cut":
        file.write_bytes(file.read_bytes()[:600])
    elif way in {"text", "empty"}:
        file.write_text("hello" if way == "text" else "")
    elif way == "copy":
        shutil.copy(file, file.with_name(f"{file.name} copy"))


def edit_of(ways: list[str]):
    changes = {
        "no position": setting(ImagePositionPatient=None),
        "scout": setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "matrix": setting(Rows=1, Columns=30),
    }
    return lambda dataset, number: changes.get(ways[number % len(ways)], lambda *_: None)(dataset, number)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(SPOILS), min_size=1, max_size=6), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_every_file_is_accounted_for_once(series: list[list[str]], join: bool, allow_gaps: bool):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, ways in enumerate(series):
            spec = replace(
                CT,
                shape=(6, 5, len(ways)),
                seed=number,
                series_uid=f"1.2.826.0.9.{number}",
                edit=edit_of(ways),
            )
            for file, way in zip(write_series(folder / str(number), spec).files, ways, strict=True):
                spoil(file, way)
        summaries = index_series(folder, join=join, allow_gaps=allow_gaps)
        used = Counter(file.path for summary in summaries for file in summary.files)
        dropped = Counter(item.file.path for summary in summaries for item in summary.dropped)
        assert used + dropped == Counter(path for path in folder.rglob("*") if path.is_file())
        fates = file_fates(summaries)
        assert Counter(fate.file.path for fate in fates) == used + dropped
        assert all(bool(fate.key) != (fate.file.path in dropped) for fate in fates)
        assert all(fate.key or fate.reason in set(Reason) for fate in fates)


def test_files_that_name_a_series_are_listed_with_it(folder: Path):
    """A scout inside a series, a damaged slice that still names it, and a report that is a series by itself."""
    written = write_series(folder, CT)
    torn = folder / "torn"
    raw = written.files[0].read_bytes()
    torn.write_bytes(raw[: raw.index(CT.frame_of_reference.encode())])
    scout = part(CT, "scout", shape=(9, 8, 1), edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    write_series(folder, scout)
    (summary,) = index_series(folder)
    assert summary.slices == 7
    assert sorted(item.reason.value for item in summary.dropped) == ["scout", "unreadable"]


def test_joined_series_keep_what_was_dropped_of_each(folder: Path):
    lower, upper = (
        replace(CT, shape=(6, 5, 4)),
        replace(BONE, shape=(6, 5, 3), first_position=(-31.25, 42.5, 27.0)),
    )
    for spec in (lower, upper):
        write_series(folder / spec.series_uid, spec)
        scout = part(
            spec, "scout", shape=(9, 8, 1), edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        )
        write_series(folder / spec.series_uid, scout)
    (summary,) = index_series(folder, join=True)
    assert (summary.slices, len(summary.dropped)) == (7, 2)
    assert len(index_series(folder)) == 2
