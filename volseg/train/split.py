"""What of a dataset a training learns from, and what it is judged by."""

from collections.abc import Sequence
from pathlib import Path

from volseg.config import load_config
from volseg.datasets import Case, Dataset
from volseg.datasets.splits import read_splits, split_folds
from volseg.errors import ConfigError, InputError
from volseg.labels import LabelRegion
from volseg.train.settings import SplitConfig, TrainConfig


def split_cases(config: TrainConfig) -> tuple[list[Case], list[Case]]:
    """The dataset's cases as (training, held out), by rising id; none are held out where the fold is "all".

    Raises:
        ConfigError: fold and folds do not fit the cases, or the splits file is not of these cases.
        InputError: the dataset cannot be read.
    """
    return split_dataset(config.dataset, config.split)


def split_dataset(dataset: Dataset, split: SplitConfig) -> tuple[list[Case], list[Case]]:
    """As split_cases, of a dataset and what is said of its split."""
    cases = {case.id: case for case in dataset()}
    if split.fold == "all":
        return [cases[name] for name in sorted(cases)], []
    if split.file is None:
        training, held_out = split_folds(cases.values(), split.folds, fold=split.fold, seed=split.seed)
    else:
        every = read_splits(split.file, cases.values())
        if split.fold >= len(every):
            raise ConfigError(f"split.fold = {split.fold}; {split.file} has the folds 0 to {len(every) - 1}.")
        training, held_out = every[split.fold]
    return [cases[name] for name in training], [cases[name] for name in held_out]


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


def trained_regions(config: TrainConfig) -> tuple[LabelRegion, ...]:
    """The regions that the network's channels stand for; () where they stand for labels.

    Raises:
        InputError: regions are asked for and the dataset has none.
    """
    if not config.regions:
        return ()
    regions = config.dataset.regions()
    if not regions:
        raise InputError(
            f"{config.dataset.root}: regions = true, but a collection of this kind has no nested regions; train its labels."
        )
    return regions
