"""The table of cases: each folder gives its exact volumes, or the reason that an expert would give."""

import itertools
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.dicom_files import SECRETS, SeriesSpec, write_series
from tests.io.dicom import cases_enhanced, cases_files, cases_space, cases_volumes
from tests.io.dicom.case import Build, Exact, Expected
from volseg.errors import SeriesError
from volseg.geometry import Grid
from volseg.io import read_volume, write_volume
from volseg.io.dicom.frame import Stack
from volseg.io.dicom.index import SeriesSummary, index_series
from volseg.io.dicom.reading import read_series, read_stack
from volseg.volume import Volume

GROUPS: dict[str, dict[str, Build]] = {
    "tilt": cases_space.TILT,
    "order": cases_space.ORDER,
    "gaps": cases_space.GAPS,
    "orientation": cases_space.ORIENTATION,
    "repeated": cases_volumes.REPEATED,
    "duplicates": cases_volumes.DUPLICATES,
    "other files": cases_volumes.OTHER_FILES,
    "noise": cases_volumes.NOISE,
    "joined": cases_volumes.JOINED,
    "enhanced": cases_enhanced.ENHANCED,
    "values": cases_files.VALUES,
    "syntaxes": cases_files.SYNTAXES,
    "headers": cases_files.HEADERS,
    "containers": cases_files.CONTAINERS,
    "damage": cases_files.DAMAGE,
}
CASES = [
    pytest.param(build, id=f"{group}: {name}")
    for group, cases in GROUPS.items()
    for name, build in cases.items()
]
CORNER_TOLERANCE_MM = 0.02


@pytest.mark.parametrize("build", CASES)
def test_case(build: Build, tmp_path: Path):
    folder = tmp_path / "export"
    folder.mkdir()
    expected = build(folder)
    source = folder / expected.source
    summaries = index_series(source, allow_gaps=expected.allow_gaps, join=expected.join)
    _check_no_identity(summaries)
    _check_every_file_is_accounted_for(folder, summaries)
    if expected.refused:
        _check_refused(source, summaries, expected)
        return
    assert [summary.reason for summary in summaries if summary.verdict == "refused"] == []
    _check_volumes(summaries, expected)
    found = Counter(dropped.reason.value for summary in summaries for dropped in summary.dropped)
    assert found == dict(expected.dropped)
    if len(expected.volumes) == 1:
        whole = read_series(source, allow_gaps=expected.allow_gaps, join=expected.join)
        assert differences(whole, expected.volumes[0]) == []
        assert not _secrets_in(repr(whole.origin))


def differences(volume: Volume, exact: Exact) -> list[str]:
    """What is wrong with a volume; nothing where it is the expected one."""
    if volume.grid.shape != exact.grid.shape:
        return [f"shape {volume.grid.shape}, expected {exact.grid.shape}"]
    found = []
    distance_mm = volume.grid.distance_mm(exact.grid)
    if distance_mm > CORNER_TOLERANCE_MM:
        found.append(f"a corner is {distance_mm:.4f} mm off")
    off = np.abs(volume.array[0].astype(np.float64) - exact.truth)
    allowed = exact.tolerance
    if volume.array.dtype.kind == "f":
        allowed = allowed + 2e-7 * np.maximum(1, np.abs(exact.truth))
    if (off > allowed).any():
        found.append(f"{(off > allowed).sum()} voxels differ, by up to {off.max()}")
    return found


def _check_volumes(summaries: list[SeriesSummary], expected: Expected) -> None:
    """Each volume that comes out is one of the expected ones, and each of those comes out."""
    good = [summary for summary in summaries if summary.verdict == "ok"]
    volumes = [read_stack(_stack(summary), summary.dropped) for summary in good]
    assert len(volumes) == len(expected.volumes), [(s.key, s.trait, s.slices) for s in good]
    orders = itertools.permutations(expected.volumes)
    pairings = [[differences(v, e) for v, e in zip(volumes, order, strict=True)] for order in orders]
    best = min(pairings, key=lambda pairing: sum(map(bool, pairing)))
    assert best == [[]] * len(volumes)
    for summary, volume in zip(good, volumes, strict=True):
        assert summary.shape == volume.grid.shape
        assert np.allclose(summary.spacing_mm or (), volume.grid.spacing_mm, atol=1e-4)


