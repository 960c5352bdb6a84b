"""Score a model on the cases that its training held out: the numbers of its card, again.

python pipelines/score_held_out.py configs/train/hippocampus.yaml split.fold=0 [SETTING=VALUE]... --model runs/fold0/hippocampus.volseg
"""

import argparse
from pathlib import Path

import volseg


def score_held_out(
    config: Path, overrides: list[str], *, model: str, csv: Path | None = None
) -> dict[str, float]:
    """Predict every held-out case from its files and print mean scores per label; returns the mean Dice by label."""
    scores = volseg.score_cases(volseg.load_model(model), volseg.held_out_cases(config, overrides))
    if csv is not None:
        volseg.write_scores(scores, csv)
    summaries = volseg.summarise(scores)
    for row in summaries:
        means = "   ".join(f"{name} {row.mean[name]:.4f} ± {row.deviation[name]:.4f}" for name in row.mean)
        print(f"{row.name} ({row.cases} cases): {means}")
    dice = {row.name: row.mean["dice"] for row in summaries}
    print(f"mean Dice {sum(dice.values()) / len(dice):.4f}")
    return dice


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--model", required=True)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    score_held_out(arguments.config, arguments.overrides, model=arguments.model, csv=arguments.csv)


if __name__ == "__main__":
    main()
