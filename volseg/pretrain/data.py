"""Scans on the model's grid: cached, those that cannot be used told and left out, some set aside to measure."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from volseg.datasets import Case
from volseg.errors import InputError, counted, few
from volseg.pretrain.settings import PretrainConfig
from volseg.train.samples.cache import CachedCase, build_cache

_logger = logging.getLogger(__name__)

_MOST_WARNINGS = 20


@dataclass(frozen=True, eq=False)
class PretrainData:
    """Cached scans without labels."""

    training: Sequence[CachedCase]
    held_out: Sequence[CachedCase]
    """Not trained on; may be empty."""

    @property
    def channels(self) -> int:
        """Channels C of every image."""
        return int(self.training[0].image.shape[0])


def load_scans(
    cases: Sequence[Case],
    config: PretrainConfig,
    cache: Path,
    *,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> PretrainData:
    """Preprocess the scans into the cache folder; one that cannot be read is told and left out.

    Args:
        cases: as find_cases gives them.
        config: the settings.
        cache: where preprocessed scans go.
        report: called after each scan, with how many of how many.

    Raises:
        InputError: no scan is left, or the scans have different numbers of channels.
        OutputError: the cache folder takes no more.
    """
    cached: dict[str, CachedCase] = {}
    refused: list[str] = []
    for number, case in enumerate(cases, start=1):
        try:
            _check_there(case)
            found = build_cache([case], config.preprocess, None, cache)[0]
            _check_size(found, config)
            cached[case.id] = found
        except InputError as error:
            refused.append(str(error))
            if len(refused) <= _MOST_WARNINGS:
                _logger.warning("scan %s is left out: %s", case.id, error)
        report(number, len(cases))
    if len(refused) > _MOST_WARNINGS:
        _logger.warning("%s more are left out", counted(len(refused) - _MOST_WARNINGS, "scan"))
    if not cached:
        raise InputError(
            f"none of the {counted(len(cases), 'scan')} can be used. The first: {few(refused, 1)} Correct the files, or "
            "choose a smaller patch_voxels if they are only too small."
        )
    _check_channels(cached, config)
    aside = _set_aside([case for case in cases if case.id in cached], config)
    return PretrainData(
        [case for name, case in cached.items() if name not in aside], [cached[name] for name in sorted(aside)]
    )


def _check_there(case: Case) -> None:
    """A link that leads nowhere is listed among the files of a folder."""
    lost = [str(path) for path in case.images if not path.exists()]
    if lost:
        raise InputError(f"{few(lost, 1)}: there is no such file.")


def _check_size(case: CachedCase, config: PretrainConfig) -> None:
    """A patch goes on as a mirror image where its scan ends; more than half of that is nothing to learn from."""
    if any(2 * extent < patch for extent, patch in zip(case.shape, config.patch_voxels, strict=True)):
        raise InputError(
            f"has {' x '.join(map(str, case.shape))} voxels on the model's grid, less than half of a patch of "
            f"{' x '.join(map(str, config.patch_voxels))} along some axis; choose a smaller patch_voxels to use it."
        )


def _check_channels(cached: dict[str, CachedCase], config: PretrainConfig) -> None:
    found = {name: int(case.image.shape[0]) for name, case in cached.items()}
    wanted = Counter(found.values()).most_common(1)[0][0]
    whose = "most of the scans have"
    if config.dataset is not None:
        wanted, whose = len(config.dataset.channel_names()), f"{config.dataset.title} has"
    others = [f"{name} ({counted(count, 'channel')})" for name, count in found.items() if count != wanted]
    if others:
        raise InputError(
            f"{whose} {counted(wanted, 'channel')}, but not {few(others, 5)}. An encoder has one number of channels: take "
            "these out, or pre-train on them separately."
        )


def _set_aside(cases: Sequence[Case], config: PretrainConfig) -> set[str]:
    """The ids of the held-out scans; whole patients, in an order of their own that other scans do not change."""
    patients: dict[str, list[str]] = {}
    for case in cases:
        patients.setdefault(f"patient {case.patient}" if case.patient else f"case {case.id}", []).append(
            case.id
        )
    wanted = config.held_out.fraction * len(cases)
    if len(patients) < 2 or not wanted:
        return set()
    order = sorted(patients, key=lambda name: sha256(f"{config.seed}:{name}".encode()).digest())
    aside: set[str] = set()
    for patient in order[:-1]:
        if len(aside) + len(patients[patient]) <= max(1.0, wanted + 0.5):
            aside.update(patients[patient])
    return aside or set(min((patients[patient] for patient in order), key=len))
