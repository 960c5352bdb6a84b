"""Every setting of a training, each default written once."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
)

from volseg.config import Config
from volseg.datasets import DATASETS, Dataset
from volseg.errors import ConfigError
from volseg.locate import LOCATE, LocateStep
from volseg.models import MODELS, Architecture
from volseg.package import LabelInfo, TileInfo
from volseg.postprocess import POSTPROCESS, PostprocessStep
from volseg.preprocess import PREPROCESS, PreprocessStep
from volseg.registry import Registry, Step

Extents = tuple[PositiveInt, PositiveInt, PositiveInt]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _found_in(registry: Registry[Any]) -> BeforeValidator:
    """Turn {name: ..., parameter: ...} into a step of the registry; pydantic wants ValueError for a mistake."""

    def build(fields: Any) -> Step:
        try:
            return registry.build(fields)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(build)


AnyPreprocess = Annotated[SerializeAsAny[PreprocessStep], _found_in(PREPROCESS)]
AnyPostprocess = Annotated[SerializeAsAny[PostprocessStep], _found_in(POSTPROCESS)]
AnyLocate = Annotated[SerializeAsAny[LocateStep], _found_in(LOCATE)]


class SplitConfig(Config):
    """Which cases train and which validate: fold `fold` of a seeded `folds`-fold split validates."""

    folds: int = Field(default=5, ge=2)
    fold: NonNegativeInt | Literal["all"] = 0
    """"all" trains on every case and validates on none; train the folds too, to know how good the recipe is."""
    seed: int = 0


class AugmentConfig(Config):
    """Random changes to training patches; angles, scales and displacements share one resampling."""

    mirror_axes: tuple[Literal[0, 1, 2], ...] = ()
    """Array axes flipped with probability 1/2 each. Only flip what anatomy allows: left-right swaps sides."""
    spatial_probability: Fraction = 0.8
    """Chance that a patch is rotated, scaled and deformed at all."""
    rotation_degrees: NonNegativeFloat = 15.0
    """Each of three Euler angles is uniform in ± this."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.85, 1.2)
    """Size of the anatomy, uniform in log; one factor for all axes."""
    axis_scale: float = Field(default=0.05, ge=0, lt=1)
    """A further factor for each axis of its own, uniform in 1 ± this."""
    shift_mm: NonNegativeFloat = 0.0
    """The patch moves by up to this along each axis, as a box does that was located, not drawn around the organ."""
    elastic_mm: NonNegativeFloat = 2.0
    """Standard deviation of the random displacement at control points."""
    elastic_spacing_mm: PositiveFloat = 14.0
    """Distance between control points."""
    intensity_probability: Fraction = 0.3
    """Chance of each of: shading, noise, blur, contrast, brightness, gamma."""
    shading: NonNegativeFloat = 0.0
    """Log of the largest gain of a smooth multiplicative field over the patch (MR bias field): 0.3 is up to 35 %."""
    noise_std: NonNegativeFloat = 0.15
    blur_sigma_voxels: tuple[PositiveFloat, PositiveFloat] = (0.4, 1.0)
    contrast: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.35)
    brightness: NonNegativeFloat = 0.3
    gamma: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.5)


class LossConfig(Config):
    """Soft Dice plus cross-entropy, summed over the deep-supervision heads."""

    dice_weight: NonNegativeFloat = 1.0
    cross_entropy_weight: NonNegativeFloat = 1.0
    head_decay: PositiveFloat = 0.5
    """Weight of head L-n relative to the last head L is head_decay**n; the weights sum to one. 1 is the paper's."""


class OptimizerConfig(Config):
    """AdamW (Loshchilov & Hutter 2019) or SGD with Nesterov momentum; linear warm-up, then cosine to zero."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-2
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """For SGD only."""
    warmup_steps: NonNegativeInt = 200
    clip_norm: PositiveFloat = 1.0
    """Gradients are scaled so that their global L2 norm does not exceed this."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Exponential moving average of the weights, used for validation and shipped; 0 switches it off."""


class ValidationConfig(Config):
    """How often whole validation cases are predicted, on the model grid, with the averaged weights."""

    every_steps: PositiveInt = 500
    max_cases: PositiveInt | None = None
    """At most this many cases during training; None takes all."""


class CardConfig(Config):
    """What the package says of itself."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: str = "1.0.0"
    title: str
    description: str
    modality: str
    contrast: str | None = None
    """What the scan must show, such as "T1" or "with agent": chooses among DICOM series. None is anything."""
    largest_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Larger scans (mm right-left, front-back, up-down) are refused; for models that saw crops only."""
    intended_use: str
    limits: str
    data_name: str
    data_licence: str
    colours: dict[str, tuple[int, int, int]] = Field(default_factory=dict)
    """Display colour per label name; others get a default."""
    codes: dict[str, tuple[str, str, str]] = Field(default_factory=dict)
    """Code per label name: scheme, value, meaning, such as SCT, 123, "Hippocampus"."""


class TrainConfig(Config):
    """A training from labelled cases to a package."""

    kind: Literal["train"]
    dataset: Annotated[SerializeAsAny[Dataset], _found_in(DATASETS)]
    split: SplitConfig = SplitConfig()
    preprocess: tuple[AnyPreprocess, ...]
    architecture: Annotated[SerializeAsAny[Architecture], _found_in(MODELS)]
    patch_voxels: Extents
    batch_size: PositiveInt = 2
    steps: PositiveInt
    foreground_fraction: Fraction = 0.5
    """Chance that a patch is centred on a voxel of a label (each label equally likely)."""
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint_steps: PositiveInt = 250
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    workers: PositiveInt = 1
    """Threads that prepare patches while the network computes."""
    tile: TileInfo
    mirror_axes: tuple[Literal[0, 1, 2], ...] = ()
    """At inference, average the logits over flips of these axes."""
    postprocess: tuple[AnyPostprocess, ...] = ()
    locate: AnyLocate | None = None
    """How the model finds in a larger scan what it was trained on; None takes every scan as a whole."""
    located_labels: tuple[LabelInfo, ...] = ()
    """The labels of a scan with located regions, to which the step's boxes refer."""
    template: Path | None = None
    """What the locate step registers; data_samples/make_template.py writes one. The package keeps it."""
    cross_validation: tuple[Path, ...] = ()
    """Run folders of the other folds, whose scores a model of all cases quotes."""
    golden: Path | None = None
    """A small scan, free to share, that the package keeps with the labels it gives as its self-test."""
    card: CardConfig
