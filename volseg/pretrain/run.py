"""A whole pre-training: find the scans, cache them, learn, write the encoder; one folder holds everything it makes."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from volseg.config import dump_config
from volseg.datasets import Case
from volseg.errors import ConfigError, InputError, OutputError, counted
from volseg.infer.engines import choose_device, keep_memory_mapped
from volseg.io.atomic import replacing
from volseg.pretrain.data import PretrainData, load_scans
from volseg.pretrain.encoder_file import write_encoder
from volseg.pretrain.loop import CONFIG, LAST, Pretrainer, Progress, check_patch
from volseg.pretrain.measure import HeldOutMeasure
from volseg.pretrain.pictures import draw_reconstructions
from volseg.pretrain.scans import find_cases
from volseg.pretrain.settings import PretrainConfig
from volseg.pretrain.step import Learner

ENCODER, SCANS, PREVIEW = "encoder.safetensors", "scans.json", "preview.png"

_logger = logging.getLogger(__name__)

_TIMED_STEPS = 4
_BUDGET_SHARE = 0.9
"""Of the time that is left the part for steps; the rest is for measuring, checkpoints and pictures."""
_PREVIEWED = 4


@dataclass(frozen=True)
class Listeners:
    """Whom a run tells how far it is."""

    progress: Callable[[Progress], None] = lambda _progress: None
    """After each step."""
    prepared: Callable[[int, int], None] = lambda _done, _total: None
    """After each scan that was brought into the cache: how many of how many."""
    begins: Callable[[PretrainConfig, PretrainData, str], None] = lambda _config, _data, _precision: None
    """Before the first step, with the settings that were resolved, the scans, and the precision with its reason."""


def run_pretraining(
    config: PretrainConfig,
    folder: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    budget_seconds: float | None = None,
    listeners: Listeners | None = None,
) -> Path:
    """Pre-train an encoder and write its weights.

    The folder receives pretrain.yaml, scans.json, cache/, log.csv, curves.png, last.pt, and at the end preview.png (with the
    masked task) and encoder.safetensors.

    Args:
        config: the settings.
        folder: the run folder; it must hold no other run unless `resume`.
        device: "auto", "cpu" or "cuda".
        resume: go on from last.pt, or begin where a run ended before it wrote one.
        budget_seconds: from now to the end; `steps` becomes what fits, as a few steps on noise are measured. A run that
            goes on keeps its steps.
        listeners: told how far the run is.

    Returns:
        The path of encoder.safetensors.

    Raises:
        OutputError: the folder holds a run and `resume` was not asked for.
        PausedError: the run was asked to stop and is saved.
        VolsegError: scans, settings or device cannot be used; the message says why.
    """
    began = time.monotonic()
    listeners = listeners or Listeners()
    choose_device(device)
    check_patch(config)
    cases = find_cases(config)
    _open_folder(folder, resume=resume)
    data = load_scans(cases, config, folder / "cache", report=listeners.prepared)
    goes_on = resume and (folder / LAST).exists()
    if budget_seconds is not None and not goes_on:
        left = budget_seconds - (time.monotonic() - began)
        config = config.model_copy(update={"steps": steps_within(left, config, data.channels, device=device)})
    trainer = Pretrainer(config, data, folder, device=device)
    if goes_on:
        _check_scans(folder, data)
        trainer.resume()
    elif resume:
        _logger.warning("%s: there is no checkpoint to go on from; the pre-training begins", folder)
    _write_record(folder, config, data, cases)
    listeners.begins(config, data, f"{trainer.learner.precision} ({trainer.learner.precision_reason})")
    trainer.run(listeners.progress)
    return _finish(trainer, folder)


def steps_within(seconds: float, config: PretrainConfig, channels: int, *, device: str = "auto") -> int:
    """How many steps fit into a time, as a few on noise take it.

    Args:
        seconds: that are left.
        config: the settings.
        channels: C of the scans.
        device: "auto", "cpu" or "cuda".

    Raises:
        ConfigError: not even the warm-up fits.
    """
    keep_memory_mapped()
    place = choose_device(device)
    learner = Learner(config, channels, place)
    shape = (config.batch_size, learner.in_channels, *config.patch_voxels)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    times: list[float] = []
    for step in range(1, _TIMED_STEPS + 1):
        start = time.perf_counter()
        learner.gradients(images, step)
        learner.apply(step, 1e-6)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        times.append(time.perf_counter() - start)
    step_seconds = min(times[1:])
    steps = int(_BUDGET_SHARE * (seconds - sum(times)) / step_seconds)
    least = config.optimizer.warmup_steps + 1
    if steps < least:
        raise ConfigError(
            f"--budget: a step takes {step_seconds:.2g} s here, so {max(0, steps)} steps fit into what is left, fewer than "
            f"the {least} of the warm-up. Give more time, smaller patch_voxels, or a lower optimizer.warmup_steps."
        )
    return steps


def _open_folder(folder: Path, *, resume: bool) -> None:
    """A plan may lie in the folder, but no other run."""
    own = [name for name in (CONFIG, LAST, ENCODER, "log.csv") if (folder / name).exists()]
    if own and not resume:
        raise OutputError(
            f"{folder}: holds a pre-training already ({', '.join(own)}); choose a new folder, or go on with it by --resume."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror}); choose another folder by --output."
        ) from error


def _names(data: PretrainData) -> dict[str, list[str]]:
    return {
        "training": [case.id for case in data.training],
        "held_out": [case.id for case in data.held_out],
    }


def _write_record(folder: Path, config: PretrainConfig, data: PretrainData, cases: Sequence[Case]) -> None:
    names = _names(data)
    used = {*names["training"], *names["held_out"]}
    names["left_out"] = [case.id for case in cases if case.id not in used]
    for name, text in (
        (CONFIG, dump_config(config)),
        (SCANS, json.dumps(names, indent=1, ensure_ascii=False) + "\n"),
    ):
        with replacing(folder / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


def _check_scans(folder: Path, data: PretrainData) -> None:
    """A run goes on with the scans it began with: which patch comes next depends on them."""
    path = folder / SCANS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}), so it cannot be told whether the scans are the same; pre-train into a new "
            "folder."
        ) from error
    now = _names(data)
    if any(before.get(side) != names for side, names in now.items()):
        raise InputError(
            f"{path}: the run began with {counted(len(before.get('training', [])), 'scan')} to learn from, now there are "
            f"{len(now['training'])}, or they are others. Bring the same scans back, or pre-train into a new folder."
        )


def _finish(trainer: Pretrainer, folder: Path) -> Path:
    network = trainer.learner.averaged_module()
    if trainer.config.masked.weight:
        _draw_preview(trainer, folder / PREVIEW)
    return write_encoder(network, trainer.config, trainer.data, folder / ENCODER, measured=trainer.measured)


def _draw_preview(trainer: Pretrainer, path: Path) -> None:
    learner, data = trainer.learner, trainer.data
    measure = HeldOutMeasure(learner, data.held_out or data.training)
    draw_reconstructions(measure.reconstructed(learner.averaged_module(), _PREVIEWED), path)
