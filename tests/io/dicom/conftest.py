"""Fixtures of the DICOM reading tests."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder whose name gives nothing away."""
    folder = tmp_path / "export"
    folder.mkdir()
    return folder
