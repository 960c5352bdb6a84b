"""What the scans of a training set were like: measured once by `volseg plan`, kept in the package."""

from pydantic import BaseModel, ConfigDict, Field


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Closed):
    """How a number is spread over the cases."""

    least: float
    low: float
    """The 10th percentile."""
    median: float
    high: float
    """The 90th percentile."""
    most: float


class ChannelPrint(_Closed):
    """The intensities of one channel inside the labels, over all cases; in the units of the files."""

    name: str
    mean: float
    deviation: float
    low: float
    """The 0.5th percentile."""
    median: float
    high: float
    """The 99.5th percentile."""
    integer: bool
    """Every voxel looked at is a whole number, as Hounsfield units are."""


class LabelPrint(_Closed):
    """One label over all cases."""

    name: str
    value: int
    present: int = Field(ge=0)
    """Cases that hold it."""
    volume_ml: Spread | None
    """Of the cases that hold it; None where none does."""
    components: Spread | None
    """How many connected pieces (26-neighbours) a case has."""
    component_ml: Spread | None
    """How large the pieces are."""


class Fingerprint(_Closed):
    """A training set in numbers. Extents and spacings are along the axes after turning them towards RAS."""

    cases: int = Field(ge=1)
    modality: str
    spacing_mm: tuple[Spread, Spread, Spread]
    shape: tuple[Spread, Spread, Spread]
    size_mm: tuple[Spread, Spread, Spread]
    nonzero_fraction: Spread
    """Of a case's voxels, the part inside the box of what is not zero."""
    channels: list[ChannelPrint]
    labels: list[LabelPrint]
