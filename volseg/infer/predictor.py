"""From a volume to a label map on the same grid: locate, preprocess, tiles, network, stitch, back, postprocess."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from volseg.errors import ConfigError, InputError, IntensityError, PackageError
from volseg.geometry import Grid
from volseg.infer.ensemble import load_ensemble, shared_postprocess
from volseg.infer.regions import (
    Canvas,
    FoundRegion,
    box_in,
    cut_region,
    grown,
    in_scan,
    touched_sides,
    volume_doubts,
)
from volseg.infer.restore import label_probabilities, restore_labels, whole_logits
from volseg.infer.sliding import logit_slabs
from volseg.infer.stitch import Slab
from volseg.labels import LabelTable
from volseg.locate import LOCATE, Location, Region
from volseg.package import GoldenCase, Package
from volseg.postprocess import POSTPROCESS
from volseg.preprocess import PREPROCESS, preprocess_volume
from volseg.resample import logits_to_labels
from volseg.volume import LabelMap, Volume

GOLDEN_DICE = 0.99
"""Least Dice per label between the golden case's labels and this machine's: other processors round differently."""

GROW_MM = 8.0
"""A region grows by this on each side that a label touches, once."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A label map on the volume's grid, and where asked for the probabilities of all channels on the same grid.

    The probabilities are [N, I, J, K] float32 and know nothing of postprocessing. Those of labels have background first and
    sum to 1; those of a model of regions are one channel for each region, which may hold each other and sum to anything.
    """

    label_map: LabelMap
    """Its table says which labels these are: those of a located scan, or the model's own."""
    probabilities: Volume | None = None
    regions: tuple[Region, ...] = ()
    """What was located, as it was used; empty where the scan was taken as a whole."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """What the search for the regions measured, by name."""
    warnings: tuple[str, ...] = ()
    """What a reader of the result must know: a refusal that was overridden, a label that ends at its box."""
    channel_names: tuple[str, ...] = ()
    """Of the probabilities: "background" and the labels, or the regions the model finds; empty where there are none."""


class Predictor:
    """A model, or several that answer as one, ready to label volumes.

    Args:
        packages: the model, or models trained alike (the folds of a training) whose logits are averaged; see
            volseg.infer.ensemble.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        head: prune a network with several heads to this one: usually less exact, and faster; a warning says so.
        force: label also what the model is not for; the prediction's warnings then say why it would be refused.

    Raises:
        DeviceError: CUDA was asked for and is not there.
        PackageError: a package's parts do not fit together, there is no such head, or the models are not alike.
    """

    def __init__(
        self,
        packages: Package | Sequence[Package],
        *,
        device: str = "auto",
        head: int | None = None,
        force: bool = False,
    ) -> None:
        self.packages = (packages,) if isinstance(packages, Package) else tuple(packages)
        self.force = force
        self._engine = load_ensemble(self.packages, device=device, head=head)
        self.package, info = self.packages[0], self.packages[0].info
        postprocess, warnings = shared_postprocess(self.packages)
        stopped = f"the network was stopped at head {head}, as asked; the model's scores are of its last"
        self._warnings = warnings if head is None else (*warnings, stopped)
        try:
            self._preprocess = list(map(PREPROCESS.build, info.preprocess))
            self._postprocess = list(map(POSTPROCESS.build, postprocess))
            self._locate = LOCATE.build(info.locate or {"name": "crop"})
        except ConfigError as error:
            raise PackageError(f"{self.package.source}: {error}") from None
        self._template = self.package.template()

    @property
    def device(self) -> str:
        """Where the network runs now: "cpu" or "cuda"."""
        return self._engine.device.type

    def predict(self, volume: Volume, *, keep_probabilities: bool = False) -> Prediction:
        """The label map of a volume, on the volume's own grid.

        Where the model locates regions, each is labelled on its own and pasted into the scan. Logits are brought back to the
        volume's grid by interpolation and the label is chosen there; what lies outside the model's grid is background.

        Raises:
            InputError: the number of channels is not the model's, the scan is larger than the model is for, it is not what
                the model's locate step expects, or a preprocess step refuses it.
        """
        self._check_channels(volume)
        location = self._locate(volume, self._template)
        warnings = (*self._warnings, *self._refuse(volume, location))
        if location.regions:
            return self._predict_regions(volume, location, warnings, keep_probabilities=keep_probabilities)
        prediction = self._predict_whole(volume, keep_probabilities=keep_probabilities)
        labels = prediction.label_map
        found_ml = np.count_nonzero(labels.array) * labels.grid.voxel_volume_mm3 / 1000
        doubts = volume_doubts("the scan, taken as a crop,", location.plausible_ml, found_ml)
        return replace(prediction, warnings=(*warnings, *doubts))

    def _refuse(self, volume: Volume, location: Location) -> tuple[str, ...]:
        """Raise what speaks against the volume, or give it back as warnings where the user insists."""
        info = self.package.info
        doubts = [*location.doubts, *([] if location.regions else self._size_doubts(volume))]
        if not doubts:
            return ()
        if self.force:
            return tuple(f"forced: {doubt}" for doubt in doubts)
        raise InputError(
            f"{volume.origin}: this is not a scan that the model '{info.name}' can be trusted with: {'; '.join(doubts)}. "
            f"It is for: {info.intended_use} If you know that it is such a scan, force it (--force) and look at every result."
        )

    def _predict_whole(self, volume: Volume, *, keep_probabilities: bool) -> Prediction:
        """The scan as one region, with the model's own labels."""
        slabs, grid = self._logit_slabs(volume)
        info, rule = self.package.info, self.package.info.channel_rule
        probabilities, names = None, ()
        if keep_probabilities:
            logits = whole_logits(slabs, info.channel_count, grid.shape)
            probabilities = volume.with_array(label_probabilities(logits, grid, volume.grid, rule))
            names = tuple(region.name for region in info.regions) or _channel_names(info.label_table)
            labels = logits_to_labels(logits, grid, volume.grid, rule)
        else:
            labels = restore_labels(slabs, grid, volume.grid, rule)
        label_map = self._postprocessed(LabelMap(labels, volume.grid, info.label_table, volume.origin))
        return Prediction(label_map, probabilities, channel_names=names)

    def _predict_regions(
        self, volume: Volume, location: Location, warnings: tuple[str, ...], *, keep_probabilities: bool
    ) -> Prediction:
        """Every region on its own, with the labels of a located scan."""
        table = self._located_table(location)
        canvas = Canvas.blank(volume.grid.shape, table.values, keep_probabilities=keep_probabilities)
        regions: list[Region] = []
        for region in location.regions:
            used, notes = self._paste_region(volume, region, canvas)
            regions.append(used)
            warnings += notes
        return Prediction(
            LabelMap(canvas.labels, volume.grid, table, volume.origin),
            None if canvas.probabilities is None else volume.with_array(canvas.probabilities),
            tuple(regions),
            location.measures or {},
            warnings,
            _channel_names(table) if keep_probabilities else (),
        )

    def _paste_region(self, volume: Volume, region: Region, canvas: Canvas) -> tuple[Region, tuple[str, ...]]:
        """Label one region, again in a larger box where a label touches its border, and paste it."""
        found = self._run_region(volume, region)
        if found is None:
            return region, (f"the region '{region.name}' lies outside the scan or in its empty part",)
        warnings: list[str] = []
        if any(map(any, found.touched)):
            region = grown(region, found.touched, GROW_MM)
            found = self._run_region(volume, region) or found
            if any(map(any, found.touched)):
                warnings.append(
                    f"in the region '{region.name}' a label still touches the border of its grown box"
                )
        box = box_in(volume.grid, found.grid)
        if box is not None:
            grid = volume.grid.box(*box)
            own = self.package.info.label_table
            probabilities = label_probabilities(
                found.logits, found.grid, grid, self.package.info.channel_rule
            )
            chosen = np.array([0, *own.values])[probabilities.argmax(axis=0)]
            labels = self._postprocessed(LabelMap(chosen, grid, own)).array
            canvas.paste(box[0], labels, probabilities, dict(zip(own.values, region.values, strict=True)))
            found_ml = np.count_nonzero(labels) * grid.voxel_volume_mm3 / 1000
            warnings += volume_doubts(f"the region '{region.name}'", region.plausible_ml, found_ml)
        return region, tuple(warnings)

    def _run_region(self, volume: Volume, region: Region) -> FoundRegion | None:
        """The logits of a region and the faces of its box that a label touches; None where there is nothing to see."""
        upright = cut_region(volume, region)
        if upright is None:
            return None
        try:
            slabs, grid = self._logit_slabs(upright)
        except IntensityError:  # one value everywhere
            return None
        info = self.package.info
        logits = whole_logits(slabs, info.channel_count, grid.shape)
        labels = logits_to_labels(logits, grid, upright.grid, info.channel_rule)
        label_map = LabelMap(labels, upright.grid, info.label_table)
        touched = touched_sides(self._postprocessed(label_map).array)
        return FoundRegion(logits, in_scan(grid, region, upright.grid), touched)

    def _logit_slabs(self, volume: Volume) -> tuple[Iterator[Slab], Grid]:
        """The network's answer to a volume: slabs of logits as they are finished, and their grid."""
        model_input = preprocess_volume(volume, self._preprocess)
        info = self.package.info
        return logit_slabs(model_input.array, self._engine, info.tile, info.channel_count), model_input.grid

    def _postprocessed(self, label_map: LabelMap) -> LabelMap:
        for step in self._postprocess:
            label_map = step(label_map)
        return label_map

    def _located_table(self, location: Location) -> LabelTable:
        """The labels of a located scan, which must hold what the regions name."""
        info = self.package.info
        table, count = info.located_table, len(info.labels)
        for region in location.regions:
            if len(region.values) != count or not set(region.values) <= set(table.values):
                raise PackageError(
                    f"{self.package.source}: the region '{region.name}' gives the {count} labels of the model the values "
                    f"{region.values}; expected one of located_labels ({table.values}) each."
                )
        return table

    def _check_channels(self, volume: Volume) -> None:
        names = [channel.name for channel in self.package.info.channels]
        if volume.channels != len(names):
            raise InputError(
                f"{volume.origin}: found {volume.channels} channel(s); the model '{self.package.info.name}' expects "
                f"{len(names)}, in this order: {', '.join(names)}."
            )

    def _size_doubts(self, volume: Volume) -> list[str]:
        """A model of crops draws something on a whole head too: what it cannot be right on."""
        largest_mm, size_mm = self.package.info.largest_mm, volume.grid.body_size_mm
        if largest_mm is None or all(size <= most for size, most in zip(size_mm, largest_mm, strict=True)):
            return []
        doubt = (
            f"the scan is {_by(size_mm)} mm (right-left x front-back x up-down); the model is for scans up to "
            f"{_by(largest_mm)} mm and would label anything else wrongly. Cut the scan to the region the model is for"
        )
        return [doubt]


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


def _channel_names(table: LabelTable) -> tuple[str, ...]:
    return ("background", *(label.name for label in table))


def _by(sizes: Sequence[float]) -> str:
    return " x ".join(f"{size:.0f}" for size in sizes)


def _agreement(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else 1.0
