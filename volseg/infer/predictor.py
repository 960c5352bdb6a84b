"""From a volume to a label map on the same grid: preprocess, tiles, network, stitch, back to the grid, postprocess."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.errors import ConfigError, InputError, PackageError
from volseg.geometry import Grid
from volseg.infer.engines import package_engine
from volseg.infer.restore import restore_labels, whole_logits
from volseg.infer.sliding import logit_slabs
from volseg.package import GoldenCase, Package
from volseg.postprocess import POSTPROCESS
from volseg.preprocess import PREPROCESS, preprocess_volume
from volseg.resample import logits_to_labels, to_grid
from volseg.volume import LabelMap, Volume

GOLDEN_DICE = 0.99
"""Least Dice per label between the golden case's labels and this machine's: other processors round differently."""

_SURELY_BACKGROUND = -60.0
"""Foreground minus background logit outside the model's grid: a probability below 1e-26."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A label map on the volume's grid, and where asked for the probabilities of all labels on the same grid.

    The probabilities are [L, I, J, K] float32 with background first; they sum to 1 and know nothing of postprocessing.
    """

    label_map: LabelMap
    probabilities: Volume | None = None


class Predictor:
    """A model ready to label volumes.

    Args:
        package: the model.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        head: prune a network with several heads to this one: less exact, and faster.

    Raises:
        DeviceError: CUDA was asked for and is not there.
        PackageError: the package's parts do not fit together, or there is no such head.
    """

    def __init__(self, package: Package, *, device: str = "auto", head: int | None = None) -> None:
        self.package = package
        info = package.info
        try:
            self._preprocess = [PREPROCESS.build(step) for step in info.preprocess]
            self._postprocess = [POSTPROCESS.build(step) for step in info.postprocess]
        except ConfigError as error:
            raise PackageError(f"{package.source}: {error}") from None
        self._engine = package_engine(package, device=device, head=head)

    @property
    def device(self) -> str:
        """Where the network runs now: "cpu" or "cuda"."""
        return self._engine.device.type

    def predict(self, volume: Volume, *, keep_probabilities: bool = False) -> Prediction:
        """The label map of a volume, on the volume's own grid.

        Logits are brought back to that grid by interpolation and the label is chosen there; what lies outside the model's
        grid is background.

        Raises:
            InputError: the number of channels is not the model's, the scan is larger than the model is for, or a
                preprocess step refuses the volume.
        """
        self._check_channels(volume)
        self._check_size(volume)
        model_input = preprocess_volume(volume, self._preprocess)
        table = self.package.info.label_table
        values = (0, *table.values)
        slabs = logit_slabs(
            model_input.array,
            self._engine,
            self.package.info.tile,
            len(values),
        )
        probabilities = None
        if keep_probabilities:
            logits = whole_logits(slabs, len(values), model_input.grid.shape)
            probabilities = volume.with_array(_probabilities(logits, model_input.grid, volume.grid))
            labels = logits_to_labels(logits, model_input.grid, volume.grid, values)
        else:
            labels = restore_labels(slabs, model_input.grid, volume.grid, values)
        label_map = LabelMap(labels, volume.grid, table, volume.origin)
        for step in self._postprocess:
            label_map = step(label_map)
        return Prediction(label_map, probabilities)

    def _check_channels(self, volume: Volume) -> None:
        names = [channel.name for channel in self.package.info.channels]
        if volume.channels != len(names):
            raise InputError(
                f"{volume.origin}: found {volume.channels} channel(s); the model '{self.package.info.name}' expects "
                f"{len(names)}, in this order: {', '.join(names)}."
            )

    def _check_size(self, volume: Volume) -> None:
        """A model of crops draws something on a whole head too: refuse what it cannot be right on."""
        info, grid = self.package.info, volume.grid.reoriented("RAS")
        size_mm = [extent * step for extent, step in zip(grid.shape, grid.spacing_mm, strict=True)]
        largest_mm = info.largest_mm
        if largest_mm is None or all(size <= most for size, most in zip(size_mm, largest_mm, strict=True)):
            return
        raise InputError(
            f"{volume.origin}: the scan is {_by(size_mm)} mm (right-left x front-back x up-down); the model '{info.name}' "
            f"is for scans up to {_by(largest_mm)} mm and would label anything else wrongly. Cut the scan to the "
            f"region the model is for: {info.intended_use}"
        )


def golden_case(package: Package, volume: Volume) -> GoldenCase:
    """A golden case for a package: a small volume and the labels the model gives it now, on the CPU."""
    return GoldenCase(volume, Predictor(package, device="cpu").predict(volume).label_map.array)


def check_golden(package: Package, *, device: str = "auto") -> float:
    """Run the package's golden case and return the least Dice over its labels, 1 where all are the same.

    Raises:
        PackageError: the package has no golden case, or a label's Dice is below GOLDEN_DICE.
    """
    golden = package.golden()
    if golden is None:
        raise PackageError(
            f"{package.source}: there is no golden case in the package, so it cannot test itself."
        )
    found = Predictor(package, device=device).predict(golden.volume).label_map.array
    scores = {
        label.name: _agreement(found == label.value, golden.labels == label.value)
        for label in package.info.labels
    }
    name = min(scores, key=lambda label: scores[label])
    if scores[name] < GOLDEN_DICE:
        raise PackageError(
            f"{package.source}: on its golden case '{name}' agrees with the expected labels to Dice {scores[name]:.4f} "
            f"only; at least {GOLDEN_DICE} is expected. This installation computes something else than the one that "
            "packed the model: try other versions of torch and volseg."
        )
    return scores[name]


def _by(sizes: Sequence[float]) -> str:
    return " x ".join(f"{size:.0f}" for size in sizes)


def _agreement(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else 1.0


def _probabilities(logits: npt.NDArray[np.float32], source: Grid, target: Grid) -> npt.NDArray[np.float32]:
    """Softmax of the interpolated logits, [L, *target.shape]; background outside the source grid.

    Softmax needs only differences, so each label's logit is taken against the background's, which makes background certain
    wherever the difference is filled with a large negative number.
    """
    margins = to_grid(logits[1:] - logits[:1], source, target, order="linear", outside=_SURELY_BACKGROUND)
    largest = np.maximum(margins.max(axis=0), 0)
    exponentials = np.concatenate([np.exp(-largest)[np.newaxis], np.exp(margins - largest)])
    return exponentials / exponentials.sum(axis=0)
