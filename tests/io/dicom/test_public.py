"""DICOM through the public functions: read_volume, write_label_map, read_label_map."""

from pathlib import Path

import numpy as np
import pytest

import volseg
from tests.dicom_files import SeriesSpec, write_series
from tests.io.dicom.labelled import random_labels
from volseg.errors import OutputError


def test_a_tilted_series_goes_in_and_its_labels_come_back(folder: Path):
    write_series(folder / "series", SeriesSpec(tilt_degrees=17.0))
    source = volseg.read_volume(folder / "series")
    label_map = random_labels(source)
    volseg.write_label_map(label_map, folder / "labels.dcm", source=source)
    found = volseg.read_label_map(folder / "labels.dcm")
    assert found.grid.is_same(source.grid)
    order = np.searchsorted([0, *label_map.labels.values], label_map.array)  # segments are numbered 1, 2, 3
    np.testing.assert_array_equal(found.array, order)


def test_a_seg_needs_the_series_it_refers_to(folder: Path):
    write_series(folder / "series", SeriesSpec())
    source = volseg.read_volume(folder / "series")
    with pytest.raises(OutputError, match="source="):
        volseg.write_label_map(random_labels(source), folder / "labels.dcm")
    assert not (folder / "labels.dcm").exists()
