"""Which case a training patch is from, where it lies and how it is changed; drawn from (seed, step, index, rank) alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from volseg.errors import ConfigError, few
from volseg.geometry import FloatArray, Shape
from volseg.train.samples.augment import augment_patch
from volseg.train.samples.augment_settings import AugmentConfig
from volseg.train.samples.augment_spatial import PatchMap, draw_patch_map
from volseg.train.samples.boxes import part_inside, read_box, read_part
from volseg.train.samples.cache import CachedCase
from volseg.train.settings import SamplingConfig, TrainConfig


@dataclass(frozen=True, eq=False)
class RawPatch:
    """What a patch is made of, before it is augmented."""

    image: Tensor
    """Region [C, *box] float32."""
    labels: Tensor
    """Region [*box] uint8."""
    patch_map: PatchMap
    centre: FloatArray
    """Of the patch, in voxels of the region."""
    seed: tuple[int, ...]
    """Of the changes of intensity."""

    def augmented(self, augment: AugmentConfig, device: torch.device) -> tuple[Tensor, Tensor]:
        """Image [C, I, J, K] float32 and label indices [I, J, K] uint8, made on a device."""
        return augment_patch(
            self.image.to(device), self.labels.to(device), self.patch_map,
            centre=self.centre, augment=augment, rng=np.random.default_rng(self.seed),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class PatchSampler:
    """Draws patches from cached cases; the same (seed, step, index, rank) always gives the same patch."""

    cases: Sequence[CachedCase]
    patch_voxels: Shape
    sampling: SamplingConfig
    augment: AugmentConfig
    label_weights: tuple[float, ...]
    """Of the label indices 1..L-1."""
    slices_around: int = 0
    seed: int = 0
    rank: int = 0
    views: int = 1
    """So many patches, one after the other, show the same place, each changed in its own way."""
    view_shift: float = 0.0
    """Each of several views lies up to this part of a patch from the place, along each axis."""
    margins: Shape = (0, 0, 0)
    """Voxels on each face of a patch that the network gives no logits for; they may lie outside the case."""

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        cases: Sequence[CachedCase],
        label_count: int,
        rank: int,
        margins: Shape = (0, 0, 0),
    ) -> "PatchSampler":
        """As the configuration says, for a network with these margins.

        Raises:
            ConfigError: a label weight for a label that is not there, or neighbour slices for 3D patches.
        """
        around = config.tile.slices_around
        if around and config.patch_voxels[2] != 1:
            raise ConfigError(
                f"tile.slices_around = {around} feeds a 2D network with neighbour slices, but patch_voxels is "
                f"{config.patch_voxels}; set its last extent to 1, or slices_around to 0."
            )
        weights = label_weights(config, label_count)
        return cls(
            cases, config.patch_voxels, config.sampling, config.augment, weights, around, config.seed, rank,
            margins=margins,
        )  # fmt: skip

    def raw(self, step: int, index: int) -> RawPatch:
        """The index-th patch of a step, read but not yet changed."""
        seed = (self.seed, step, index, self.rank)
        rng = place_rng = np.random.default_rng(seed)
        if self.views > 1:
            place_rng = np.random.default_rng((self.seed, step, index // self.views, self.rank, 2))
        case = self.cases[int(place_rng.integers(len(self.cases)))]
        patch_map = draw_patch_map(self.patch_voxels, case.grid.spacing_mm, self.augment, rng)
        shift = 0.0
        if self.view_shift > 0:
            shift = rng.uniform(-self.view_shift, self.view_shift, 3) * self.patch_voxels
        centre = self._centre(case, place_rng, shift)
        start, extents = patch_map.box(centre)
        around = np.array([0, 0, self.slices_around])
        first, shape = np.array(start) - around, np.array(extents) + 2 * around
        if patch_map.flips is not None or patch_map.patch_voxels[2] == 1:
            image, labels = read_box(case.image, first, shape), read_box(case.labels, first, shape)
        else:  # the look-up mirrors what lies outside by itself
            inside = part_inside(first, shape, case.shape)
            image, labels = read_part(case.image, inside), read_part(case.labels, inside)
            first = np.array([part.start for part in inside])
        image, labels = torch.from_numpy(image), torch.from_numpy(labels)
        return RawPatch(image, labels, patch_map, centre - first, (*seed, 1))

    def patch(self, step: int, index: int) -> tuple[Tensor, Tensor]:
        """The index-th patch of a step: image [C, I, J, K] float32 and label indices [I, J, K] uint8."""
        return self.raw(step, index).augmented(self.augment, torch.device("cpu"))

    def _centre(self, case: CachedCase, rng: Generator, shift: FloatArray | float = 0.0) -> FloatArray:
        """A voxel of a label by chance, else any place; moved so that the patch stays inside where it fits.

        Of a network whose logits are smaller than its input it is their part of the patch that stays inside: the margins
        reach beyond the case, mirrored, or its outermost voxels would never be trained. The patch begins on a voxel, so
        that without a spatial change it is a cut.
        """
        shape, patch = np.array(case.shape), np.array(self.patch_voxels) - 2 * np.array(self.margins)
        wanted = None
        if rng.random() < self.sampling.foreground_fraction:
            wanted = self._label_voxel(case, rng)
        if wanted is None:
            wanted = rng.uniform(0, shape - 1)
        room = shape - patch
        start = np.rint(wanted + shift - (patch - 1) / 2)
        start = np.where(room >= 0, np.clip(start, 0, np.maximum(room, 0)), np.floor(room / 2))
        return start + (patch - 1) / 2

    def _label_voxel(self, case: CachedCase, rng: Generator) -> FloatArray | None:
        """A voxel of a label drawn by weight, from all of it or from one of its components; None without labels."""
        labels = [label for label in sorted(case.places) if self.label_weights[label - 1] > 0]
        if not labels:
            return None
        weights = np.array([self.label_weights[label - 1] for label in labels])
        places = case.places[labels[int(rng.choice(len(labels), p=weights / weights.sum()))]]
        voxels = places.voxels
        if rng.random() < self.sampling.component_fraction:
            voxels = places.component(int(rng.integers(places.component_count)))
        return voxels[int(rng.integers(len(voxels)))].astype(float)


def label_weights(config: TrainConfig, label_count: int) -> tuple[float, ...]:
    """How often label indices 1..L-1 are chosen, relative to each other.

    Raises:
        ConfigError: a name that is no label of the dataset.
    """
    named = config.sampling.label_weights
    if not named:
        return (1.0,) * (label_count - 1)
    names = [label.name for label in config.dataset.labels()]
    unknown = sorted(set(named) - set(names))
    if unknown:
        raise ConfigError(
            f"sampling.label_weights names {few(unknown, 3)}, but the labels are {few(names, 20)}; correct the names."
        )
    return tuple(named.get(name, 1.0) for name in names)
