"""What a training loop is fed: cached cases of both sides of the split, and what their labels mean to the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg.datasets import Case
from volseg.errors import InputError
from volseg.labels import LabelTable
from volseg.train.samples.cache import CachedCase, build_cache
from volseg.train.settings import TrainConfig
from volseg.train.split import trained_regions
from volseg.train.targets import TargetCode

MOST_LABELS = 255
"""Cached label indices are of one byte."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Cached cases of both sides of the split and what their labels mean."""

    training: Sequence[CachedCase]
    validation: Sequence[CachedCase]
    code: TargetCode
    """From label indices to the network's channels."""
    label_values: Sequence[int]
    """Of label indices 1..L-1."""

    @property
    def channels(self) -> int:
        """Channels C of every image."""
        return int(self.training[0].image.shape[0])


def load_data(config: TrainConfig, split: tuple[list[Case], list[Case]], cache: Path) -> TrainingData:
    """Both sides of the split, preprocessed into the cache folder.

    Raises:
        InputError: the dataset has more labels than label indices can tell apart, or a case cannot be read.
    """
    labels = config.dataset.labels()
    if len(labels) > MOST_LABELS:
        raise InputError(
            f"{config.dataset.root}: has {len(labels)} labels, and a training can tell {MOST_LABELS} apart at most. Join labels "
            'by "remap" in a table of paths, or train them in groups.'
        )
    training, held_out = (build_cache(cases, config.preprocess, labels.values, cache) for cases in split)
    return TrainingData(training, held_out, TargetCode.of(labels, trained_regions(config)), labels.values)


def absent_labels(data: TrainingData, labels: LabelTable) -> list[str]:
    """The names of the labels that no training case holds: none of them can be learned."""
    held = {index for case in data.training for index in case.places}
    return [label.name for index, label in enumerate(labels, start=1) if index not in held]
