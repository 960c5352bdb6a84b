"""Does pre-training help where few scans have labels? Measured on the hippocampus set with a tenth of its labels.

    python benchmarks/pretraining.py ROOT RUNS [--steps 1000] [--pretrain-steps 2000] [--seeds 0 1 2] [--arms fresh masked ...]

ROOT is Task04_Hippocampus of the Medical Segmentation Decathlon. Of fold 0, the 166 training cases are pre-trained on without
their labels; then a network is trained with the labels of 17 of them and scored on the 42 held-out cases, which neither part
sees. The recipe is configs/train/hippocampus.yaml with half its widths. A seed chooses the 17 cases, the patches and the first
weights; all arms of a seed have the same cases and patches, so that they differ in the weights of the encoder alone:

    fresh        random ones
    masked       from the reconstruction of hidden cubes
    contrastive  from telling patches of one place from others (smaller patches, more of them; about the same time per step)
    both         from both at once, on the smaller patches

There is one pre-training per arm (--pretrainings N: N of them, of which seed s uses number s mod N). Finished runs are left
alone and broken ones go on, so the script may be stopped, and run several times at once with different --seeds. Each run is
a JSON line on the output and in RUNS/results-*.jsonl; progress is in RUNS/progress-*.txt. At the end: for each arm the mean
Dice, the difference from `fresh` on the same cases and seeds with a 95 % interval (bootstrap over cases), and the spread
over seeds.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from volseg.config import load_config
from volseg.evaluate import read_scores
from volseg.pretrain.run import ENCODER, Listeners, run_pretraining
from volseg.pretrain.settings import PretrainConfig, load_pretraining
from volseg.train.data import load_data
from volseg.train.loop import Trainer
from volseg.train.run import run_training
from volseg.train.settings import TrainConfig
from volseg.train.split import split_cases

RECIPE = Path(__file__).parent.parent / "configs" / "train" / "hippocampus.yaml"
WIDTHS = "architecture.widths=[8,16,40,80]"
LABELLED = 0.1
PATCHES = ["patch_voxels=[24,32,24]", "batch_size=16", "contrastive.overlap=0.6"]
ARMS: dict[str, list[str]] = {
    "fresh": [],
    "masked": ["contrastive.weight=0", "batch_size=4"],
    "contrastive": ["masked.weight=0", "contrastive.weight=1", *PATCHES],
    "both": ["masked.weight=1", "contrastive.weight=0.1", *PATCHES],
}


def pretrain_config(arm: str, root: Path, steps: int, seed: int) -> PretrainConfig:
    """The pre-training of an arm on the training cases of fold 0."""
    overrides = [
        *(
            f"dataset.root={root}",
            "split.fold=0",
            WIDTHS,
            "test_images=false",
            f"steps={steps}",
            f"seed={seed}",
        ),
        *("held_out.fraction=0.1", "held_out.max_cases=16", f"held_out.every_steps={max(1, steps // 6)}"),
        "checkpoint_minutes=2",
    ]
    return load_pretraining(RECIPE, [*overrides, *ARMS[arm]])


def write_subset(root: Path, folder: Path, seed: int) -> None:
    """A collection of a tenth of the training cases, chosen by seed, and all held-out cases; with its split."""
    config = load_config(RECIPE, TrainConfig, [f"dataset.root={root.resolve()}", "split.fold=0"])
    training, held_out = split_cases(config)
    count = round(LABELLED * len(training))
    chosen = np.random.default_rng(seed).choice(len(training), count, replace=False)
    labelled = [training[int(number)] for number in sorted(chosen)]
    description = json.loads((root / "dataset.json").read_text())
    description["training"] = [
        {"image": str(case.images[0]), "label": str(case.label)} for case in [*labelled, *held_out]
    ]
    folds = [{"validation": [case.id for case in side]} for side in (held_out, labelled)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "splits.json").write_text(json.dumps({"folds": folds}))


def train_config(subset: Path, steps: int, seed: int, weights: Path | None) -> TrainConfig:
    """The training on a subset, without what does not concern it."""
    overrides = [
        *(f"dataset.root={subset}", f"split.file={subset / 'splits.json'}", "split.fold=0", WIDTHS),
        *(f"steps={steps}", f"seed={seed}", "checkpoint_minutes=2"),
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
    overrides += [] if weights is None else [f"encoder_weights={weights}"]
    return load_config(RECIPE, TrainConfig, overrides)


def check_starts_from(config: TrainConfig, cache: Path, folder: Path) -> None:
    """Make sure that the encoder of a training begins with exactly the weights it is given."""
    from safetensors.torch import load_file

    path = config.encoder_weights or Path()
    given = load_file(path)
    trainer = Trainer(config, load_data(config, split_cases(config), cache), folder, device="cpu")
    trainer.start_encoder(path)
    found: Any = trainer.module.encoder
    for name, value in found.state_dict().items():
        if not torch.equal(value, given[name]):
            raise SystemExit(f"the training does not begin with the encoder's weights: {name} differs")


class Writer:
    """Progress and results of this process, in files of its own."""

    def __init__(self, runs: Path, name: str) -> None:
        self._progress, self._results = runs / f"progress-{name}.txt", runs / f"results-{name}.jsonl"

    def progress(self, text: str) -> None:
        """One line, with the time."""
        with self._progress.open("a") as stream:
            stream.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def result(self, line: dict[str, Any]) -> None:
        """One JSON line, also printed."""
        with self._results.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def pretrained(arm: str, given: argparse.Namespace, number: int, writer: Writer) -> Path:
    """The encoder of an arm's pre-training, made now if it is not there."""
    folder = given.runs / f"pretrain-{arm}-{number}"
    encoder = folder / ENCODER
    if not encoder.exists():
        began = time.process_time()
        config = pretrain_config(arm, given.root, given.pretrain_steps, number)

        def told(progress: Any) -> None:
            if progress.step % 50 == 0 or progress.is_measured:
                writer.progress(f"{folder.name} {progress}")

        run_pretraining(
            config, folder, device="cpu", resume=folder.exists(), listeners=Listeners(progress=told)
        )
        last = [line for line in (folder / "log.csv").read_text().splitlines() if line]
        row = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
        writer.result(
            {"pretraining": arm, "number": number, "cpu_seconds": round(time.process_time() - began)} | row
        )
    return encoder


