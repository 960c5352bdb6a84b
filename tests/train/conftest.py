from pathlib import Path

import numpy as np
import pytest

from volseg.datasets import Case
from volseg.geometry import Grid
from volseg.io import write_label_map, write_volume
from volseg.volume import LabelMap, Volume

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make_case(tmp_path):
    """A labelled case on an oblique, left-handed grid: label values 1 and 4, intensities follow the labels."""

    def make(name="a", shape=(9, 12, 7), values=(1, 4), shift_mm=0.0, label=True):
        angle = 0.3
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([-0.7, 0.9, 2.5])
        affine[:3, 3] = (30, -20, 11)
        grid = Grid(shape, affine)
        labels = np.zeros(shape, np.uint8)
        labels[2:5, 3:9, 2:5] = values[0]
        labels[5:7, 3:9, 2:5] = values[1]
        noise = np.random.default_rng(0).normal(size=shape)
        write_volume(Volume((labels * 10 + noise).astype(np.float32), grid), tmp_path / f"{name}.nii.gz")
        moved = affine.copy()
        moved[0, 3] += shift_mm
        write_label_map(LabelMap(labels, Grid(shape, moved)), tmp_path / f"{name}_seg.nii.gz")
        return Case(name, (tmp_path / f"{name}.nii.gz",), tmp_path / f"{name}_seg.nii.gz" if label else None)

    return make


@pytest.fixture(scope="session")
def phantom_config():
    """Settings of the smoke training with its data found from anywhere, made faster by overrides."""
    from volseg.config import load_config
    from volseg.train.settings import TrainConfig

    def load(*overrides):
        root = f"dataset.root={ROOT / 'data_samples' / 'msd_phantom'}"
        return load_config(ROOT / "configs/smoke/train_phantom.yaml", TrainConfig, [root, *overrides])

    return load
