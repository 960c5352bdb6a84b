"""A whole training: split, cache, train, export; one folder holds everything it makes."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from volseg.config import dump_config, load_config
from volseg.datasets import Case
from volseg.errors import OutputError, few
from volseg.train.data import absent_labels, load_data
from volseg.train.distributed import ALONE, Ranks
from volseg.train.loop import Progress, Trainer
from volseg.train.outcome.export import ENCODER_NOTE, export_package
from volseg.train.outcome.scoring import cross_validation_scores
from volseg.train.pretrained import read_weights
from volseg.train.settings import TrainConfig
from volseg.train.split import split_cases

_logger = logging.getLogger(__name__)


def run_training(
    config: TrainConfig,
    folder: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    report: Callable[[Progress], None],
    cache: Path | None = None,
    ranks: Ranks = ALONE,
) -> Path:
    """Train a model and write its package.

    The folder receives config.yaml, cache/, log.csv, curves.png, last.pt, best.pt, encoder_weights.txt where the encoder starts
    from trained weights, and at the end validation/ (the label maps of the held-out cases), previews/ (the worst of them),
    scores.csv and `<name>.volseg`.

    Args:
        config: the settings.
        folder: the run folder; it must be new or empty unless `resume`.
        device: "auto", "cpu" or "cuda".
        resume: go on from last.pt, or begin where a run ended before it wrote one, so that a job that is queued again needs no
            other command; on CPU the result is bit for bit that of an uninterrupted run.
        report: called after each step.
        cache: where preprocessed cases go; runs of several folds may share it. Default: `cache` in the folder.
        ranks: this process among those of the training; the first one writes.

    Returns:
        The path of the package; it is there when the first process returns.

    Raises:
        OutputError: the folder holds files and `resume` was not asked for.
        PausedError: the training was asked to stop and is saved.
        VolsegError: data, settings or device cannot be used; the message says why.
    """
    split = split_cases(config)
    package = folder / f"{config.card.name}.volseg"
    with ranks.first_before_others("run folder"):
        if ranks.is_first:
            _open_folder(config, folder, split[0], resume=resume)
        data = load_data(config, split, cache or folder / "cache")
    absent = absent_labels(data, config.dataset.labels())
    if absent and ranks.is_first:
        _logger.warning(
            "no training case of this fold holds %s, so the model will not find it; the held-out cases may",
            few(absent, 5),
        )
    trainer = Trainer(config, data, folder, device=device, ranks=ranks)
    if resume and (folder / "last.pt").exists():
        trainer.resume()
    else:
        if resume:
            _logger.warning("%s: there is no checkpoint to go on from; the training begins", folder)
        _start_encoder(trainer, config, folder)
    if ranks.is_first:
        (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    trainer.run(report)
    if ranks.is_first:
        weights = {name: value.cpu().numpy() for name, value in trainer.average.items()}
        export_package(config, weights, split, folder, device=device)
    return package


def train_model(
    config: Path,
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    report: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train as a configuration file says, with settings changed like "steps=500"; see run_training.

    Returns:
        The path of the package.
    """
    return run_training(load_config(config, TrainConfig, overrides), folder, device=device, report=report)


def fold_folder(folder: Path, config: TrainConfig) -> Path:
    """Where in the folder of a plan the run of a configuration's fold goes: fold0, fold1, ... or foldall."""
    return folder / f"fold{config.split.fold}"


def finished_folds(folder: Path) -> tuple[Path, ...]:
    """The finished runs of single folds in the folder of a plan."""
    runs = sorted(folder.glob("fold[0-9]*"))
    return tuple(run for run in runs if (run / "scores.csv").is_file() and (run / "config.yaml").is_file())


def _start_encoder(trainer: Trainer, config: TrainConfig, folder: Path) -> None:
    """Begin with the weights that the configuration names, and note in the run folder which they were."""
    if config.encoder_weights is None:
        return
    told = trainer.start_encoder(config.encoder_weights)
    if trainer.ranks.is_first:
        _logger.info("encoder weights %s", told)
        (folder / ENCODER_NOTE).write_text(f"{told}\n", encoding="utf-8")


def _open_folder(config: TrainConfig, folder: Path, training: Sequence[Case], *, resume: bool) -> None:
    if not resume and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder}: is not empty; choose a new folder, or go on with the run in it by --resume."
        )
    # A mistake in what the card is to quote, the head to pack, or the file of weights is told now, not after hours of training.
    cross_validation_scores(config, [case.id for case in training])
    if config.head is not None:
        config.architecture.build(1, 2, head=config.head)
    if config.encoder_weights is not None and not (folder / "last.pt").exists():
        read_weights(config.encoder_weights)
    folder.mkdir(parents=True, exist_ok=True)
