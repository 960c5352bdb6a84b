"""From a fingerprint to training configurations: the rules put together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal, cast

from volseg.datasets import Dataset
from volseg.errors import ConfigError
from volseg.package import TileInfo
from volseg.package.fingerprint import Fingerprint
from volseg.plan import explain
from volseg.plan.card import card_settings
from volseg.plan.device import Target, chosen_target
from volseg.plan.intensities import crop_steps, intensity_steps
from volseg.plan.patch import NetworkPlan, Room, network_plan
from volseg.plan.recipe import (
    augment_settings,
    mirror_axes,
    optimizer_settings,
    sampling_settings,
    split_settings,
    step_count,
    validation_settings,
)
from volseg.plan.request import PlanRequest
from volseg.plan.spacing import (
    LOW_SHARE,
    Triple,
    coarsened,
    coarsened_once,
    median_extents,
    needs_smoothing,
    orientation_codes,
    patch_share,
    slice_spacing,
    target_spacing,
    turned,
)
from volseg.preprocess.spatial import Orient, Respace
from volseg.train.settings import TrainConfig

LEAST_SLICES = 5
"""A volume with fewer slices is planned as slices."""

CPU_SHARE = 0.05
"""Without a GPU the low resolution is chosen where a patch at full resolution holds less than this of the median case."""

CPU_WIDTH, GPU_WIDTH = 16, 32
"""Feature maps of the first level; twice as many take four times as long, which a CPU cannot afford."""

CPU_VOXELS = 80**3
"""Without a GPU no patch is larger than this: a step takes seconds as it is."""

_NEAR_MM = 3.0
"""Slices nearer than this are seen with two neighbours on each side, others with one."""


@dataclass(frozen=True)
class Plan:
    """Configurations by name ("3d", "3d_low", "2d", "2.5d"), which one to use, and why."""

    configs: Mapping[str, TrainConfig]
    chosen: str
    fingerprint: Fingerprint
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Per configuration: for a field of it, one sentence on how it was decided."""

    @property
    def config(self) -> TrainConfig:
        """The chosen configuration."""
        return self.configs[self.chosen]

    @property
    def notes(self) -> tuple[str, ...]:
        """The decisions behind the chosen configuration, one sentence or two each, with their numbers."""
        return tuple(self.reasons.get(self.chosen, {}).values())


@dataclass(frozen=True)
class _Frame:
    """What all variants of a plan share."""

    dataset: Dataset
    fingerprint: Fingerprint
    request: PlanRequest
    target: Target

    @property
    def codes(self) -> str:
        """Where the axes of the arrays point; however coarse a variant gets, the slices of the scans are along the last one."""
        return "RAS" if self.fingerprint.slices_last else orientation_codes(slice_spacing(self.fingerprint))


@dataclass(frozen=True)
class _Variant:
    """One of them: its grid along the RAS axes, and its network along the turned ones."""

    axes: Literal[2, 3]
    slices_around: int
    spacing_mm: Triple
    network: NetworkPlan


def check_request(dataset: Dataset, request: PlanRequest) -> None:
    """Nothing, where a collection can be planned so, as far as that is known before its scans are measured.

    Raises:
        ConfigError: regions asked for where the collection has none, or GPU memory for the CPU.
        InputError: the collection does not tell its labels or channels.
    """
    names, _ = [label.name for label in dataset.labels()], dataset.channel_names()
    if request.regions and not dataset.regions():
        raise ConfigError(
            f"{dataset.title} has no nested regions, only the labels {', '.join(names)}; leave --regions out."
        )
    chosen_target(request)


