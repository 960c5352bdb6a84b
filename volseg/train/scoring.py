"""How good a model is, from cases it was not trained on: its own held-out fold, or finished runs of the other folds."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from volseg.cases import read_case
from volseg.config import load_config
from volseg.datasets import Case
from volseg.errors import ConfigError, few
from volseg.evaluate import Score, evaluate_maps, read_scores
from volseg.infer.predictor import Predictor
from volseg.package import Package
from volseg.train.settings import TrainConfig

_FREE = {
    "split",
    "dataset",
    "cross_validation",
    "validation",
    "checkpoint_steps",
    "workers",
    "golden",
    "card",
    "locate",
    "located_labels",
    "template",
}
"""Settings in which a run may differ and still be the same recipe: they change neither weights nor the scores of
its cases (the data may have moved)."""


def score_cases(package: Package, cases: Sequence[Case], *, device: str = "auto") -> list[Score]:
    """Predict labelled cases from their files with a package and score them against their label maps."""
    predictor = Predictor(package, device=device)
    scores: list[Score] = []
    for case in cases:
        volume, reference = read_case(case)
        found = predictor.predict(volume).label_map
        scores += evaluate_maps(found, reference, labels=package.info.label_table, case=case.id)
    return scores


def cross_validation_scores(config: TrainConfig, case_ids: Sequence[str]) -> list[Score]:
    """The scores of `config.cross_validation`, finished runs that held out different folds of the same split.

    Args:
        config: the training that quotes them.
        case_ids: the cases of the dataset.

    Raises:
        ConfigError: this training holds out a fold itself, a run is unfinished or of another split, two runs hold out the same case, or a case is unknown.
    """
    if config.cross_validation and config.split.fold != "all":
        raise ConfigError(
            "cross_validation is for split.fold = all; a run with a held-out fold has its own scores."
        )
    scores: list[Score] = []
    for folder in config.cross_validation:
        run = _finished_run(folder)
        if (run.split.folds, run.split.seed) != (config.split.folds, config.split.seed):
            raise ConfigError(
                f"{folder}: is of another split ({run.split}); the runs must share folds and seed."
            )
        scores += read_scores(folder / "scores.csv")
    repeated = [name for name, count in Counter((s.case, s.label) for s in scores).items() if count > 1]
    unknown = sorted({score.case for score in scores} - set(case_ids))
    if repeated or unknown:
        raise ConfigError(
            f"cross_validation: {few([name for name, _ in repeated] or unknown, 3)} "
            f"{'is held out by two runs' if repeated else 'is no case of the dataset'}; name one run for each fold."
        )
    return scores


def cases_in_words(config: TrainConfig) -> str:
    """Which cases a model's scores are from, and whether it has seen them."""
    split = config.split
    if split.fold != "all":
        return f"held-out fold {split.fold} of {split.folds} (seed {split.seed}), not used in training"
    runs = [_finished_run(folder) for folder in config.cross_validation]
    folds = ", ".join(sorted(str(run.split.fold) for run in runs))
    other = sorted({name for run in runs for name in _differences(run, config)})
    recipe = f"trained in the same way but for {', '.join(other)}" if other else "trained in the same way"
    return (
        f"cross-validation, fold {folds} of {split.folds} (seed {split.seed}): each case by a model that was {recipe} "
        "and did not see it; the packed model has seen all cases"
    )


def _finished_run(folder: Path) -> TrainConfig:
    if not (folder / "scores.csv").is_file() or not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder}: is no finished training run (config.yaml and scores.csv are expected).")
    return load_config(folder / "config.yaml", TrainConfig, [])


def _differences(run: TrainConfig, config: TrainConfig) -> set[str]:
    return {
        name
        for name in TrainConfig.model_fields
        if name not in _FREE and getattr(run, name) != getattr(config, name)
    }
