"""What is remembered of a case once its voxels are gone: a few numbers and digests."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from volseg.datasets import Case
from volseg.geometry import Grid
from volseg.labels import LabelTable
from volseg.volume import AnyArray


@dataclass(frozen=True)
class Expected:
    """What a collection says that its cases hold."""

    channel_names: tuple[str, ...]
    labels: LabelTable
    modality: str
    """"CT", "MR" or ""."""

    def channel_name(self, number: int) -> str:
        """The name of a channel, or its number where the collection names fewer."""
        return self.channel_names[number] if number < len(self.channel_names) else f"number {number + 1}"

    def label_name(self, value: int) -> str:
        """Such as "2 (lesion)"; 0 is the background."""
        names = {0: "background"} | {label.value: label.name for label in self.labels}
        return f"{value} ({names[value]})" if value in names else str(value)


@dataclass(frozen=True)
class ChannelFacts:
    """One channel of a case."""

    name: str
    lowest: float
    highest: float
    digest: str
    """Equal for equal voxels, whatever type and header they are stored with."""

    @property
    def is_constant(self) -> bool:
        """Whether all voxels are the same."""
        return self.lowest == self.highest


@dataclass(frozen=True)
class LabelFacts:
    """The label map of a case."""

    counts: Mapping[int, int] = field(hash=False)
    """Voxels of each value found, as stored, background included."""
    digest: str = ""
    """Equal for equal label maps on the image's grid, after the remap; "" where it does not lie on that grid."""
    gap_mm: float = 0.0
    """How far the grid that was taken for the image's by rounding is from it."""
    is_reordered: bool = False
    """Whether its axes had to be put in the image's order."""


@dataclass(frozen=True)
class CaseFacts:
    """One case. What could not be read is missing: grid None, no channels, label None."""

    case: Case
    grid: Grid | None
    """Of the first image that could be read."""
    channels: tuple[ChannelFacts, ...]
    is_whole: bool
    """Whether every image could be read, on one grid."""
    label: LabelFacts | None

    @property
    def patient(self) -> str:
        """Whose case it is; a case without a patient is a patient of its own."""
        return self.case.patient or self.case.id

    @property
    def image_digest(self) -> str:
        """Equal for images of equal voxels; "" where the image is not whole or says nothing."""
        if not self.is_whole or all(channel.is_constant for channel in self.channels):
            return ""
        return ".".join(channel.digest for channel in self.channels)


def voxel_digest(array: AnyArray) -> str:
    """A digest of the shape and the values [I, J, K] (as float32), slice by slice so that little is copied."""
    digest = blake2b(repr(array.shape).encode(), digest_size=16)
    with np.errstate(over="ignore"):  # what float32 cannot hold is equal enough
        for number in range(array.shape[2]):
            digest.update(np.asarray(array[:, :, number].T, dtype=np.float32, order="C").tobytes())
    return digest.hexdigest()


def value_counts(array: AnyArray) -> dict[int, int]:
    """How many voxels [I, J, K] hold each value, by rising value."""
    counts: Counter[int] = Counter()
    for number in range(array.shape[2]):
        values, found = np.unique(array[:, :, number], return_counts=True)
        counts.update(dict(zip(values.tolist(), found.tolist(), strict=True)))
    return dict(sorted(counts.items()))