def train(arm: str, seed: int, given: argparse.Namespace, writer: Writer) -> None:
    """One run, if it is not there."""
    folder = given.runs / f"{arm}-seed{seed}"
    if (folder / "result.json").exists():
        return
    weights = None if arm == "fresh" else pretrained(arm, given, seed % given.pretrainings, writer).resolve()
    subset = (given.runs / f"subset-seed{seed}").resolve()
    write_subset(given.root, subset, seed)
    config, cache = train_config(subset, given.steps, seed, weights), given.runs / "cache"
    began = time.process_time()
    if weights is not None and not folder.exists():
        check_starts_from(config, cache, given.runs)

    def told(progress: Any) -> None:
        if progress.step % 50 == 0:
            writer.progress(f"{folder.name} step {progress.step}/{progress.steps} loss {progress.loss:.4f}")

    run_training(config, folder, device="cpu", resume=folder.exists(), report=told, cache=cache)
    if weights is not None and not (folder / "encoder_weights.txt").exists():
        raise SystemExit(f"{folder}: nothing says that the training began with {weights}")
    labels: dict[str, list[float]] = {}
    for score in read_scores(folder / "scores.csv"):
        labels.setdefault(score.label, []).append(score.dice)
    line: dict[str, Any] = {
        "arm": arm,
        "seed": seed,
        "steps": given.steps,
        "labelled": len(split_cases(config)[0]),
    }
    line |= {f"dice_{name}": round(statistics.mean(values), 5) for name, values in labels.items()}
    line |= {"dice": round(statistics.mean(case_dice(folder).values()), 5)}
    line |= {"cpu_seconds": round(time.process_time() - began)}
    writer.result(line)
    (folder / "result.json").write_text(json.dumps(line))


def case_dice(folder: Path) -> dict[str, float]:
    """Mean over the labels of each held-out case."""
    cases: dict[str, list[float]] = {}
    for score in read_scores(folder / "scores.csv"):
        cases.setdefault(score.case, []).append(score.dice)
    return {case: statistics.mean(values) for case, values in cases.items()}


def summary(runs: Path) -> list[dict[str, Any]]:
    """A line for each arm, of the seeds that it and `fresh` have finished."""
    done = {
        arm: {
            int(path.parent.name.rsplit("seed")[-1]): case_dice(path.parent)
            for path in runs.glob(f"{arm}-seed*/result.json")
        }
        for arm in ARMS
    }
    lines = []
    for arm, by_seed in done.items():
        seeds = sorted(by_seed.keys() & done["fresh"].keys())
        if not seeds:
            continue
        cases = sorted(by_seed[seeds[0]])
        table, fresh = (
            np.array([[found[seed][case] for case in cases] for seed in seeds])
            for found in (by_seed, done["fresh"])
        )
        line: dict[str, Any] = {
            "summary": arm,
            "seeds": seeds,
            "cases": len(cases),
            "dice": _rounded(table.mean()),
        }
        line["dice_by_seed"] = [_rounded(mean) for mean in table.mean(axis=1)]
        if len(seeds) > 1:
            line["deviation_over_seeds"] = _rounded(table.mean(axis=1).std(ddof=1))
        if arm != "fresh":
            difference = table - fresh
            by_case, means = difference.mean(axis=0), difference.mean(axis=1)
            draws = np.random.default_rng(0).choice(by_case, (5000, len(by_case))).mean(axis=1)
            line |= {
                "difference": _rounded(by_case.mean()),
                "interval_95_over_cases": [_rounded(bound) for bound in np.percentile(draws, (2.5, 97.5))],
                "difference_by_seed": [_rounded(mean) for mean in means],
                "cases_better": int((by_case > 0).sum()),
            }
            if len(seeds) > 1:
                line["difference_deviation_over_seeds"] = _rounded(means.std(ddof=1))
        lines.append(line)
    return lines


def _rounded(number: Any) -> float:
    return round(float(number), 5)


def main() -> None:
    """Parse, run what is missing, print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--pretrain-steps", type=int, default=2000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--pretrainings", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.root = given.root.resolve()
    given.runs.mkdir(parents=True, exist_ok=True)
    writer = Writer(given.runs, "-".join([*given.arms, *map(str, given.seeds)]))
    for seed in given.seeds:
        for arm in given.arms:
            train(arm, seed, given, writer)
    for line in summary(given.runs):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
