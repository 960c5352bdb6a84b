"""Which network of the family is best? Variants trained alike on the hippocampus set and scored on cases they did not see.

    python benchmarks/compare_architectures.py train ROOT RUNS [--only NAME ...] [--folds 0 1 2] [--steps 600]
    python benchmarks/compare_architectures.py report ROOT RUNS

ROOT is Task04_Hippocampus of the Medical Segmentation Decathlon. The recipe is configs/train/hippocampus.yaml with half its
widths; every variant sees the same patches in the same order (they depend on the seed and the step alone), with the same
optimizer, schedule and number of steps. L1 to L4 are the heads of one U-Net++ of depth 4, which takes larger patches; it is
compared within itself. `unetpp-seed` is the reference once more with another seed: its difference is what chance alone does.

`train` leaves finished runs alone, so it may be stopped and run several times at once with different --only. `report` predicts
with pruned heads and averaged heads, measures the time per case with all variants taking turns, and prints a Markdown table:
mean Dice with a 95 % interval (bootstrap over cases), and the difference from the reference on the same cases, with the same
kind of interval and with a 95 % t-interval over the folds. A difference counts where both exclude zero. GFLOPs are those of a
patch of 48 x 64 x 48.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from volseg.cases import read_case
from volseg.config import load_config
from volseg.evaluate import Score, read_scores, write_scores
from volseg.evaluate.bootstrap import interval_of_ratio
from volseg.infer.predictor import Predictor
from volseg.models import MODELS
from volseg.models.cost import Cost, cost
from volseg.package import Package, load_package
from volseg.train.outcome.scoring import HeldOut, score_prediction
from volseg.train.run import run_training
from volseg.train.settings import TrainConfig
from volseg.train.split import split_cases

RECIPE = Path(__file__).parent.parent / "configs" / "train" / "hippocampus.yaml"
TIMED_CASES = 8
COSTED_PATCH = (48, 64, 48)
FoldDice = dict[int, dict[str, float]]
"""Fold to case to the mean Dice over the labels."""
REFERENCE = "unetpp"
_SHALLOW = {"widths": [8, 16, 40, 80]}
_DEEP = {"widths": [8, 16, 32, 64, 128]}


@dataclass(frozen=True)
class Variant:
    """A network of the comparison."""

    architecture: dict[str, Any]
    trained_as: str | None = None
    """The variant whose weights it uses."""
    head: int | None = None
    settings: list[str] = field(default_factory=list)
    reference: str = REFERENCE


VARIANTS = {
    "unetpp": Variant(_SHALLOW),
    "unetpp-seed": Variant(_SHALLOW, settings=["seed=1"]),
    "unetpp-average": Variant(_SHALLOW | {"output": "average"}, trained_as="unetpp"),
    "unetpp-one-head": Variant(_SHALLOW | {"deep_supervision": False}),
    "unet": Variant(_SHALLOW | {"name": "unet"}),
    "unet-one-head": Variant(_SHALLOW | {"name": "unet", "deep_supervision": False}),
    "unet-wide": Variant(_SHALLOW | {"name": "unet", "width_multiplier": 1.5}),
    "gates": Variant(_SHALLOW | {"attention_gates": True}),
    "se": Variant(_SHALLOW | {"attention": "se"}),
    "separable": Variant(_SHALLOW | {"separable": True}),
    "residual": Variant(_SHALLOW | {"block": "residual"}),
    "L4": Variant(_DEEP, settings=["patch_voxels=[48,64,48]", "tile.tile_voxels=[48,64,48]"], reference="L4"),
    "L3": Variant(_DEEP, trained_as="L4", head=3, reference="L4"),
    "L2": Variant(_DEEP, trained_as="L4", head=2, reference="L4"),
    "L1": Variant(_DEEP, trained_as="L4", head=1, reference="L4"),
}


def config_of(variant: Variant, root: Path, fold: int, steps: int) -> TrainConfig:
    """The recipe with the network of a variant, without what does not concern networks."""
    architecture = {"name": "unetpp", "dimensions": 3} | variant.architecture
    overrides = [
        *(f"dataset.root={root}", f"split.fold={fold}", f"steps={steps}", f"architecture={architecture}"),
        *(
            "mirror_axes=[]",
            "postprocess=[]",
            "locate=null",
            "located_labels=[]",
            "template=null",
            "golden=null",
        ),
        *(f"validation.every_steps={steps}", "validation.max_cases=2", "validation.previews=0"),
    ]
    return load_config(RECIPE, TrainConfig, [*overrides, *variant.settings])


def train(root: Path, runs: Path, names: list[str], folds: list[int], steps: int) -> None:
    """Train what is not trained yet."""
    torch.set_num_threads(1)
    for fold in folds:
        for name in names:
            folder = runs / f"{name}-fold{fold}"
            if VARIANTS[name].trained_as or (folder / "scores.csv").exists():
                continue
            began = time.process_time()
            config = config_of(VARIANTS[name], root, fold, steps)
            run_training(
                config,
                folder,
                resume=folder.exists(),
                device="cpu",
                report=lambda _: None,
                cache=runs / "cache",
            )
            (folder / "cpu_seconds").write_text(f"{time.process_time() - began:.0f}\n")
            print(name, fold, (folder / "cpu_seconds").read_text().strip(), flush=True)


def package_of(name: str, runs: Path, fold: int) -> Package:
    """The trained package of a variant; its architecture says what is done with its heads."""
    variant = VARIANTS[name]
    package = load_package(runs / f"{variant.trained_as or name}-fold{fold}" / "hippocampus.volseg")
    output = variant.architecture.get("output", "last")
    architecture = package.info.architecture | {"output": output}
    return replace(package, info=package.info.model_copy(update={"architecture": architecture}))


def scores_of(name: str, root: Path, runs: Path, fold: int) -> list[Score]:
    """Of the held-out cases of a fold; predicted once for variants that use the weights of another."""
    variant = VARIANTS[name]
    path = runs / f"{name}-fold{fold}" / "scores.csv"
    if not path.exists() and variant.trained_as:
        package = package_of(name, runs, fold)
        predictor = Predictor(package, device="cpu", head=variant.head)
        scores: list[Score] = []
        for case, volume, reference in held_out(root, fold):
            found = predictor.predict(volume).label_map
            scores += score_prediction(HeldOut(case, found, reference), package.info)
        path.parent.mkdir(exist_ok=True)
        write_scores(scores, path)
    return read_scores(path)


def held_out(root: Path, fold: int) -> Iterator[Any]:
    """Case, volume and reference of the cases that the models of a fold have not seen."""
    for case in split_cases(config_of(VARIANTS[REFERENCE], root, fold, 1))[1]:
        yield case, *read_case(case)


def seconds_per_case(names: list[str], root: Path, runs: Path) -> dict[str, float]:
    """Median seconds of a prediction without files, on one thread, the variants taking turns at each case."""
    torch.set_num_threads(1)
    predictors = {
        name: Predictor(package_of(name, runs, 0), device="cpu", head=VARIANTS[name].head) for name in names
    }
    seconds: dict[str, list[float]] = {name: [] for name in names}
    cases = [volume for _, volume, _ in held_out(root, 0)][: TIMED_CASES + 1]
    for number, volume in enumerate(cases):
        for name, predictor in predictors.items():
            began = time.perf_counter()
            predictor.predict(volume)
            if number:  # the first one warms up
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(root: Path, runs: Path) -> None:
    """Print the table."""
    dice: dict[str, FoldDice] = {}
    for name in VARIANTS:
        folds = [fold for fold in range(5) if _is_trained(name, runs, fold)]
        if folds:
            dice[name] = {fold: _case_dice(scores_of(name, root, runs, fold)) for fold in folds}
    times = seconds_per_case(list(dice), root, runs)
    print(
        "| variant | parameters | GFLOPs | s per case | CPU s of training | folds | Dice | difference | by fold |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, folds in dice.items():
        price = _price(VARIANTS[name])
        difference = (
            _difference(folds, dice[VARIANTS[name].reference]) if name != VARIANTS[name].reference else " |"
        )
        print(
            f"| {name} | {price.parameters:,} | {price.flops / 1e9:.1f} | {times[name]:.2f} | {_cpu_seconds(name, runs):.0f} | "
            f"{len(folds)} | {_mean(_values(folds))} | {difference} |"
        )


def _difference(folds: FoldDice, reference: FoldDice) -> str:
    """Over the same cases with an interval over cases, and the interval over the means of the folds."""
    pairs = [
        np.array([dice - reference[fold][case] for case, dice in cases.items()])
        for fold, cases in folds.items()
    ]
    means = [float(pair.mean()) for pair in pairs]
    if len(means) < 2:
        return f"{_mean(np.concatenate(pairs), '+.4f')} | one fold"
    reach = stats.t.ppf(0.975, len(means) - 1) * statistics.stdev(means) / len(means) ** 0.5
    centre = statistics.mean(means)
    return f"{_mean(np.concatenate(pairs), '+.4f')} | {centre - reach:+.4f} to {centre + reach:+.4f}"


def _mean(values: np.ndarray, form: str = ".4f") -> str:
    low, high = interval_of_ratio(values, np.ones(len(values)), np.arange(len(values))) or (np.nan, np.nan)
    return f"{values.mean():{form}} ({low:{form}} to {high:{form}})"


def _values(folds: FoldDice) -> np.ndarray:
    return np.array([dice for cases in folds.values() for dice in cases.values()])


def _price(variant: Variant) -> Cost:
    architecture = MODELS.build({"name": "unetpp", "dimensions": 3} | variant.architecture)
    return cost(architecture, COSTED_PATCH, head=variant.head)


def _cpu_seconds(name: str, runs: Path) -> float:
    files = runs.glob(f"{VARIANTS[name].trained_as or name}-fold[0-9]/cpu_seconds")
    return statistics.mean(float(file.read_text()) for file in files)


def _is_trained(name: str, runs: Path, fold: int) -> bool:
    return (runs / f"{VARIANTS[name].trained_as or name}-fold{fold}" / "cpu_seconds").exists()


def _case_dice(scores: list[Score]) -> dict[str, float]:
    """Mean over the labels of each case."""
    cases: dict[str, list[float]] = {}
    for score in scores:
        cases.setdefault(score.case, []).append(score.dice)
    return {case: statistics.mean(values) for case, values in cases.items()}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["train", "report"])
    parser.add_argument("root", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    if given.stage == "train":
        train(given.root, given.runs, given.only, given.folds, given.steps)
    else:
        report(given.root, given.runs)


if __name__ == "__main__":
    main()
