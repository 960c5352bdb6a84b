"""`volseg info`, `volseg models` and `volseg doctor`."""

import json
import shutil
import subprocess
import sys

import pytest

from volseg.infer.predictor import golden_case
from volseg.io import read_volume
from volseg.package import load_package, write_package


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """An empty folder in place of the bundled models."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    monkeypatch.setattr("volseg.zoo._FOLDER", folder)
    return folder


@pytest.fixture
def with_golden(zoo, tiny_package, scan):
    package = load_package(tiny_package)
    golden = golden_case(package, read_volume(scan))
    path = zoo / "tiny.volseg"
    write_package(path, info=package.info, weights=package.weights(), card=package.card, golden=golden)
    return path


def test_info_tells_what_one_must_know(volseg_cli, tiny_package):
    outcome = volseg_cli("info", tiny_package)
    assert (outcome.code, outcome.err) == (0, "")
    for words in (
        "tiny 0.1: Nothing in particular",
        "T1 (MR)",
        "Tests of the command line.",
        "Knows nothing.",
        "CC0-1.0",
    ):
        assert words in outcome.out
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["4", "posterior"] in lines
    assert ["label", "dice", "hd95_mm", "cases"] in lines
    assert ["anterior", "0.9000", "1.2500", "3"] in lines
    assert ["posterior", "0.8000", "-", "3"] in lines


def test_info_tells_regions_slices_and_the_fingerprint(volseg_cli, tiny_package, tmp_path):
    package = load_package(tiny_package)
    spread = {"least": 1.0, "low": 1.5, "median": 2.25, "high": 3.0, "most": 4.0}
    fingerprint = {
        "cases": 12,
        "patients": 11,
        "modality": "MR",
        "spacing_mm": [spread, spread, {**spread, "median": 0.7}],
        "shape": [spread] * 3,
        "size_mm": [{**spread, "low": 150.2, "high": 211.8}] * 3,
        "nonzero_mm": [spread] * 3,
        "nonzero_fraction": spread,
        "channels": [
            {
                "name": "T1",
                "mean": 512.25,
                "deviation": 40.5,
                "low": 300,
                "median": 500,
                "high": 700,
                "integer": True,
                **dict.fromkeys(("lowest", "highest", "peak"), spread),
                "modality": "MR",
            }
        ],
        "labels": [],
    }
    fields = package.info.model_dump(mode="json")
    fields["architecture"]["dimensions"] = 2
    fields["tile"] = {"tile_voxels": [16, 16, 1], "slices_around": 2}
    fields["regions"] = [
        {"name": "whole", "values": [1, 4], "paint": 1},
        {"name": "core", "values": [4], "paint": 4},
    ]
    fields["training"]["fingerprint"] = fingerprint
    info = type(package.info).model_validate(fields)
    path = tmp_path / "regions.volseg"
    write_package(path, info=info, weights={}, card="# Card", golden=None)
    outcome = volseg_cli("info", path)
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["whole", "anterior,", "posterior", "anterior"] in lines
    assert ["core", "posterior", "posterior"] in lines
    assert "each slice with 2 on each side, 5 channels in all" in outcome.out
    assert "150-212 x 150-212 x 150-212 mm" in outcome.out
    assert "median spacing 2.25 x 2.25 x 0.7 mm" in outcome.out
    assert "T1 in the labels: 512.2 ± 40.5, median 500 (0.5 to 99.5 %: 300 to 700)" in outcome.out


def test_info_json_is_the_model_json(volseg_cli, tiny_package):
    outcome = volseg_cli("info", tiny_package, "--json")
    assert json.loads(outcome.out) == load_package(tiny_package).info.model_dump(mode="json")


def test_info_needs_no_torch(tiny_package):
    code = (
        "import sys; from volseg.cli.app import run; run(['info', sys.argv[1]]);"
        "print('LOADED', *(name.split('.')[0] for name in sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tiny_package)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    text, _, loaded = result.stdout.partition("LOADED")
    assert "Nothing in particular" in text
    assert {"torch", "monai", "nibabel", "SimpleITK"}.isdisjoint(loaded.split())


def test_models_lists_the_bundled_ones(volseg_cli, zoo, tiny_package):
    assert "no models are bundled" in volseg_cli("models").out
    shutil.copy(tiny_package, zoo / "tiny.volseg")
    lines = volseg_cli("models").out.splitlines()
    assert lines[0].split() == ["name", "version", "MB", "labels", "title"]
    assert lines[1].split()[:2] == ["tiny", "0.1"]
    assert "anterior, posterior" in lines[1]


def test_a_bundled_model_is_found_by_name(volseg_cli, zoo, tiny_package, scan):
    shutil.copy(tiny_package, zoo / "tiny.volseg")
    assert volseg_cli("info", "tiny").code == 0
    assert volseg_cli("predict", scan, "--model", "tiny").code == 0
    assert "Did you mean 'tiny'?" in volseg_cli("info", "tinny").err


def test_doctor_with_sound_models(volseg_cli, with_golden):
    outcome = volseg_cli("doctor")
    assert (outcome.code, outcome.err) == (0, "")
    assert "python" in outcome.out
    assert "torch" in outcome.out
    assert "cpu" in outcome.out
    assert "model   tiny 0.1: checksums right, golden case right (Dice 1.0000)" in outcome.out


def test_doctor_with_a_damaged_model(volseg_cli, with_golden):
    data = bytearray(with_golden.read_bytes())
    data[data.find(b"Knows nothing")] ^= 1
    with_golden.write_bytes(data)
    outcome = volseg_cli("doctor")
    assert outcome.code == 1
    assert "model   tiny: FAILED" in outcome.out
    assert str(with_golden) in outcome.out


@pytest.fixture
def few_variants(monkeypatch):
    """Three of the catalogue, so that the table is quick."""
    from volseg.models import catalogue

    chosen = [catalogue.variant(name) for name in ("unet-2015", "unetpp-l1", "unetpp")]
    monkeypatch.setattr(catalogue, "CATALOGUE", tuple(chosen))


def test_architectures_are_listed_with_their_cost(volseg_cli, few_variants):
    outcome = volseg_cli("models", "--architectures")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert [line[:2] for line in lines[1:6]] == [
        ["unet-2015", "2"],
        ["unetpp-l1", "2"],
        ["unetpp-l1", "3"],
        ["unetpp", "2"],
        ["unetpp", "3"],
    ]
    assert lines[1][2] == "31,030,723"  # 31,030,658 with two labels, and 64 weights and a bias for the third
    assert lines[1][-4:] == ["Ronneberger", "et", "al.", "2015"]
    assert "256 x 256 and 96 x 96 x 96 voxels" in outcome.out
    only = volseg_cli("models", "--architectures", "--dims", "3").out
    assert "96 x 96 x 96" in only
    assert "256 x 256" not in only


def test_architectures_as_json_build_the_same_networks(volseg_cli, few_variants):
    from volseg.models import MODELS

    rows = json.loads(volseg_cli("models", "--architectures", "--json", "--dims", "2").out)
    assert [row["name"] for row in rows] == ["unet-2015", "unetpp-l1", "unetpp"]
    for row in rows:
        network = MODELS.build(row["architecture"]).build(1, 3)
        assert sum(parameter.numel() for parameter in network.parameters()) == row["parameters"]
    assert rows[0]["extents"] == [268, 268]


def test_one_architecture_as_yaml(volseg_cli):
    import yaml

    outcome = volseg_cli("models", "--yaml", "unetpp-anisotropic")
    fields = yaml.safe_load(outcome.out)["architecture"]
    assert (fields["name"], fields["dimensions"], fields["strides"][0]) == ("unetpp", 3, [2, 2, 1])
    assert yaml.safe_load(volseg_cli("models", "--yaml", "unet", "--dims", "2").out)["architecture"] == {
        "name": "unet",
        "dimensions": 2,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--architectures", "--dims", "4"], "--dims is 2 or 3, found 4"),
        (["--yaml", "unet-2015", "--dims", "3"], "exists in 2D only"),
        (["--yaml", "unetp"], "no variant is called 'unetp'"),
        (["--dims", "2"], "add --architectures"),
    ],
)
def test_mistakes_about_architectures(volseg_cli, arguments, message):
    outcome = volseg_cli("models", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
