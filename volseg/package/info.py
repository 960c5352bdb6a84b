"""What a model package says about its model: the closed form of model.json."""

import json
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from volseg.errors import ConfigError, PackageError
from volseg.labels import ChannelRule, Code, Label, LabelRegion, LabelTable
from volseg.package.fingerprint import Fingerprint

FORMAT = 2
"""The package format this volseg writes and reads."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelInfo(_Closed):
    """One input channel, in the order the network expects."""

    name: str = Field(min_length=1)
    modality: str = Field(min_length=1)
    """DICOM modality (0008,0060) such as "CT" or "MR"."""
    contrast: str | None = None
    """What the scan must show, in the words of volseg.io.dicom.contrast ("with agent", "T1"); None is anything."""


class CodeInfo(_Closed):
    """A coded concept (DICOM PS3.3 section 8.8)."""

    scheme: str
    value: str
    meaning: str


class LabelInfo(_Closed):
    """One label; in a model without regions channel n of the logits is the n-th label by rising value, 0 is background."""

    value: int = Field(ge=1, le=65535)
    name: str = Field(min_length=1)
    colour: tuple[int, int, int]
    """R, G, B in 0..255."""
    code: CodeInfo | None = None


class RegionInfo(_Closed):
    """A union of labels that the network finds as one (volseg.labels.LabelRegion)."""

    name: str = Field(min_length=1)
    values: list[int] = Field(min_length=1)
    paint: int


class TileInfo(_Closed):
    """How the volume is cut for the network."""

    tile_voxels: tuple[int, int, int]
    """Extents of what the network sees; where its convolutions do not pad, its logits are fewer."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Fraction of a tile's logits shared with its neighbour along each axis; 0 suits convolutions that do not pad."""
    weights: Literal["gaussian", "constant"] = "gaussian"
    halo_voxels: tuple[int, int, int] = (0, 0, 0)
    """Mirrored context beyond each face of the volume; not where convolutions do not pad, which have their own."""
    slices_around: int = Field(default=0, ge=0)
    """2.5D: a 2D network also sees this many slices on each side along K, as further channels: channel c of slice offset s
    (-n..n) is network channel c * (2n + 1) + s + n. Beyond the volume its border mirrors."""


