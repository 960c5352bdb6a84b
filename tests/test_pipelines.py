"""Every pipeline runs, on the samples, with public names only."""

import ast
from pathlib import Path

import pytest

import volseg
from pipelines.quickstart import SAMPLE, quickstart
from pipelines.score_held_out import score_held_out

PIPELINES = sorted((Path(__file__).parents[1] / "pipelines").glob("*.py"))


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_uses_public_names_only_and_stays_short(path: Path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] != "volseg", "import volseg, and use its public names"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "volseg":
            assert node.attr in volseg.__all__


def test_quickstart(tmp_path: Path):
    volumes_ml = quickstart(SAMPLE, tmp_path / "out")
    label_map = volseg.read_label_map(tmp_path / "out" / "labels.nii.gz")
    assert label_map.grid.is_same(volseg.read_volume(SAMPLE).grid)
    assert (tmp_path / "out" / "preview.png").exists()
    sides, parts = ("Right", "Left"), ("anterior", "posterior")
    assert set(volumes_ml) == {f"{side} {part} hippocampus" for side in sides for part in parts}
    assert all(1 < volume_ml < 4 for volume_ml in volumes_ml.values()), "half of an adult hippocampus"


def test_score_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = Path(__file__).parents[1]
    config = root / "configs" / "smoke" / "train_phantom.yaml"
    overrides = [f"dataset.root={root / 'data_samples' / 'msd_phantom'}"]
    dice = score_held_out(config, overrides, model="hippocampus", csv=tmp_path / "scores.csv")
    assert set(dice) == {"Anterior", "Posterior"}  # a model that never saw a phantom: only the way is tested
    assert "(1 cases)" in capsys.readouterr().out
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 3
