"""Several models trained alike, such as the folds of a cross-validation, that answer as one.

Their logits are averaged tile by tile before anything else happens. The softmax of averaged logits is the normalised
geometric mean of the models' probabilities (of sigmoids likewise, region by region), as in nnU-Net (Isensee et al. 2021).
Averaging logits rather than probabilities keeps the rest as it is: flips, the blend of tiles and the way back to the scan's
grid are all linear in logits, and so commute with the mean.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from volseg.errors import ConfigError, PackageError
from volseg.infer.engines import Engine, package_engine
from volseg.infer.sliding import TilePlacing
from volseg.models.extents import ExtentRule
from volseg.package import ModelInfo, Package
from volseg.package.archive import TEMPLATE

FloatArray = npt.NDArray[np.float32]

_SHARED = ("channels", "preprocess", "tile", "labels", "regions", "locate", "located_labels", "largest_mm")
"""The fields of model.json that decide what a network sees and what its channels mean."""


class Ensemble:
    """Engines whose logits are averaged; the weights of all are held, the activations of one at a time.

    Raises:
        ConfigError: the networks give back different parts of a tile, or tiles may move by different steps.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)
        first, *others = (TilePlacing.of(engine.extents) for engine in self._engines)
        for other in others:
            if other != first:
                raise ConfigError(
                    "the networks of an ensemble do not answer for the same voxels of a tile: found margins of "
                    f"{list(first.margins)} and {list(other.margins)} voxels, and tiles that start at multiples of "
                    f"{list(first.step_multiples)} and {list(other.step_multiples)}. Use one of them alone."
                )

    @property
    def extents(self) -> ExtentRule:
        """What tiles the first network takes; where their logits are smaller, all agree."""
        return self._engines[0].extents

    @property
    def tiles_per_batch(self) -> int:
        """How many tiles go at once."""
        return min(engine.tiles_per_batch for engine in self._engines)

    @property
    def device(self) -> torch.device:
        """Where the first network runs now."""
        return self._engines[0].device

    def __call__(self, tiles: FloatArray) -> FloatArray:
        """The mean of the logits [B, N, I, J, K] of tiles [B, C, I, J, K]; networks that agree leave theirs as it is.

        Raises:
            DeviceError: the memory does not hold one tile on the CPU.
            IntensityError: a logit is NaN or infinite.
        """
        mean = self._engines[0](tiles).copy()
        for count, engine in enumerate(self._engines[1:], start=2):
            mean += (engine(tiles) - mean) / count
        return mean


def load_ensemble(packages: Sequence[Package], *, device: str = "auto", head: int | None = None) -> Ensemble:
    """The networks of packages that belong together.

    Args:
        packages: at least one.
        device: "auto", "cpu" or "cuda".
        head: prune every network to this head, where it has several.

    Raises:
        DeviceError: CUDA was asked for and is not there.
        PackageError: the packages differ in what a network sees or in what it finds, or one does not fit together.
    """
    _check_alike(packages)
    engines = [package_engine(package, device=device, head=head) for package in packages]
    try:
        return Ensemble(engines)
    except ConfigError as error:
        sources = " and ".join(str(package.source) for package in packages)
        raise PackageError(f"{sources} cannot answer as one: {error}") from None


def shared_postprocess(packages: Sequence[Package]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The postprocess steps of an ensemble: those that more than half of its models have; and a warning where they differ.

    Each fold may have found other steps helpful on its own held-out cases.
    """
    lists = [package.info.postprocess for package in packages]
    if all(steps == lists[0] for steps in lists):
        return lists[0], ()
    votes = Counter(key for steps in lists for key in {_key(step) for step in steps})
    chosen = {key for key, count in votes.items() if 2 * count > len(packages)}
    steps = {_key(step): step for every in lists for step in every if _key(step) in chosen}
    named = ", ".join(map(str, steps.values())) or "none"
    return list(steps.values()), (
        f"the {len(packages)} models differ in their postprocess steps; used are those that most of them have: {named}",
    )


def _key(step: dict[str, Any]) -> str:
    return repr(sorted(step.items()))


def _check_alike(packages: Sequence[Package]) -> None:
    if not packages:
        raise PackageError("there is no model package to predict with; give at least one.")
    first = packages[0]
    for other in packages[1:]:
        for name in _SHARED:
            if _shared(first.info, name) != _shared(other.info, name):
                raise PackageError(
                    f"{first.source} and {other.source} cannot answer as one: they differ in {name} ("
                    f"{_short(first.info, name)} and {_short(other.info, name)}). An ensemble is for models trained alike, "
                    "such as the folds of one training; use one of them alone."
                )
        if first.members.get(TEMPLATE) != other.members.get(TEMPLATE):
            raise PackageError(
                f"{first.source} and {other.source} cannot answer as one: they differ in the template that their locate "
                "step registers. Use one of them alone."
            )


def _shared(info: ModelInfo, name: str) -> Any:
    value = info.model_dump(mode="json")[name]
    return sorted(value, key=lambda label: label["value"]) if name == "labels" else value


def _short(info: ModelInfo, name: str) -> str:
    text = str(_shared(info, name))
    return text if len(text) <= 200 else f"{text[:200]} ..."
