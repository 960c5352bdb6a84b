"""Scans without labels, and a pre-training that takes seconds."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from volseg.config import override_config
from volseg.pretrain.settings import load_pretraining

ROOT = Path(__file__).parents[2]
AFFINE = np.array([[-0.7, 0, 0, 30], [0, 0, 1.4, -20], [0, 0.9, 0, 11], [0, 0, 0, 1.0]])
"""Left-handed, anisotropic, its axes in another order than those of the body."""


@pytest.fixture
def write_scan():
    def write(path, seed=0, shape=(19, 23, 17), channels=1):
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).normal(size=(*shape, channels))
        smooth = ndimage.gaussian_filter(noise, (3, 3, 3, 0)).astype(np.float32)
        nib.save(nib.Nifti1Image(smooth if channels > 1 else smooth[..., 0], AFFINE), path)
        return path

    return write


@pytest.fixture
def quick():
    """The smoke pre-training of the phantom, made faster by overrides."""
    config = load_pretraining(ROOT / "configs/smoke/pretrain_phantom.yaml")

    def make(*overrides):
        fast = [
            f"dataset.root={ROOT / 'data_samples' / 'msd_phantom'}",
            *("steps=4", "held_out.every_steps=2", "patch_voxels=[12,16,12]", "architecture.widths=[4,8]"),
            *("optimizer.warmup_steps=1", "augment.elastic_mm=0", "contrastive.width=8"),
        ]
        return override_config(config, [*fast, *overrides], source="the test")

    return make