def plan_training(dataset: Dataset, fingerprint: Fingerprint, request: PlanRequest = PlanRequest()) -> Plan:  # noqa: B008 - frozen
    """Configurations for a collection, from its fingerprint alone; no voxel is read.

    Which there are: "3d" and, where a patch of it holds less than a quarter of the median case, "3d_low", unless the scans
    have fewer than 5 slices; "2d" and "2.5d". Only those that were asked for are made if `dims` or `resolution` says so.

    Raises:
        ConfigError: regions asked for where the collection has none, dims or resolution that do not suit the scans, or too
            little memory.
    """
    check_request(dataset, request)
    frame = _Frame(dataset, fingerprint, request, chosen_target(request))
    variants = _variants(frame)
    chosen = _chosen(frame, variants)
    configs = {name: _config(frame, variant) for name, variant in variants.items()}
    reasons = {name: _reasons(frame, variant, configs[name]) for name, variant in variants.items()}
    reasons[chosen] = {"kind": explain.choice(chosen, list(variants), frame.target.why), **reasons[chosen]}
    return Plan(configs, chosen, fingerprint, reasons)


def _variants(frame: _Frame) -> dict[str, _Variant]:
    dims, low = frame.request.dims, frame.request.resolution == "low"
    variants: dict[str, _Variant] = {}
    spacing = target_spacing(frame.fingerprint)
    spacing = coarsened(spacing, frame.request.coarsen, median_extents(frame.fingerprint, spacing))
    volumes = _slice_count(frame, spacing) >= LEAST_SLICES
    if dims == "3" and not volumes:
        raise ConfigError(
            f"the median scan has {_slice_count(frame, spacing)} slices, too few for a 3D network; use --dims 2 or 2.5."
        )
    if low and (dims in ("2", "2.5") or not volumes):
        raise ConfigError("the low resolution is for 3D networks; leave --resolution out or use --dims 3.")
    if dims in ("auto", "3") and volumes:
        variants["3d"] = _variant(frame, 3, spacing)
        coarse = _low_variant(frame, variants["3d"])
        if coarse is not None:
            variants["3d_low"] = coarse
        elif low:
            raise ConfigError(
                "a patch at full resolution holds more than a quarter of the median case already, so there is no low "
                "resolution to plan; leave --resolution out."
            )
    slices = slice_spacing(frame.fingerprint)
    across = "RAS".index(frame.codes[2])
    extents = median_extents(frame.fingerprint, slices)
    slices = coarsened(slices, frame.request.coarsen, extents, fixed=across)
    around = 2 if turned(slices, frame.codes)[2] <= _NEAR_MM else 1
    if dims in ("auto", "2"):
        variants["2d"] = _variant(frame, 2, slices)
    if dims == "2.5" or (dims == "auto" and volumes):
        variants["2.5d"] = _variant(frame, 2, slices, around)
    return variants


def _chosen(frame: _Frame, variants: Mapping[str, _Variant]) -> str:
    """`auto`: the 3D network at full resolution; without a GPU the low one where a patch holds less than 5 % of a case."""
    if "3d" not in variants:
        return next(iter(variants))
    if "3d_low" not in variants or frame.request.resolution == "full":
        return "3d"
    if frame.request.resolution == "low":
        return "3d_low"
    share = _share(frame, variants["3d"])
    return "3d_low" if frame.target.device == "cpu" and share < CPU_SHARE else "3d"


def _variant(frame: _Frame, axes: Literal[2, 3], spacing: Triple, slices_around: int = 0) -> _Variant:
    request, channels = frame.request, len(frame.fingerprint.channels)
    codes = frame.codes
    extents = turned(_floats(median_extents(frame.fingerprint, spacing)), codes)
    room = Room(
        spacing_mm=turned(spacing, codes)[:axes],
        extents=tuple(int(extent) for extent in extents[:axes]),
        in_channels=channels * (2 * slices_around + 1),
        out_channels=len(frame.dataset.regions()) if request.regions else 1 + len(frame.fingerprint.labels),
        exclusive=not request.regions,
        set_voxels=frame.fingerprint.cases * prod(extents),
        budget_bytes=frame.target.budget_bytes,
        device=frame.target.device,
        max_voxels=request.max_voxels or (CPU_VOXELS if frame.target.device == "cpu" else None),
        max_batch_size=request.max_batch_size,
    )
    default = GPU_WIDTH if frame.target.device == "cuda" else CPU_WIDTH
    width = min(request.base_width or default, request.max_base_width or 1 << 16)
    network = network_plan(room, width, may_narrow=request.base_width is None)
    return _Variant(axes, slices_around, spacing, network)


