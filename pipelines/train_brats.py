"""Train the nested tumour regions on BraTS, and draw what the model finds in a patient it has not seen.

python pipelines/train_brats.py CONFIG [SETTING=VALUE]... -o RUN    (configs/train/brats.yaml, configs/smoke/train_brats.yaml)
"""

import argparse
from pathlib import Path

import volseg


def train_brats(config: Path, overrides: list[str], folder: Path) -> dict[str, float]:
    """Train into the folder, print the scores of labels and regions and draw the first held-out case; returns the mean Dice."""
    package = volseg.load_model(volseg.train_model(config, folder, overrides))
    held_out = volseg.held_out_cases(config, overrides)
    volume = volseg.read_volume(held_out[0].images)
    found = volseg.Predictor(package).predict(volume).label_map
    volseg.draw_preview(volume, found, folder / "preview.png")
    summaries = volseg.summarise(volseg.score_cases(package, held_out))
    for row in summaries:
        print(f"{row.name}: Dice {row.mean['dice']:.4f} ± {row.deviation['dice']:.4f} over {row.cases} cases")
    return {row.name: row.mean["dice"] for row in summaries}


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    train_brats(arguments.config, arguments.overrides, arguments.output)


if __name__ == "__main__":
    main()
