"""Train liver and lesions on LiTS, and see how many lesions the model finds in patients it has not seen.

python pipelines/train_lits.py CONFIG [SETTING=VALUE]... -o RUN     (configs/train/lits.yaml, configs/smoke/train_lits.yaml)
"""

import argparse
from pathlib import Path

import volseg


def train_lits(config: Path, overrides: list[str], folder: Path) -> dict[str, float]:
    """Train into the folder and print Dice and the lesions found in held-out cases; returns the mean Dice by label."""
    package = volseg.load_model(volseg.train_model(config, folder, overrides))
    scores = volseg.score_cases(package, volseg.held_out_cases(config, overrides))
    summaries = volseg.summarise(scores)
    for row in summaries:
        print(f"{row.name}: Dice {row.mean['dice']:.4f} ± {row.deviation['dice']:.4f} over {row.cases} cases")
        found, real = row.lesion_recall, row.lesion_precision
        if found is not None and real is not None:
            print(
                f"  {found.hits} of {found.total} separate pieces found; {real.hits} of {real.total} marks are real"
            )
    return {row.name: row.mean["dice"] for row in summaries}


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    train_lits(arguments.config, arguments.overrides, arguments.output)


if __name__ == "__main__":
    main()
