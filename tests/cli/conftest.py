"""A small scan, a small untrained model, and the command line run in this process."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from volseg.cli.app import run
from volseg.models.unetpp import UNetPlusPlus
from volseg.package import ChannelInfo, LabelInfo, ModelInfo, ScoreInfo, TileInfo, TrainingInfo, write_package

SHAPE = (20, 24, 16)
AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix() @ np.diag(
    [-0.7, 0.9, 2.5]
)
AFFINE[:3, 3] = [31, -42, 17.5]
"""Left-handed, oblique, anisotropic, off the origin."""


@dataclass(frozen=True)
class Outcome:
    """What a command line gave: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def volseg_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., Path]:
    def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        nib.save(nib.Nifti1Image(array, affine), path)
        return path

    return write


@pytest.fixture(scope="session")
def scan_array() -> np.ndarray:
    """A bright ball in noise, [I, J, K] int16."""
    indices = np.indices(SHAPE) - np.array([8, 13, 7]).reshape(3, 1, 1, 1)
    ball = (np.square(indices).sum(axis=0) < 25) * 300
    return (ball + np.random.default_rng(3).normal(100, 10, SHAPE)).astype(np.int16)


@pytest.fixture
def scan(tmp_path: Path, write_nifti: Callable[..., Path], scan_array: np.ndarray) -> Path:
    return write_nifti(tmp_path / "scan.nii.gz", scan_array)


def tiny_info(channels: int) -> ModelInfo:
    return ModelInfo(
        name="tiny",
        version="0.1",
        title="Nothing in particular",
        description="An untrained network for tests.",
        architecture={"name": "unetpp", "widths": [4, 6]},
        channels=[ChannelInfo(name=f"T{n + 1}", modality="MR") for n in range(channels)],
        preprocess=[{"name": "zscore", "region": "all"}],
        tile=TileInfo(tile_voxels=(16, 16, 16), overlap=0.25),
        labels=[
            LabelInfo(value=1, name="anterior", colour=(230, 75, 53)),
            LabelInfo(value=4, name="posterior", colour=(77, 187, 213)),
        ],
        training=TrainingInfo(
            dataset="none",
            dataset_licence="none",
            case_count=0,
            case_ids_sha256="0" * 64,
            split="none",
            steps=0,
        ),
        scores=[
            ScoreInfo(
                label="anterior", cases="made-up cases", case_count=3, means={"dice": 0.9, "hd95_mm": 1.25}
            ),
            ScoreInfo(label="posterior", cases="made-up cases", case_count=3, means={"dice": 0.8}),
        ],
        intended_use="Tests of the command line.",
        limits="Knows nothing.",
        data_licence="CC0-1.0",
        volseg_version="0.1.0",
        git_commit="0000000",
    )


def write_tiny(path: Path, *, channels: int = 1) -> Path:
    info = tiny_info(channels)
    torch.manual_seed(5)
    network = UNetPlusPlus(dimensions=3, widths=(4, 6)).build(channels, 3)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    write_package(path, info=info, weights=weights, card="# Tiny\n", golden=None)
    return path


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny.volseg")


@pytest.fixture(scope="session")
def two_channel_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "two.volseg", channels=2)


@pytest.fixture
def without_privileges() -> Callable[[], AbstractContextManager[None]]:
    """A block as a user whom permissions apply to, when the tests run as root."""

    @contextmanager
    def block() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return block