def _stack(summary: SeriesSummary) -> Stack:
    assert summary.stack is not None
    return summary.stack


def _check_refused(source: Path, summaries: list[SeriesSummary], expected: Expected) -> None:
    found = [summary.reason for summary in summaries if summary.verdict == "refused"]
    with pytest.raises(SeriesError) as caught:
        read_volume(source)
    message = str(caught.value)
    assert caught.value.reason in expected.refused, message
    assert not _secrets_in(message)
    assert [words for words in expected.says if words not in message] == []
    if not expected.is_seen_in_pixels:
        assert found == list(expected.refused)
        assert not [summary.key for summary in summaries if summary.verdict == "ok"]


def _check_every_file_is_accounted_for(folder: Path, summaries: list[SeriesSummary]) -> None:
    used = {str(f.file) for s in summaries if s.stack is not None for f in s.stack.frames}
    dropped = {str(d.file) for s in summaries for d in s.dropped}
    archives = set(folder.rglob("*.zip"))
    disc = set(folder.rglob("DICOMDIR"))
    files = {str(path) for path in folder.rglob("*") if path.is_file()}
    missing = files - used - dropped - set(map(str, archives | disc))
    assert not missing
    if not archives:
        assert used | dropped <= files | set(map(str, disc))


def _check_no_identity(summaries: list[SeriesSummary]) -> None:
    shown = repr(summaries) + " ".join(
        f"{s.patient} {s.study} {s.text} {s.description} {s.trait} {[d.text for d in s.dropped]}"
        for s in summaries
    )
    assert not _secrets_in(shown)


def _secrets_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize(("vendor", "degrees"), [("siemens", 15.0), ("ge", -22.5), ("philips", 30.0)])
def test_tilt_is_kept_in_nifti(vendor: str, degrees: float, folder: Path, tmp_path: Path):
    written = write_series(folder, SeriesSpec(vendor=vendor, tilt_degrees=degrees, orientation="feet-first"))
    write_volume(read_volume(folder), tmp_path / "tilted.nii.gz")
    image = nib.load(tmp_path / "tilted.nii.gz")
    assert written.grid.distance_mm(Grid(image.shape, image.affine)) < CORNER_TOLERANCE_MM
    assert np.array_equal(np.asarray(image.dataobj), written.truth)


def test_filled_gaps_are_recorded(folder: Path):
    written = write_series(folder, SeriesSpec())
    written.files[3].unlink()
    volume = read_series(folder, allow_gaps=True)
    assert volume.origin.dicom is not None
    assert any("interpolat" in note for note in volume.origin.dicom.notes)
    assert volume.origin.dicom.slices.tolist() == [0, 1, 2, 4, 5, 6]


def test_variable_spacing_is_resampled_on_request(folder: Path):
    """4 mm, then 7 mm: what is linear along the table stays so, whatever the steps."""
    offsets_mm = (0.0, 4.0, 8.0, 12.0, 19.0, 26.0, 33.0)
    spec = SeriesSpec(offsets_mm=offsets_mm, slope=1e-6, intercept=[10 * offset for offset in offsets_mm])
    write_series(folder, spec)
    volume = read_series(folder, allow_gaps=True)
    assert volume.grid.index_to_world([0, 0, 0])[2] == pytest.approx(17.0, abs=CORNER_TOLERANCE_MM)
    points = volume.grid.index_to_world([[0, 0, k] for k in range(volume.grid.shape[2])])
    assert points[-1, 2] == pytest.approx(17.0 + 33.0, abs=CORNER_TOLERANCE_MM)
    np.testing.assert_allclose(volume.array[0, 2, 3], 10 * (points[:, 2] - 17.0), atol=0.51)


def test_table_is_large():
    assert len(CASES) >= 60
