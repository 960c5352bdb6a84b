"""Volumes in ml and how the sides differ."""

import json

import numpy as np
import pytest

from tests.grids import oblique_grid
from volseg.geometry import Grid
from volseg.infer.predictor import Prediction
from volseg.labels import Label, LabelTable
from volseg.locate import Region
from volseg.package import load_package
from volseg.report.record import write_record
from volseg.report.volumes import asymmetries, label_volumes
from volseg.volume import LabelMap
from volseg.zoo import find

TABLE = LabelTable.from_names(["Right head", "Right tail", "Left head", "Left tail", "Stem"])


def sided_map(counts=(30, 20, 10, 20, 7)):
    grid = oblique_grid(shear=0.2)
    array = np.zeros(grid.shape, np.uint8)
    array.ravel()[: sum(counts)] = np.repeat(np.arange(1, 6), counts)
    return LabelMap(array, grid, TABLE)


def test_volumes_are_voxels_times_the_determinant():
    label_map = sided_map()
    rows = label_volumes(label_map)
    assert [row.voxels for row in rows] == [30, 20, 10, 20, 7]
    assert rows[0].volume_ml == pytest.approx(30 * abs(np.linalg.det(label_map.grid.affine)) / 1000)


def test_sides_are_compared_by_name_and_in_total():
    head, tail, total = asymmetries(label_volumes(sided_map()))
    assert (head.name, tail.name, total.name) == ("head", "tail", "total")
    assert head.percent == pytest.approx(100)  # 30 against 10: twice their mean apart
    assert tail.percent == pytest.approx(0)
    assert total.percent == pytest.approx(100 * (50 - 30) / 40)
    assert asymmetries(label_volumes(sided_map((30, 0, 10, 0, 7))))[1].percent is None


def test_a_map_without_sides_has_no_asymmetry():
    grid = Grid((2, 2, 2), np.diag([1.0, 2.0, 3.0, 1.0]))
    labels = LabelTable((Label(1, "Left kidney", (1, 2, 3)), Label(2, "Liver", (1, 2, 3))))
    assert asymmetries(label_volumes(LabelMap(np.ones((2, 2, 2), np.uint8), grid, labels))) == []


def test_the_record_holds_volumes_sides_regions_and_warnings(tmp_path):
    label_map = sided_map()
    region = Region("right box", oblique_grid(shear=0.2), (1, 2), notes=("grown by 8 mm",))
    prediction = Prediction(label_map, None, (region,), {"correlation": 0.912345}, ("look at it",))
    info = load_package(find("hippocampus")).info
    write_record(
        prediction,
        tmp_path / "a.json",
        model=info,
        device="cpu",
        choices=["the only volume"],
        packages=["a", "b"],
    )
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["labels"][1] | {"volume_ml": 0} == {
        "value": 2,
        "name": "Right tail",
        "code": None,
        "voxels": 20,
        "volume_ml": 0,
    }
    assert found["sides"][0]["asymmetry_percent"] == 100
    assert found["regions"][0]["name"] == "right box"
    assert found["regions"][0]["notes"] == ["grown by 8 mm"]
    np.testing.assert_allclose(found["grid"]["affine_ras_mm"], label_map.grid.affine)
    assert found["measures"] == {"correlation": 0.9123}
    assert found["warnings"] == ["look at it"]
    assert found["model"] == {
        "name": "hippocampus",
        "version": info.version,
        "device": "cpu",
        "packages": ["a", "b"],
    }
    assert found["series"] == ["the only volume"]
