"""Every setting of a pre-training, each default written once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from volseg.config import Config, load_config, override_config
from volseg.train.samples.augment_settings import AugmentConfig
from volseg.train.settings import (
    AnyArchitecture,
    AnyDataset,
    AnyPreprocess,
    Extents,
    OptimizerConfig,
    SplitConfig,
    TrainConfig,
)


class MaskedConfig(Config):
    """Masked-volume reconstruction: part of a patch is hidden in cubes, and the network says what was there.

    After Xie et al. 2022 (SimMIM), whose loss counts hidden voxels only (section 3.4), in volumes as Chen et al. 2023.
    """

    weight: NonNegativeFloat = 1.0
    """Of this task in the loss; 0 switches it off."""
    hidden: float = Field(default=0.6, gt=0, lt=1)
    """Part of a patch that is hidden."""
    cube_voxels: Extents | None = None
    """Extents (I, J, K) of a cube; left out, what one voxel of the encoder's deepest level stands for."""
    error: Literal["l1", "mse"] = "l1"
    """In both, intensities count from the mean of a patch's visible voxels, in units of their deviation."""


class ContrastiveConfig(Config):
    """Contrastive learning of patches: two views of one place are alike, those of other places are not (Chen et al. 2020)."""

    weight: NonNegativeFloat = 0.1
    """Of this task in the loss; 0 switches it off."""
    temperature: PositiveFloat = 0.1
    """Tau of the paper's equation 1."""
    overlap: float = Field(default=0.6, ge=0, le=1)
    """Two views of a place share at least this part of their extent along each axis, before they are turned and scaled."""
    width: PositiveInt = 128
    """Numbers that a view is described by (z in the paper's figure 2)."""


class HeldOutConfig(Config):
    """Scans that are only looked at to see whether the network learns what holds for others too."""

    fraction: float = Field(default=0.1, ge=0, lt=1)
    """Of the cases, by patient; 0 measures nothing."""
    every_steps: PositiveInt = 250
    max_cases: PositiveInt = 48


class PretrainConfig(Config):
    """A pre-training from scans to the weights of an encoder."""

    kind: Literal["pretrain"]
    dataset: AnyDataset | None = None
    """A labelled collection, whose label maps are not read."""
    split: SplitConfig = SplitConfig()
    """Of the collection: the cases that its fold holds out are never seen. fold = all takes every case."""
    test_images: bool = True
    """The collection's images without labels (imagesTs/) too, where its layout has them."""
    folders: tuple[Path, ...] = ()
    """Folders whose scans are taken too, at any depth: NIfTI, NRRD, MetaImage and MGH files, and DICOM series."""
    preprocess: tuple[AnyPreprocess, ...]
    architecture: AnyArchitecture
    """Of the later training: its encoder is pre-trained."""
    slices_around: NonNegativeInt = 0
    """Neighbour slices on each side, fed to a 2D network as channels; the `tile.slices_around` of the later training."""
    patch_voxels: Extents
    """Extents (I, J, K); K is 1 for a 2D network."""
    batch_size: PositiveInt = 4
    """Patches at once; with the contrastive task two of them are of one place, and more places are better."""
    steps: PositiveInt = 2000
    masked: MaskedConfig = MaskedConfig()
    contrastive: ContrastiveConfig = ContrastiveConfig()
    held_out: HeldOutConfig = HeldOutConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    checkpoint_minutes: PositiveFloat = 10.0
    """last.pt is written this often, and at the end."""
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """`auto`: bf16 where the device computes it fast and rightly, else fp32."""
    workers: PositiveInt = 1
    """Threads or processes that prepare patches while the network computes."""

    @property
    def views(self) -> int:
        """How many patches of a batch are of one place."""
        return 2 if self.contrastive.weight else 1

    @model_validator(mode="after")
    def _check_together(self) -> "PretrainConfig":
        if not self.masked.weight and not self.contrastive.weight:
            raise ValueError("masked.weight and contrastive.weight are both 0, so there is no task to learn")
        if self.contrastive.weight and (self.batch_size < 4 or self.batch_size % 2):
            raise ValueError(
                f"the contrastive task compares pairs of patches, so batch_size must be even and 4 or more, found "
                f"{self.batch_size}; or set contrastive.weight to 0"
            )
        if self.slices_around and self.patch_voxels[2] != 1:
            raise ValueError("slices_around is for a 2D network, whose patch_voxels end in 1")
        if self.optimizer.schedule == "plateau":
            raise ValueError("optimizer.schedule: plateau follows a validation Dice; take cosine or poly")
        return self


def load_pretraining(path: Path, overrides: Sequence[str] = ()) -> PretrainConfig:
    """The settings in a file of kind `pretrain`, or what those of a training (kind `train`) mean for its encoder.

    Of a training, the dataset, split, preprocessing, architecture, patch, augmentation, workers, precision and seed are
    taken; the other settings are as usual.

    Raises:
        ConfigError: the file or an override is wrong.
    """
    if _kind_of(path) != "train":
        return load_config(path, PretrainConfig, overrides)
    return override_config(from_training(load_config(path, TrainConfig)), overrides, source=str(path))


def from_training(training: TrainConfig) -> PretrainConfig:
    """The pre-training of a training's encoder."""
    pairs = max(2, (training.batch_size + 1) // 2)
    return PretrainConfig(
        kind="pretrain",
        dataset=training.dataset,
        split=training.split,
        preprocess=training.preprocess,
        architecture=training.architecture,
        slices_around=training.tile.slices_around,
        patch_voxels=training.patch_voxels,
        batch_size=2 * pairs,
        augment=training.augment,
        seed=training.seed,
        precision="auto" if training.precision == "fp16" else training.precision,
        workers=training.workers,
    )


def _kind_of(path: Path) -> Any:
    """The `kind` of a file; None where it cannot be told, which load_config explains."""
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    return fields.get("kind") if isinstance(fields, dict) else None
