"""`volseg evaluate`: predicted label maps against true ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.table import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.evaluate import Score
    from volseg.labels import LabelTable


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PRED", help="A label map, or a folder of them.")],
    references: Annotated[
        Path, typer.Argument(metavar="REF", help="The true label map, or the folder of them.")
    ],
    tolerance_mm: Annotated[
        float, typer.Option("--tolerance-mm", min=0, help="Surface distance that counts as right (NSD).")
    ] = 1.0,
    names: Annotated[
        str | None,
        typer.Option("--labels", help="Which labels to score, as 1=liver,2=lesion.", show_default="all"),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Also write every score of every case into this file.")
    ] = None,
) -> None:
    """Score label maps: Dice, IoU, 95 % Hausdorff distance, surface Dice and volume error, per case and label.

    In folders, files are paired by name, up to an ending _seg or _pred. A label that neither map has counts as found
    (Dice 1, HD95 0); one that only one map has counts as missed (Dice 0, HD95 the diagonal of the image).
    """
    from volseg.evaluate import evaluate as score
    from volseg.evaluate import write_scores

    scores = score(predictions, references, labels=_label_table(names), tolerance_mm=tolerance_mm)
    if not scores:
        print("no label to score: all label maps are empty.")
    else:
        _print_cases(scores)
        _print_summary(scores)
    if csv is not None:
        write_scores(scores, csv)
        print(f"wrote   {csv}")


def _print_cases(scores: "Sequence[Score]") -> None:
    rows = [
        [
            score.case,
            score.name,
            f"{score.dice:.4f}",
            f"{score.iou:.4f}",
            f"{score.hausdorff95_mm:.2f}",
            f"{score.surface_dice:.4f}",
            f"{score.volume_error_ml:.3f}",
            f"{score.reference_ml:.3f}",
        ]
        for score in scores
    ]
    nsd = f"NSD {scores[0].tolerance_mm:g} mm"
    print_table(["case", "label", "Dice", "IoU", "HD95 mm", nsd, "error ml", "true ml"], rows)


def _print_summary(scores: "Sequence[Score]") -> None:
    from volseg.evaluate import MEASURES, summarise

    rows: list[list[str]] = []
    for summary in summarise(scores):
        cells = [f"{summary.mean[name]:.4f} ± {summary.deviation[name]:.4f}" for name in MEASURES]
        rows.append([summary.name, str(summary.cases), str(summary.empty_references), *cells])
    print("\nmean ± standard deviation; empty: cases whose reference lacks the label")
    print_table(["label", "cases", "empty", "Dice", "IoU", "HD95 mm", "NSD", "error ml"], rows)


def _label_table(names: str | None) -> "LabelTable | None":
    from volseg.errors import ConfigError
    from volseg.labels import Label, LabelTable, default_colour

    if names is None:
        return None
    labels: list[Label] = []
    for entry in names.split(","):
        value, _, name = (part.strip() for part in entry.partition("="))
        if not value.isdecimal():
            raise ConfigError(
                f"--labels {names}: '{entry}' is no label; write VALUE=NAME, such as 1=liver,2=lesion."
            )
        labels.append(Label(int(value), name or f"label {value}", default_colour(len(labels))))
    return LabelTable(tuple(labels))
