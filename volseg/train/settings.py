"""Every setting of a training, each default written once."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    Tag,
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
from volseg.train.losses import LOSSES, Loss
from volseg.train.samples.augment_settings import AugmentConfig

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


AnyDataset = Annotated[SerializeAsAny[Dataset], _found_in(DATASETS)]
AnyArchitecture = Annotated[SerializeAsAny[Architecture], _found_in(MODELS)]
AnyPreprocess = Annotated[SerializeAsAny[PreprocessStep], _found_in(PREPROCESS)]
AnyPostprocess = Annotated[SerializeAsAny[PostprocessStep], _found_in(POSTPROCESS)]
AnyLoss = Annotated[SerializeAsAny[Loss], _found_in(LOSSES)]
AnyLocate = Annotated[SerializeAsAny[LocateStep], _found_in(LOCATE)]


def _postprocess_kind(value: Any) -> str:
    return "choose" if isinstance(value, str) else "steps"


Postprocess = Annotated[
    Annotated[tuple[AnyPostprocess, ...], Tag("steps")] | Annotated[Literal["choose"], Tag("choose")],
    Discriminator(_postprocess_kind),  # so that a mistake in a step is told once
]


class SplitConfig(Config):
    """Which cases train and which validate: fold `fold` of a seeded `folds`-fold split by patient validates."""

    folds: int = Field(default=5, ge=2)
    fold: NonNegativeInt | Literal["all"] = 0
    """"all" trains on every case and validates on none; train the folds too, to know how good the recipe is."""
    seed: int = 0
    file: Path | None = None
    """A splits.json as `volseg plan` writes it, to be used instead of folds and seed."""


class SamplingConfig(Config):
    """Where patches are taken."""

    foreground_fraction: Fraction = 0.5
    """Chance that a patch is centred on a voxel of a label; otherwise it lies anywhere."""
    component_fraction: Fraction = 0.0
    """Of the foreground patches, the part whose voxel is drawn component by component, so that a small lesion counts as
    much as a large one; the others draw among all voxels of the label."""
    label_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """How often a label is chosen relative to the others, by name; 1 for those not named."""


class HeadsConfig(Config):
    """How the deep-supervision heads 1..L share the loss; the weights sum to one."""

    schedule: Literal["fixed", "shift"] = "fixed"
    """`shift`: early steps favour the shallow heads, late ones the last."""
    decay: PositiveFloat = 0.5
    """Weight of head L-n relative to the last head L is decay**n; 1 is the paper's (Zhou et al. 2020, eq. 4)."""


def _dice_and_cross_entropy() -> tuple[Loss, ...]:
    return LOSSES.build({"name": "dice"}), LOSSES.build({"name": "cross_entropy"})


class LossConfig(Config):
    """The sum of the terms on each head, summed over the heads."""

    terms: tuple[AnyLoss, ...] = Field(default_factory=_dice_and_cross_entropy, min_length=1)
    heads: HeadsConfig = HeadsConfig()


class OptimizerConfig(Config):
    """AdamW (Loshchilov & Hutter 2019) or SGD with Nesterov momentum; linear warm-up, then a schedule."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-2
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """For SGD only."""
    warmup_steps: NonNegativeInt = 200
    schedule: Literal["cosine", "poly", "plateau"] = "cosine"
    """After the warm-up: half a cosine to zero; (1 - progress)**poly_power; or constant until validation stalls."""
    poly_power: PositiveFloat = 0.9
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    """The rate falls to this part of itself when the validation Dice has not risen ..."""
    plateau_patience: PositiveInt = 10
    """... for this many validations."""
    clip_norm: PositiveFloat = 1.0
    """Gradients are scaled so that their global L2 norm does not exceed this."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Exponential moving average of the weights, used for validation and shipped; 0 switches it off."""


class ValidationConfig(Config):
    """How often whole validation cases are predicted, on the model grid, with the averaged weights."""

    every_steps: PositiveInt = 500
    max_cases: PositiveInt | None = None
    """At most this many cases during training; None takes all."""
    previews: NonNegativeInt = 3
    """Pictures of this many validation cases, the worst, are drawn at the end."""


class LogConfig(Config):
    """Besides log.csv and curves.png."""

    tensorboard: bool = False
    """Also write TensorBoard events into the run folder."""
    mlflow: str | None = None
    """Also log to this MLflow tracking URI, such as http://host:5000."""


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
    dataset: AnyDataset
    regions: bool = False
    """Train the dataset's nested regions, each with a sigmoid, instead of its labels with a softmax."""
    split: SplitConfig = SplitConfig()
    preprocess: tuple[AnyPreprocess, ...]
    architecture: AnyArchitecture
    encoder_weights: Path | None = None
    """Weights that the encoder starts from: those of `volseg pretrain`, or a torchvision state dict of the same network."""
    head: PositiveInt | None = None
    """The package holds the network pruned to this head of a U-Net++: smaller and faster. It is trained and validated in full,
    and scored at the end as it is packed."""
    patch_voxels: Extents
    """Extents (I, J, K); K is 1 for a 2D network."""
    batch_size: PositiveInt = 2
    """Patches at once on each device."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are averaged for one step."""
    steps: PositiveInt
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = Field(default_factory=LossConfig)
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint_minutes: PositiveFloat = 10.0
    """last.pt is written this often, and at the end."""
    log: LogConfig = LogConfig()
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """`auto`: bf16 where the device computes it fast and rightly, else fp16 on CUDA, else fp32."""
    channels_last: bool = False
    """Keep tensors in channels_last(_3d) order, which suits tensor cores."""
    compile: bool = False
    """Compile the network (torch.compile): minutes at the start, faster steps after."""
    gradient_checkpointing: bool = False
    """Compute the nodes' inner activations again in the backward pass instead of keeping them: less memory, more time."""
    workers: PositiveInt = 1
    """Threads or processes that prepare patches while the network computes."""
    tile: TileInfo
    mirror_axes: tuple[Literal[0, 1, 2], ...] = ()
    """At inference, average the logits over flips of these axes."""
    postprocess: Postprocess = ()
    """`choose`: keep the largest component, or drop small ones, of a label only where that helps the held-out cases."""
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
    fingerprint: Path | None = None
    """The fingerprint.json of `volseg plan`, kept in the package: it says what scans the model has seen."""
    card: CardConfig
