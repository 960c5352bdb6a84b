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
    lowest: Spread
    """The least value of a whole case."""
    highest: Spread
    """The greatest value of a whole case."""
    peak: Spread
    """How far the greatest value of a case lies above the case's 99.5th percentile, relative to the distance from its 0.5th
    to its 99.5th percentile (voxels that are not zero): large where a few voxels are much brighter than all others."""
    modality: str
    """DICOM modality, told by the collection or recognised by the values; "" if neither."""


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
    largest_share: Spread | None
    """The part of a case's volume of it that its largest piece has: near 1 for an organ with specks, less for lesions."""


class Fingerprint(_Closed):
    """A training set in numbers. Extents and spacings are along the axes after turning them towards RAS.

    With `slices_last` the axis from slice to slice was then made the last one of each case, as slices run in several directions.
    """

    cases: int = Field(ge=1)
    patients: int = Field(ge=1)
    modality: str
    """DICOM modality of all channels, told by the collection or recognised by the values; "" if neither or mixed."""
    spacing_mm: tuple[Spread, Spread, Spread]
    shape: tuple[Spread, Spread, Spread]
    size_mm: tuple[Spread, Spread, Spread]
    nonzero_mm: tuple[Spread, Spread, Spread]
    """Size of the box of what is not zero in some channel."""
    nonzero_fraction: Spread
    """Of a case's voxels, the part inside the box of what is not zero."""
    slices_last: bool = False
    channels: list[ChannelPrint]
    labels: list[LabelPrint]
