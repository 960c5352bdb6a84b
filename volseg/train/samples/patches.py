"""The batches of a training, prepared ahead of the network that waits for them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from volseg.geometry import Shape
from volseg.train.samples.cache import CachedCase
from volseg.train.samples.feeders import Feeder, open_feeder
from volseg.train.samples.sampling import PatchSampler
from volseg.train.settings import TrainConfig


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches of one pass through the network, on its device."""

    step: int
    micro: int
    """Which of the batches of the step, from 0."""
    images: Tensor
    """[B, C, I, J, K] float32; of a 2.5D network C counts neighbour slices and K is 1."""
    labels: Tensor
    """[B, I, J, K] int64 label indices."""


class BatchSource:
    """Batches of augmented patches, each patch drawn from (seed, step, index within the step, rank) alone.

    Neither the number of workers nor threads or processes change a patch; augmentation on an accelerator does.
    """

    def __init__(
        self,
        config: TrainConfig,
        cases: Sequence[CachedCase],
        label_count: int,
        *,
        device: torch.device,
        rank: int = 0,
        margins: Shape = (0, 0, 0),
    ) -> None:
        """Take the cases.

        Args:
            config: the training.
            cases: at least one.
            label_count: L, background counted.
            device: where the network is.
            rank: of this process among those that train together.
            margins: voxels on each face of a patch that the network gives no logits for.

        Raises:
            ConfigError: the sampling names an unknown label, or neighbour slices are asked for with 3D patches.
        """
        self.waited_seconds = 0.0
        """How long the caller waited for batches so far."""
        self._config = config
        self._device = device
        self._sampler = PatchSampler.of(config, cases, label_count, rank, margins)
        self._feeder: Feeder | None = None

    @property
    def where(self) -> str:
        """Where patches are augmented: "threads", "processes" or "device"; "auto" before the first batch."""
        return self._config.augment.where if self._feeder is None else self._feeder.where

    def batches(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """config.accumulate batches for each step first_step..last_step, in order.

        Raises:
            TrainingError: a worker process died.
        """
        places = [
            (step, micro)
            for step in range(first_step, last_step + 1)
            for micro in range(self._config.accumulate)
        ]
        if not places:
            return
        started = time.perf_counter()
        if self._feeder is None:
            self._feeder = open_feeder(
                self._config.augment.where, self._sampler, self._config.workers, self._device
            )
        size = self._config.batch_size
        groups = [(step, tuple(range(micro * size, (micro + 1) * size))) for step, micro in places]
        ready = self._feeder.feed(groups)
        for step, micro in places:
            images, labels = next(ready)
            batch = Batch(
                step, micro, images.to(self._device, non_blocking=True),
                labels.to(self._device, non_blocking=True).long(),
            )  # fmt: skip
            self.waited_seconds += time.perf_counter() - started
            yield batch
            started = time.perf_counter()

    def close(self) -> None:
        """Stop the workers; more batches start them again."""
        if self._feeder is not None:
            self._feeder.close()
            self._feeder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
