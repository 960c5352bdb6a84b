"""Training samples: which case, where, changed how. Each is drawn from (seed, step, index, rank) alone."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from volseg.geometry import Shape
from volseg.train.augment import change_intensity, draw_patch_map, resample_patch
from volseg.train.cache import CachedCase
from volseg.train.settings import AugmentConfig


@dataclass(frozen=True, eq=False)
class Batch:
    """Image patches [B, C, I, J, K] float32 and label indices [B, I, J, K] int64 for one training step."""

    step: int
    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class PatchSampler:
    """Draws patches from cached cases; the same (seed, step, index, rank) always gives the same patch."""

    cases: Sequence[CachedCase]
    label_count: int
    """L, background counted."""
    patch_voxels: Shape
    foreground_fraction: float
    augment: AugmentConfig
    seed: int
    rank: int = 0

    def patch(self, step: int, index: int) -> tuple[Tensor, Tensor]:
        """The index-th patch of a step: image [C, I, J, K] and label indices [I, J, K]."""
        rng = np.random.default_rng([self.seed, step, index, self.rank])
        case = self.cases[int(rng.integers(len(self.cases)))]
        patch_map = draw_patch_map(self.patch_voxels, case.grid.spacing_mm, self.augment, rng)
        centre = self._centre(case, rng)
        reach = np.array(patch_map.reach())
        start = np.maximum(0, np.floor(centre).astype(int) - reach)
        stop = np.minimum(case.shape, np.ceil(centre).astype(int) + reach + 1)
        box = tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))
        image = torch.from_numpy(np.asarray(case.image[(slice(None), *box)]))
        labels = torch.from_numpy(np.asarray(case.labels[box]))
        patch, classes = resample_patch(image, labels, self.label_count, centre - start, patch_map)
        return change_intensity(patch, self.augment, rng), classes

    def batch(self, step: int, size: int) -> Batch:
        """All patches of a step."""
        patches = [self.patch(step, index) for index in range(size)]
        return Batch(step, torch.stack([p[0] for p in patches]), torch.stack([p[1] for p in patches]))

    def batches(self, first_step: int, last_step: int, size: int, workers: int) -> Iterator[Batch]:
        """Batches first_step..last_step in order, prepared ahead by threads."""
        ahead = 2 * workers
        with ThreadPoolExecutor(workers, thread_name_prefix="patches") as pool:
            queue: deque[Future[Batch]] = deque()
            for step in range(first_step, last_step + 1):
                queue.append(pool.submit(self.batch, step, size))
                if len(queue) > ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()

    def _centre(self, case: CachedCase, rng: Generator) -> np.ndarray:
        """A foreground voxel by chance, else any place; moved so that the patch stays inside where it fits."""
        shape, patch = np.array(case.shape), np.array(self.patch_voxels)
        if case.centres and rng.random() < self.foreground_fraction:
            voxels = case.centres[sorted(case.centres)[int(rng.integers(len(case.centres)))]]
            centre = voxels[int(rng.integers(len(voxels)))].astype(float)
        else:
            centre = rng.uniform(0, shape - 1)
        low = np.minimum((patch - 1) / 2, (shape - 1) / 2)
        return np.clip(centre, low, shape - 1 - low)
