"""Every pipeline runs, on the samples, with public names only."""

import ast
from pathlib import Path

import pytest

import volseg
from pipelines.quickstart import SAMPLE, quickstart
from pipelines.score_held_out import score_held_out
from pipelines.train_brats import train_brats
from pipelines.train_lits import train_lits

ROOT = Path(__file__).parents[1]
PIPELINES = sorted((ROOT / "pipelines").glob("*.py"))


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
    config = ROOT / "configs" / "smoke" / "train_phantom.yaml"
    overrides = [f"dataset.root={ROOT / 'data_samples' / 'msd_phantom'}"]
    dice = score_held_out(config, overrides, model="hippocampus", csv=tmp_path / "scores.csv")
    assert set(dice) == {"Anterior", "Posterior"}  # a model that never saw a phantom: only the way is tested
    assert "(1 cases)" in capsys.readouterr().out
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 3


def test_train_lits(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    overrides = [f"dataset.root={ROOT / 'data_samples' / 'LiTS_phantom'}"]
    dice = train_lits(ROOT / "configs/smoke/train_lits.yaml", overrides, tmp_path / "run")
    assert dice["Liver"] > 0.7
    assert "of 2 separate pieces found" in capsys.readouterr().out
    assert (tmp_path / "run" / "lits_smoke.volseg").is_file()


def test_train_brats(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    overrides = [f"dataset.root={ROOT / 'data_samples' / 'BraTS_phantom'}"]
    dice = train_brats(ROOT / "configs/smoke/train_brats.yaml", overrides, tmp_path / "run")
    assert set(dice) >= {"Whole tumour", "Tumour core", "Enhancing tumour"}
    assert dice["Whole tumour"] > 0.7
    assert (tmp_path / "run" / "preview.png").read_bytes().startswith(b"\x89PNG")
