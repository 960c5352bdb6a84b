"""Names, numbers, dates and times of a patient reach nothing that volseg prints, logs or writes as an image."""

import gzip
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dicom_files import SECRETS, VENDORS, SeriesSpec, write_series
from tests.io.dicom.case import part
from volseg.cli.app import run
from volseg.errors import VolsegError
from volseg.io import read_volume, write_volume


@pytest.fixture(params=VENDORS)
def export(request: pytest.FixtureRequest, folder: Path) -> Path:
    """Two series that can be read, one with a gap, a duplicate and a damaged file."""
    spec = SeriesSpec(vendor=request.param)
    written = write_series(folder / "a", spec)
    write_series(folder / "b", part(replace(spec, series_uid="1.2.826.0.1.999.1.2", seed=1), "B"))
    gap = write_series(folder / "c", part(replace(spec, series_uid="1.2.826.0.1.999.1.3"), "C"))
    gap.files[3].unlink()
    shutil.copy(written.files[0], folder / "copy")
    (folder / "cut").write_bytes(written.files[0].read_bytes()[:600])
    return folder


@pytest.mark.parametrize("options", [[], ["--json"], ["--files"], ["--json", "--files"]])
def test_inspect_shows_no_identity(options: list[str], export: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["inspect", str(export), *options]) == 0
    captured = capsys.readouterr()
    assert "patient 1" in captured.out
    assert _secrets_in(captured.out + captured.err) == []


def test_errors_and_logs_hold_no_identity(
    export: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    for source in (export, export / "c", export / "cut"):
        with pytest.raises(VolsegError) as caught:
            read_volume(source)
        error = caught.value
        assert _secrets_in(f"{error} {error.__cause__} {error.__context__}") == []
    read_volume(export / "b")
    assert _secrets_in(caplog.text + "".join(capsys.readouterr())) == []


def test_converted_image_holds_no_identity(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "out" / "scan.nii.gz"
    output.parent.mkdir()
    assert run(["convert", str(export / "b"), str(output)]) == 0
    assert _secrets_in("".join(capsys.readouterr())) == []
    assert [path.name for path in output.parent.iterdir()] == ["scan.nii.gz"]
    assert _secrets_in(gzip.decompress(output.read_bytes()).decode("latin-1")) == []
    assert b"scan" not in output.read_bytes()[:40]  # the name field of the gzip header


def test_other_formats_hold_no_identity(export: Path, tmp_path: Path):
    volume = read_volume(export / "b")
    for name in ("scan.nii", "scan.nrrd", "scan.mha"):
        write_volume(volume, tmp_path / name)
        assert _secrets_in((tmp_path / name).read_bytes().decode("latin-1")) == []
    assert _secrets_in(repr(volume.origin)) == []


def _secrets_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]
