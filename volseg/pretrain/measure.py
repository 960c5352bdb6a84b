"""How well the network does on scans that it was not trained on, beside guesses that need no network."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import cast

import torch
from torch import Tensor

from volseg.pretrain.contrast import pairs_found
from volseg.pretrain.masking import MaskedBatch, nearest_visible, reconstruction_error
from volseg.pretrain.network import PretrainNet
from volseg.pretrain.settings import PretrainConfig
from volseg.pretrain.step import Learner
from volseg.train.samples.augment_settings import AugmentConfig
from volseg.train.samples.cache import CachedCase
from volseg.train.samples.sampling import PatchSampler
from volseg.train.settings import SamplingConfig

MASKED_COLUMNS = ("held_out_error", "mean_error", "nearest_error")
"""Of the hidden voxels of held-out scans, in units of the visible voxels' deviation: of the network; of the mean of the
visible voxels; of the nearest visible voxel."""

CONTRAST_COLUMNS = ("pairs_found", "pairs_by_chance")
"""Of views of held-out scans, the part whose most similar other view is of the same place; and by chance."""

_PLACES = 16
_UNCHANGED = AugmentConfig(spatial_probability=0, intensity_probability=0)


def patch_sampler(config: PretrainConfig, cases: Sequence[CachedCase]) -> PatchSampler:
    """Patches of anywhere; with the contrastive task each place is seen twice in a row."""
    return PatchSampler(
        cases,
        config.patch_voxels,
        SamplingConfig(foreground_fraction=0),
        config.augment,
        (),
        config.slices_around,
        config.seed,
        views=config.views,
        view_shift=(1 - config.contrastive.overlap) / 2 if config.contrastive.weight else 0.0,
    )


class HeldOutMeasure:
    """The same patches and the same hidden cubes at every measurement.

    Args:
        learner: makes the cubes and says what a network sees.
        cases: held-out scans; the first `held_out.max_cases` are looked at.
    """

    def __init__(self, learner: Learner, cases: Sequence[CachedCase]) -> None:
        self._learner, self._config = learner, learner.config
        self._cases = cases[: learner.config.held_out.max_cases]
        self._guesses: dict[str, float] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """What `measure` gives; nothing without scans."""
        if not self._cases:
            return ()
        masked = MASKED_COLUMNS if self._config.masked.weight else ()
        return masked + (CONTRAST_COLUMNS if self._config.contrastive.weight and len(self._cases) > 1 else ())

    @torch.no_grad()
    def measure(self, network: PretrainNet) -> dict[str, float]:
        """The numbers by column, of a network in evaluation mode."""
        found: dict[str, float] = {}
        if self.columns and self._config.masked.weight:
            found |= self._masked(network)
        if self.columns and CONTRAST_COLUMNS[0] in self.columns:
            found |= self._contrast(network)
        return found

    @torch.no_grad()
    def reconstructed(self, network: PretrainNet, count: int) -> list[tuple[MaskedBatch, Tensor]]:
        """Some patches, each as a batch of one, and what the network says of them [1, C, ...] in units of the target."""
        return [(batch, self._say(network, batch)) for batch in islice(self._batches(), count)]

    def _masked(self, network: PretrainNet) -> dict[str, float]:
        error = self._config.masked.error
        sums = dict.fromkeys(MASKED_COLUMNS, 0.0)
        for batch in self._batches():
            sums["held_out_error"] += float(reconstruction_error(self._say(network, batch), batch, error))
            if not self._guesses:
                zero = torch.zeros_like(batch.target)
                sums["mean_error"] += float(reconstruction_error(zero, batch, error))
                sums["nearest_error"] += float(reconstruction_error(nearest_visible(batch), batch, error))
        means = {name: total / len(self._cases) for name, total in sums.items()}
        self._guesses = self._guesses or {name: means[name] for name in MASKED_COLUMNS[1:]}
        return means | self._guesses

    def _contrast(self, network: PretrainNet) -> dict[str, float]:
        cases = self._cases[:_PLACES]
        views = []
        for number, case in enumerate(cases):
            sampler = patch_sampler(self._config, [case])
            images = torch.stack([sampler.patch(0, 2 * number + view)[0] for view in range(2)])
            views.append(images)
        images = self._learner.on_device(torch.cat(views))
        if self._config.masked.weight:
            images = self._learner.hidden(images, (self._config.seed, 0, 1)).image
        said = self._learner.say(network, images)
        chance = 1 / (2 * len(cases) - 1)
        return {"pairs_found": pairs_found(cast(Tensor, said.descriptions)), "pairs_by_chance": chance}

    def _say(self, network: PretrainNet, batch: MaskedBatch) -> Tensor:
        return cast(Tensor, self._learner.say(network, batch.image).reconstruction).float()

    def _batches(self) -> Iterator[MaskedBatch]:
        for number, case in enumerate(self._cases):
            sampler = PatchSampler(
                [case],
                self._config.patch_voxels,
                SamplingConfig(foreground_fraction=0),
                _UNCHANGED,
                (),
                self._config.slices_around,
                self._config.seed,
            )
            image = self._learner.on_device(sampler.patch(0, number)[0][None])
            yield self._learner.hidden(image, (self._config.seed, 0, 0, number))
