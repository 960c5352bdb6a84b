"""Hand-made fingerprints of well-known kinds of collections, and a dataset that needs no files."""

from pathlib import Path
from typing import Literal

from volseg.datasets import Case, Dataset
from volseg.labels import LabelRegion, LabelTable
from volseg.package.fingerprint import ChannelPrint, Fingerprint, LabelPrint, Spread


class Imagined(Dataset):
    """A collection that is only described."""

    name: Literal["imagined"] = "imagined"
    root: Path = Path("/data/Some Collection")
    names: tuple[str, ...] = ("organ",)
    channels: tuple[str, ...] = ("CT",)
    nested: bool = False

    @classmethod
    def looks_like(cls, root: Path) -> str:
        return ""

    def __call__(self) -> list[Case]:
        return []

    def labels(self) -> LabelTable:
        return LabelTable.from_names(self.names)

    def channel_names(self) -> tuple[str, ...]:
        return self.channels

    def regions(self) -> tuple[LabelRegion, ...]:
        return (LabelRegion("whole", (1, 2), 1), LabelRegion("core", (2,), 2)) if self.nested else ()


def same(value: float) -> Spread:
    return Spread(least=value, low=value, median=value, high=value, most=value)


def around(value: float) -> Spread:
    return Spread(least=0.6 * value, low=0.8 * value, median=value, high=1.2 * value, most=1.4 * value)


def channel(name: str = "CT", modality: str = "CT", peak: float = 0.5) -> ChannelPrint:
    return ChannelPrint(
        name=name,
        mean=80,
        deviation=40,
        low=-100,
        median=90,
        high=240,
        integer=True,
        lowest=same(-1024),
        highest=same(2000),
        peak=same(peak),
        modality=modality,
    )


def label(
    name: str = "organ", value: int = 1, *, present: int = 100, pieces: float = 1, largest_share: float = 1.0
) -> LabelPrint:
    spread = around(100) if present else None
    return LabelPrint(
        name=name,
        value=value,
        present=present,
        volume_ml=spread,
        components=same(pieces) if present else None,
        component_ml=spread,
        largest_share=same(largest_share) if present else None,
    )


def fingerprint(
    spacing_mm,
    shape,
    *,
    cases: int = 100,
    channels=None,
    labels=None,
    nonzero: float = 1.0,
    finest=None,
) -> Fingerprint:
    """Every case of one shape; `finest` is the 10th percentile of the spacing, where it differs."""
    low = finest or spacing_mm
    channels = channels or [channel()]
    modalities = {c.modality for c in channels}
    return Fingerprint(
        cases=cases,
        patients=cases,
        modality=modalities.pop() if len(modalities) == 1 else "",
        spacing_mm=tuple(
            Spread(least=fine, low=fine, median=mm, high=mm, most=mm)
            for mm, fine in zip(spacing_mm, low, strict=True)
        ),
        shape=tuple(same(extent) for extent in shape),
        size_mm=tuple(same(extent * mm) for extent, mm in zip(shape, spacing_mm, strict=True)),
        nonzero_mm=tuple(
            same(extent * mm * nonzero ** (1 / 3)) for extent, mm in zip(shape, spacing_mm, strict=True)
        ),
        nonzero_fraction=same(nonzero),
        channels=list(channels),
        labels=list(labels or [label(present=cases)]),
    )


MR = channel("MR", "MR")
KINDS = {
    "abdomen": fingerprint((0.8, 0.8, 5), (512, 512, 100), finest=(0.7, 0.7, 2.5)),
    "lits": fingerprint(
        (0.77, 0.77, 1.0),
        (512, 512, 432),
        cases=131,
        labels=[
            label("liver", 1, present=131),
            label("lesion", 2, present=118, pieces=6, largest_share=0.5),
        ],
    ),
    "brats": fingerprint(
        (1, 1, 1),
        (240, 240, 155),
        cases=484,
        channels=[channel(name, "MR") for name in ("FLAIR", "T1", "T1CE", "T2")],
        nonzero=0.33,
    ),
    "hippocampus": fingerprint((1, 1, 1), (35, 50, 36), cases=208, channels=[channel("MR", "MR", peak=2.3)]),
    "cardiac": fingerprint((1.4, 1.4, 10), (240, 256, 12), channels=[MR], finest=(1.4, 1.4, 5)),
    "slices": fingerprint((0.5, 0.5, 1), (600, 500, 1), channels=[channel("US", "US")]),
    "prostate": fingerprint((0.6, 0.6, 3.6), (320, 320, 20), cases=32, channels=[MR]),
    "sagittal": fingerprint((4.4, 0.7, 0.7), (15, 384, 384), channels=[MR]),
}
