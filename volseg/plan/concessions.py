"""What a plan can give up for speed: ever cheaper requests, and the differences in words."""

from collections.abc import Callable, Iterator, Mapping
from math import floor, prod
from typing import Any

from volseg.models.unetpp import UNetPlusPlus
from volseg.plan.device import chosen_target
from volseg.plan.planner import Plan
from volseg.plan.request import PlanRequest
from volseg.plan.spacing import median_share
from volseg.preprocess.spatial import Respace
from volseg.train.settings import TrainConfig

_SHARES = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
"""Parts of the full plan's voxels that a patch then has."""
ENOUGH_SHARE = 1 / 8
"""A patch that holds less than this of the median case sees an organ in pieces, and needs more steps to learn it."""
_COARSEST = 4.0
_HARDLY = 1.1
_WIDTHS = {"cuda": (24, 16), "cpu": (16,)}
"""On CPU feature maps come in blocks of 16: 24 cost as much as 32."""
_KIND = {"3d": ("3", "full"), "3d_low": ("3", "low"), "2d": ("2", "auto"), "2.5d": ("2.5", "auto")}
_FEW_PATCHES = 2
_LEAST_PATCH = {3: 32**3, 2: 64**2}


def concessions(full: Plan, request: PlanRequest) -> Iterator[PlanRequest]:
    """Requests that give up ever more than the one of the full plan.

    First patches beyond two at a time, then feature maps, then the size of the patch; patches of every size also in voxels so
    coarse that a patch holds an eighth of the median case.
    """
    config = full.config
    dims, resolution = _KIND[full.chosen]
    changes: dict[str, Any] = {"dims": dims, "resolution": resolution}
    changes["max_batch_size"] = min(
        config.batch_size, _FEW_PATCHES
    )  # smaller patches must not come in larger batches
    if config.batch_size > _FEW_PATCHES:
        yield _changed(request, changes)
    if request.base_width is None and isinstance(config.architecture, UNetPlusPlus):
        for width in _WIDTHS[chosen_target(request).device]:
            if width < config.architecture.widths[0]:
                changes |= {"max_base_width": width}
                yield _changed(request, changes)
    for part in _SHARES:
        voxels = floor(prod(config.patch_voxels) * part)
        if voxels < _LEAST_PATCH[config.architecture.dimensions]:
            return
        if part < 1:
            yield _changed(request, changes | {"max_voxels": voxels})
        share = median_share(config, full.fingerprint) * part
        coarser = min(_COARSEST, (ENOUGH_SHARE / share) ** (1 / config.architecture.dimensions))
        if coarser > _HARDLY:
            yield _changed(request, changes | {"max_voxels": voxels, "coarsen": request.coarsen * coarser})


def given_up(full: TrainConfig, config: TrainConfig) -> Iterator[str]:
    """Each setting in which a fitted configuration differs from the full one: what it was and is."""
    for what, describe in _DESCRIBED.items():
        before, after = describe(full), describe(config)
        if before != after:
            yield f"{what} {before} → {after}"
    if config.steps < full.steps:
        yield f"schedule of {config.steps} steps instead of {full.steps} ({config.steps / full.steps:.0%})"


def _changed(request: PlanRequest, changes: Mapping[str, Any]) -> PlanRequest:
    return PlanRequest.model_validate(request.model_dump() | dict(changes))


def _spacing(config: TrainConfig) -> str:
    steps = (step.spacing_mm for step in config.preprocess if isinstance(step, Respace))
    return " x ".join(f"{value:.3g}" for value in next(steps, ())) + " mm"


def _width(config: TrainConfig) -> str:
    architecture = config.architecture
    return (
        str(architecture.widths[0]) if isinstance(architecture, UNetPlusPlus) else type(architecture).__name__
    )


_DESCRIBED: Mapping[str, Callable[[TrainConfig], str]] = {
    "target spacing": _spacing,
    "base width": _width,
    "patch": lambda config: " x ".join(map(str, config.patch_voxels)),
    "batch size": lambda config: str(config.batch_size),
    "overlap of tiles": lambda config: f"{config.tile.overlap:g}",
    "mirrored views": lambda config: str(2 ** len(config.mirror_axes)),
}
