"""How good a model is, from cases it was not trained on: its own held-out fold, or finished runs of the other folds."""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volseg.cases import read_case
from volseg.config import load_config
from volseg.datasets import Case
from volseg.errors import ConfigError, few
from volseg.evaluate import Score, evaluate_maps, read_scores
from volseg.infer.ensemble import shared_postprocess
from volseg.infer.predictor import Predictor
from volseg.package import ModelInfo, Package, load_package
from volseg.postprocess import POSTPROCESS, PostprocessStep
from volseg.train.outcome.choose import Choice, choose_postprocess
from volseg.train.settings import TrainConfig
from volseg.volume import LabelMap

_FREE = {
    *("split", "dataset", "cross_validation", "validation", "log", "checkpoint_minutes", "workers"),
    *("gradient_checkpointing", "golden", "card", "fingerprint", "locate", "located_labels", "template"),
}
"""Settings in which a run may differ and still be the same recipe: they change neither weights nor the scores of
its cases (the data may have moved)."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A case that a model has not seen, what the model found in it and what is true, on one grid."""

    case: Case
    found: LabelMap
    reference: LabelMap


def held_out_predictions(
    package: Package, cases: Sequence[Case], *, device: str = "auto"
) -> Iterator[HeldOut]:
    """Predict labelled cases from their files with a package, one by one, postprocessed by the package's own steps."""
    predictor = Predictor(package, device=device)
    for case in cases:
        volume, reference = read_case(case)
        yield HeldOut(case, predictor.predict(volume).label_map, reference)


def chosen_predictions(
    package: Package, cases: Sequence[Case], *, device: str = "auto"
) -> tuple[Choice, Iterator[HeldOut]]:
    """Choose the postprocessing on the predictions of labelled cases, and give these as they are after it.

    The network runs once per case; meanwhile label maps are kept compressed, a few hundred times smaller.

    Args:
        package: a model without postprocess steps.
        cases: labelled cases that it has not seen.
        device: where to predict.
    """
    kept: list[tuple[Case, _Compressed, _Compressed]] = []

    def pairs() -> Iterator[tuple[LabelMap, LabelMap]]:
        for held_out in held_out_predictions(package, cases, device=device):
            maps = held_out.found, held_out.reference
            kept.append((held_out.case, _Compressed.of(maps[0]), _Compressed.of(maps[1])))
            yield maps

    choice = choose_postprocess(pairs(), package.info.label_table, package.info.label_regions)
    return choice, (
        HeldOut(case, _postprocessed(found.label_map(), choice.steps), reference.label_map())
        for case, found, reference in kept
    )


def score_prediction(held_out: HeldOut, info: ModelInfo) -> list[Score]:
    """The scores of a prediction: one per label of the model, then one per region."""
    return evaluate_maps(
        held_out.found,
        held_out.reference,
        labels=info.label_table,
        regions=info.label_regions,
        case=held_out.case.id,
    )


def score_cases(package: Package, cases: Sequence[Case], *, device: str = "auto") -> list[Score]:
    """Predict labelled cases from their files with a package and score them against their label maps."""
    predictions = held_out_predictions(package, cases, device=device)
    return [score for held_out in predictions for score in score_prediction(held_out, package.info)]


@dataclass(frozen=True, eq=False)
class _Compressed:
    """A label map in little memory."""

    frame: LabelMap
    """One voxel's memory stands for the whole array."""
    data: bytes

    @classmethod
    def of(cls, label_map: LabelMap) -> "_Compressed":
        array = label_map.array
        blank = np.broadcast_to(np.zeros((), array.dtype), array.shape)
        return cls(label_map.with_array(blank), zlib.compress(array.tobytes(), 1))

    def label_map(self) -> LabelMap:
        blank = self.frame.array
        array = np.frombuffer(zlib.decompress(self.data), blank.dtype).reshape(blank.shape)
        return self.frame.with_array(array)


def _postprocessed(label_map: LabelMap, steps: Sequence[PostprocessStep]) -> LabelMap:
    for step in steps:
        label_map = step(label_map)
    return label_map


def folds_postprocess(config: TrainConfig) -> Choice:
    """What a model of all cases takes where postprocessing is to be chosen: the steps most of its folds' runs chose.

    Raises:
        ConfigError: a run is unfinished or has no package.
    """
    if not config.cross_validation:
        return Choice(
            (), ("no postprocessing: there was no held-out case and no fold's run to choose it on",)
        )
    packages = [load_package(_package_of(folder)) for folder in config.cross_validation]
    steps, _ = shared_postprocess(packages)
    note = f"taken from the {len(packages)} runs of the folds, as most of them chose: {len(steps)} steps"
    return Choice(tuple(POSTPROCESS.build(step) for step in steps), (note,))


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
    if config.postprocess == "choose":
        folds_postprocess(config)  # its mistakes are told before the training, too
    scores: list[Score] = []
    for folder in config.cross_validation:
        run = _finished_run(folder)
        if run.split.model_copy(update={"fold": config.split.fold}) != config.split:
            raise ConfigError(
                f"{folder}: is of another split ({run.split}); the runs must share folds, seed and file."
            )
        scores += read_scores(folder / "scores.csv")
    counts = Counter((score.case, score.label, score.name) for score in scores)
    repeated = [case for (case, _, _), count in counts.items() if count > 1]
    unknown = sorted({score.case for score in scores} - set(case_ids))
    if repeated or unknown:
        raise ConfigError(
            f"cross_validation: {few(sorted(set(repeated)) or unknown, 3)} "
            f"{'is held out by two runs' if repeated else 'is no case of the dataset'}; name one run for each fold."
        )
    return scores


def cases_in_words(config: TrainConfig) -> str:
    """Which cases a model's scores are from, and whether it has seen them."""
    split = config.split
    source = f"seed {split.seed}" if split.file is None else f"of {split.file.name}"
    of = f"of {split.folds} " if split.file is None else ""
    chosen = "; the postprocessing was chosen on these same cases" if config.postprocess == "choose" else ""
    if split.fold != "all":
        return f"held-out fold {split.fold} {of}({source}), not used in training{chosen}"
    runs = [_finished_run(folder) for folder in config.cross_validation]
    folds = ", ".join(sorted(str(run.split.fold) for run in runs))
    other = sorted({name for run in runs for name in _differences(run, config)})
    recipe = f"trained in the same way but for {', '.join(other)}" if other else "trained in the same way"
    chosen = (
        ", its postprocessing chosen on the cases it did not see"
        if any(run.postprocess == "choose" for run in runs)
        else ""
    )
    return (
        f"cross-validation, fold {folds} {of}({source}): each case by a model that was {recipe} "
        f"and did not see it{chosen}; the packed model has seen all cases"
    )


def _finished_run(folder: Path) -> TrainConfig:
    if not (folder / "scores.csv").is_file() or not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder}: is no finished training run (config.yaml and scores.csv are expected).")
    return load_config(folder / "config.yaml", TrainConfig, [])


def _differences(run: TrainConfig, config: TrainConfig) -> set[str]:
    # A learning rate that follows the validation makes its settings part of the recipe.
    free = _FREE - {"validation"} if config.optimizer.schedule == "plateau" else _FREE
    return {
        name
        for name in TrainConfig.model_fields
        if name not in free and getattr(run, name) != getattr(config, name)
    }


def _package_of(folder: Path) -> Path:
    path = folder / f"{_finished_run(folder).card.name}.volseg"
    if not path.is_file():
        raise ConfigError(f"{path}: the package of a finished run is missing; train the fold again.")
    return path
