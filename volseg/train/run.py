"""A whole training: split, cache, train, export; one folder holds everything it makes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from volseg.config import dump_config, load_config
from volseg.datasets import Case
from volseg.datasets.splits import split_folds
from volseg.errors import ConfigError, OutputError
from volseg.train.cache import build_cache
from volseg.train.export import export_package
from volseg.train.loop import Progress, Trainer, TrainingData
from volseg.train.scoring import cross_validation_scores
from volseg.train.settings import TrainConfig


def run_training(
    config: TrainConfig,
    folder: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    report: Callable[[Progress], None],
) -> Path:
    """Train a model and write its package.

    The folder receives config.yaml, cache/, log.csv, curves.png, last.pt, best.pt, scores.csv and `<name>.volseg`.

    Args:
        config: the settings.
        folder: the run folder; it must be new or empty unless `resume`.
        device: "auto", "cpu" or "cuda".
        resume: go on from last.pt; on CPU the result is bit for bit that of an uninterrupted run.
        report: called after each step.

    Returns:
        The path of the package.

    Raises:
        OutputError: the folder holds files and `resume` was not asked for.
        VolsegError: data, settings or device cannot be used; the message says why.
    """
    if not resume and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder}: is not empty; choose a new folder, or go on with the run in it by --resume."
        )
    split = split_cases(config)
    # A mistake in what the card is to quote is told now, not after hours of training.
    cross_validation_scores(config, [case.id for case in split[0]])
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, load_data(config, split, folder / "cache"), folder, device=device)
    if resume:
        trainer.resume()
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    trainer.run(report)
    weights = {name: value.cpu().numpy() for name, value in trainer.average.items()}
    return export_package(config, weights, split, folder, device=device)


def split_cases(config: TrainConfig) -> tuple[list[Case], list[Case]]:
    """The dataset's cases as (training, held out); none are held out where the fold is "all"."""
    cases = {case.id: case for case in config.dataset()}
    split = config.split
    if split.fold == "all":
        return [cases[name] for name in sorted(cases)], []
    training, held_out = split_folds(cases, split.folds, fold=split.fold, seed=split.seed)
    return [cases[name] for name in training], [cases[name] for name in held_out]


def load_data(config: TrainConfig, split: tuple[list[Case], list[Case]], cache: Path) -> TrainingData:
    """Both sides of the split, preprocessed into the cache folder."""
    labels = config.dataset.labels()
    training, held_out = (build_cache(cases, config.preprocess, labels.values, cache) for cases in split)
    return TrainingData(training, held_out, [label.name for label in labels])


def held_out_cases(config: Path, overrides: Sequence[str] = ()) -> list[Case]:
    """The cases that a training configuration never trains on, by rising id.

    Raises:
        ConfigError: the file or an override is wrong, or it trains on every case.
        InputError: the dataset cannot be read.
    """
    held_out = split_cases(load_config(config, TrainConfig, overrides))[1]
    if not held_out:
        raise ConfigError(
            f"{config}: trains on every case (split.fold = all), so none is left to score a model on. Add split.fold=0 (or "
            "another) and give the model that was trained with it."
        )
    return held_out