class TrainingInfo(_Closed):
    """What the model was trained on and for how long."""

    dataset: str
    dataset_licence: str
    case_count: int = Field(ge=0)
    case_ids_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the sorted case ids, joined by line feeds: says whether two models saw the same cases."""
    split: str
    """Which cases were trained on and which held out, in words."""
    steps: int = Field(ge=0)
    epochs: float | None = None
    fingerprint: Fingerprint | None = None
    """What the scans of the training set were like; None for packages made without a plan."""


class ScoreInfo(_Closed):
    """How well one label was found on a set of cases."""

    label: str
    cases: str
    """Which cases, in words; say whether the model has seen them."""
    case_count: int = Field(ge=1)
    means: dict[str, float]
    """Mean of each metric over the cases, such as {"dice": 0.89, "hd95_mm": 1.2}."""


def _check_steps(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for step in steps:
        if not step.get("name"):
            raise ValueError(f"a step is written as {{name: ..., parameter: ...}}, found {step}")
    return steps


Steps = Annotated[list[dict[str, Any]], AfterValidator(_check_steps)]


class ModelInfo(_Closed):
    """model.json: everything about a model but its weights."""

    format: int = FORMAT
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: str = Field(min_length=1)
    title: str
    description: str
    architecture: dict[str, Any]
    """Name and parameters of a registered architecture."""
    head: int | None = Field(default=None, ge=1)
    """The head the network is pruned to, where it has several; the weights are those of the pruned network."""
    channels: list[ChannelInfo] = Field(min_length=1)
    preprocess: Steps
    postprocess: Steps = []
    tile: TileInfo
    mirror_axes: list[Literal[0, 1, 2]] = []
    """Axes of the model's grid over whose flips the logits are averaged at inference; each doubles the time."""
    largest_mm: tuple[float, float, float] | None = None
    """Largest scan the model is for: mm to the right, to the front and upwards; None is any size."""
    labels: list[LabelInfo] = Field(min_length=1)
    regions: list[RegionInfo] = []
    """Where there are any, the network has a sigmoid channel per region, outermost first, instead of one per label."""
    locate: dict[str, Any] | None = None
    """Name and parameters of a registered locate step; None takes every scan as a whole."""
    located_labels: list[LabelInfo] = []
    """The labels of a scan whose regions were located, such as left and right; `labels` are those of one region."""
    training: TrainingInfo
    scores: list[ScoreInfo] = []
    intended_use: str
    limits: str
    data_licence: str
    volseg_version: str
    git_commit: str

    @model_validator(mode="after")
    def _check_together(self) -> "ModelInfo":
        _check_steps([self.architecture, *([self.locate] if self.locate else [])])
        if len(set(self.mirror_axes)) != len(self.mirror_axes):
            raise ValueError(f"mirror_axes repeats an axis: {self.mirror_axes}")
        try:
            table, _, regions = self.label_table, self.located_table, self.label_regions
        except ConfigError as error:
            raise ValueError(str(error)) from None
        _check_regions(regions, table)
        if regions and self.located_labels:
            raise ValueError(
                "a model with sigmoid regions takes a scan as a whole: it cannot have located_labels"
            )
        self._check_slices()
        known = {label.name for label in table} | {region.name for region in self.regions}
        unknown = {score.label for score in self.scores} - known
        if unknown:
            raise ValueError(f"scores name labels that the model does not have: {sorted(unknown)}")
        return self

    def _check_slices(self) -> None:
        """A 2D network sees slices along the last axis."""
        if self.architecture.get("dimensions") == 2:
            if 2 in self.mirror_axes:
                raise ValueError("mirror_axes holds axis 2, along which a 2D network has one slice to mirror")
        elif self.tile.slices_around:
            raise ValueError(
                f"tile.slices_around is {self.tile.slices_around}, which is for networks of slices: expected an "
                "architecture with dimensions: 2"
            )

    @property
    def channel_count(self) -> int:
        """N, the channels of the network's logits: one per region where there are any, else background and labels."""
        return len(self.regions) or len(self.labels) + 1

    @property
    def in_channels(self) -> int:
        """The channels the network takes: those of the scan, each 2n + 1 times with n slices around."""
        return len(self.channels) * (2 * self.tile.slices_around + 1)

    @property
    def channel_rule(self) -> ChannelRule:
        """How the network's channels become label values."""
        if self.regions:
            return ChannelRule(tuple(region.paint for region in self.regions), exclusive=False)
        return ChannelRule((0, *self.label_table.values))

    @property
    def label_table(self) -> LabelTable:
        """The labels of the network as a table, by rising value."""
        return _table(self.labels)

    @property
    def label_regions(self) -> tuple[LabelRegion, ...]:
        """The regions the network finds, outermost first; empty where it finds labels."""
        return tuple(LabelRegion(region.name, tuple(region.values), region.paint) for region in self.regions)

    @property
    def located_table(self) -> LabelTable:
        """The labels of a scan with located regions as a table, by rising value; empty where there are none."""
        return _table(self.located_labels)

    def to_json(self) -> str:
        """The text of model.json; the same model gives the same text."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _check_regions(regions: tuple[LabelRegion, ...], table: LabelTable) -> None:
    for index, region in enumerate(regions):
        unknown = sorted(set(region.values) - set(table.values))
        if unknown:
            raise ValueError(
                f"the region '{region.name}' holds the values {unknown}, which are no labels of the model ({table.values})"
            )
        if region.name in {other.name for other in regions[:index]}:
            raise ValueError(f"two regions are called '{region.name}'")


def _table(labels: list[LabelInfo]) -> LabelTable:
    return LabelTable(
        tuple(
            Label(
                label.value,
                label.name,
                label.colour,
                Code(**label.code.model_dump()) if label.code else None,
            )
            for label in labels
        )
    )


def parse_info(text: bytes, source: str) -> ModelInfo:
    """Read model.json; `source` names the package in messages.

    Raises:
        PackageError: no JSON object, another format number, or fields that do not fit, all of them named.
    """
    try:
        fields: Any = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PackageError(
            f"{source}: model.json is not readable as JSON ({error}); get the package again."
        ) from None
    found = cast(dict[str, Any], fields).get("format") if isinstance(fields, dict) else None
    if found != FORMAT or isinstance(found, bool):
        raise PackageError(
            f"{source}: the package has format {found!r}, this volseg reads format {FORMAT}. "
            "Install a volseg that matches the package, or get a package made for this one."
        )
    try:
        return ModelInfo.model_validate(fields)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc'])) or 'model'}: {p['msg']}" for p in error.errors()]
        raise PackageError(f"{source}: model.json does not fit: {'; '.join(problems)}.") from None