def _low_variant(frame: _Frame, full: _Variant) -> _Variant | None:
    """Coarser by 3 % at a time until a patch holds a quarter of the median case; None where it does so at full resolution.

    None, too, where that would leave more than half of the voxels: it would hardly differ.
    """
    if _share(frame, full) >= LOW_SHARE:
        return None
    variant = full
    while _share(frame, variant) < LOW_SHARE:
        spacing, patch = coarsened_once(variant.spacing_mm), variant.network.patch_voxels
        # The patch changes little with the spacing: coarsen until this one is enough, then plan a new one.
        while patch_share(patch, median_extents(frame.fingerprint, spacing)) < LOW_SHARE:
            spacing = coarsened_once(spacing)
        variant = _variant(frame, 3, spacing)
    ratio = prod(variant.spacing_mm) / prod(full.spacing_mm)
    return variant if ratio >= 2 else None


def _config(frame: _Frame, variant: _Variant) -> TrainConfig:
    network, fingerprint, request = variant.network, frame.fingerprint, frame.request
    codes = frame.codes
    spacing = turned(variant.spacing_mm, codes)
    patch = cast(tuple[int, int, int], (*network.patch_voxels, 1)[:3])
    mirrored = () if fingerprint.slices_last else mirror_axes(frame.dataset.labels(), codes, variant.axes)
    volume = prod(median_extents(fingerprint, variant.spacing_mm)) * fingerprint.cases
    steps = step_count(volume, patch, network.batch_size, frame.target.device)
    on_gpu = frame.target.device == "cuda"
    return TrainConfig(
        kind="train",
        dataset=frame.dataset,
        regions=request.regions,
        split=split_settings(fingerprint.patients, request.fold),
        preprocess=(
            Orient(codes=codes, slices_last=fingerprint.slices_last),
            *crop_steps(fingerprint),
            Respace(spacing_mm=spacing, antialias=needs_smoothing(fingerprint, variant.spacing_mm)),
            *intensity_steps(fingerprint),
        ),
        architecture=network.architecture,
        patch_voxels=patch,
        batch_size=network.batch_size,
        steps=steps,
        sampling=sampling_settings(fingerprint),
        augment=augment_settings(spacing, mirrored, fingerprint.modality, slices=variant.axes == 2),
        optimizer=optimizer_settings(steps),
        validation=validation_settings(steps, fingerprint.cases),
        precision="auto",
        channels_last=on_gpu,
        workers=frame.target.workers,
        tile=TileInfo(tile_voxels=patch, overlap=0.5, slices_around=variant.slices_around),
        mirror_axes=mirrored,
        postprocess="choose",
        card=card_settings(frame.dataset, fingerprint),
    )


def _reasons(frame: _Frame, variant: _Variant, config: TrainConfig) -> dict[str, str]:
    extents = median_extents(frame.fingerprint, variant.spacing_mm)
    return explain.reasons(
        config,
        frame.fingerprint,
        variant.network,
        extents=cast(tuple[int, int, int], turned(_floats(extents), frame.codes)),
        labels=frame.dataset.labels(),
        budget_bytes=frame.target.budget_bytes,
    )


def _share(frame: _Frame, variant: _Variant) -> float:
    """The part of the median case that a patch holds."""
    return patch_share(variant.network.patch_voxels, median_extents(frame.fingerprint, variant.spacing_mm))


def _slice_count(frame: _Frame, spacing: Triple) -> int:
    """Extent of the median case along the axis that becomes K."""
    return int(turned(_floats(median_extents(frame.fingerprint, spacing)), frame.codes)[2])


def _floats(values: tuple[int, ...]) -> Triple:
    first, second, third = values
    return float(first), float(second), float(third)
