"""`volseg evaluate`: predicted label maps against true ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.table import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.evaluate import CaseSummary, Interval, Rate, Score, SizeBin, Summary
    from volseg.labels import LabelRegion, LabelTable

_MEASURES = {
    "dice": ("Dice", 4),
    "iou": ("IoU", 4),
    "surface_dice": ("NSD", 4),
    "boundary_f1": ("boundary F1", 4),
    "hausdorff95_mm": ("HD95 mm", 2),
    "volume_error_ml": ("error ml", 3),
    "lesion_f1": ("lesion F1", 4),
    "mean_iou": ("mean IoU of labels", 4),
    "pixel_accuracy": ("voxel accuracy", 5),
}
"""Measure to (name in the table, decimals), in the order of the table."""


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PRED", help="A label map, or a folder of them.")],
    references: Annotated[
        Path, typer.Argument(metavar="REF", help="The true label map, or the folder of them.")
    ],
    tolerance_mm: Annotated[
        float,
        typer.Option(
            "--tolerance-mm", min=0, help="Surface distance that counts as right (NSD, boundary F1)."
        ),
    ] = 1.0,
    *,
    names: Annotated[
        str | None,
        typer.Option("--labels", help="Which labels to score, as 1=liver,2=lesion.", show_default="all"),
    ] = None,
    regions: Annotated[
        list[str] | None,
        typer.Option(
            "--regions", metavar="NAME=1,3|brats", help="Also score this union of labels; may be repeated."
        ),
    ] = None,
    lesions: Annotated[
        bool | None,
        typer.Option(
            "--lesions/--no-lesions",
            help="Count connected components by size.",
            show_default="where a label has several",
        ),
    ] = None,
    lesion_sizes: Annotated[
        str, typer.Option("--lesion-sizes", help="Limits between the sizes of lesions in ml.")
    ] = "0.1,1,10",
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Also write every score of every case into this file.")
    ] = None,
) -> None:
    """Score label maps per case and label: overlap, surface distances, volume error, lesions found.

    In folders, files are paired by name, up to an ending _seg or _pred. A label that neither map has counts as found
    (Dice 1, HD95 0); one that only one map has counts as missed (Dice 0, HD95 the diagonal of the image). A lesion is
    found where a marked component overlaps it with an IoU of at least 0.1.
    """
    from volseg.evaluate import evaluate as score
    from volseg.evaluate import write_scores

    scores = score(
        predictions,
        references,
        labels=_label_table(names),
        regions=_regions(regions or []),
        # The enhancing tumour is 4 in the files of before 2023.
        remap={4: 3} if "brats" in (regions or []) else None,
        tolerance_mm=tolerance_mm,
    )
    sizes = _sizes(lesion_sizes)
    if not scores:
        print("no label to score: all label maps are empty.")
    else:
        several = {score.name for score in scores if (score.reference_lesions or 0) > 1}
        counted = [score for score in scores if lesions or (lesions is None and score.name in several)]
        _print_cases(scores)
        _print_summary(scores, {score.name for score in counted})
        _print_lesions(counted, sizes)
    if csv is not None:
        write_scores(scores, csv)
        print(f"\nwrote   {csv}")


def _print_cases(scores: "Sequence[Score]") -> None:
    rows = [
        [
            score.case,
            score.name,
            f"{score.dice:.4f}",
            f"{score.iou:.4f}",
            f"{score.hausdorff95_mm:.2f}",
            f"{score.surface_dice:.4f}",
            f"{score.boundary_f1:.4f}",
            f"{score.volume_error_ml:.3f}",
            f"{score.reference_ml:.3f}",
        ]
        for score in scores
    ]
    nsd = f"NSD {scores[0].tolerance_mm:g} mm"
    print_table(["case", "label", "Dice", "IoU", "HD95 mm", nsd, "BF1", "error ml", "true ml"], rows)


def _print_summary(scores: "Sequence[Score]", counted: set[str]) -> None:
    """The numbers over all cases; the lesion F1 only of the labels whose lesions are counted."""
    from volseg.evaluate import FAILED_DICE, summarise, summarise_cases

    rows: list[list[str]] = []
    for summary in summarise(scores):
        rows += _summary_rows(
            summary.name, summary, without=() if summary.name in counted else ("lesion_f1",)
        )
    whole = summarise_cases(scores)
    rows += [] if whole is None else _summary_rows("whole map", whole)
    print("\nmean over cases, 95 % confidence interval of the mean (bootstrap), standard deviation, median")
    print_table(["label", "measure", "mean", "95 % CI", "deviation", "median"], rows)
    for summary in summarise(scores):
        notes = (
            [f"{summary.empty_references} without it in the reference"] if summary.empty_references else []
        )
        notes += [f"{summary.failures} with a Dice below {FAILED_DICE:g}"] if summary.failures else []
        if notes:
            print(f"  {summary.name}: of {summary.cases} cases, {' and '.join(notes)}")


def _summary_rows(
    name: str, summary: "Summary | CaseSummary", *, without: "Sequence[str]" = ()
) -> list[list[str]]:
    """A row per measure; the name of the label on the first alone."""
    rows: list[list[str]] = []
    for measure, (title, digits) in _MEASURES.items():
        if measure in summary.mean and measure not in without:
            numbers = [f"{part[measure]:.{digits}f}" for part in (summary.deviation, summary.median)]
            interval = _interval(summary.interval.get(measure), digits)
            rows.append(
                ["" if rows else name, title, f"{summary.mean[measure]:.{digits}f}", interval, *numbers]
            )
    return rows


def _print_lesions(scores: "Sequence[Score]", sizes_ml: "Sequence[float]") -> None:
    """The table of lesions by size."""
    from volseg.evaluate import lesions_by_size, summarise

    if not scores:
        return
    rows: list[list[str]] = []
    bins = lesions_by_size(scores, limits_ml=sizes_ml)
    for summary in summarise(scores):
        rows += [
            _lesion_row(summary.name, _size(part), part.recall, part.precision)
            for part in bins
            if part.name == summary.name and part.recall.total + part.precision.total
        ]
        if summary.lesion_recall and summary.lesion_precision:
            rows.append(_lesion_row(summary.name, "all", summary.lesion_recall, summary.lesion_precision))
    print(
        "\nconnected components of all cases together: those of the reference that were found, those marked that are real"
    )
    print_table(["label", "size ml", "found", "recall", "95 % CI", "real", "precision", "95 % CI"], rows)


def _lesion_row(name: str, size: str, recall: "Rate", precision: "Rate") -> list[str]:
    cells = [name, size]
    for rate in (recall, precision):
        part = "-" if rate.value is None else f"{rate.value:.3f}"
        cells += [f"{rate.hits} of {rate.total}", part, _interval(rate.interval, 3)]
    return cells


def _size(part: "SizeBin") -> str:
    if part.low_ml == 0:
        return f"< {part.high_ml:g}"
    return f">= {part.low_ml:g}" if part.high_ml == float("inf") else f"{part.low_ml:g} to {part.high_ml:g}"


def _interval(interval: "Interval | None", digits: int) -> str:
    return "-" if interval is None else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _sizes(text: str) -> list[float]:
    from volseg.errors import ConfigError

    try:
        return [float(entry) for entry in text.split(",")]
    except ValueError:
        raise ConfigError(f"--lesion-sizes {text}: expected limits in ml, such as 0.1,1,10.") from None


def _regions(entries: "Sequence[str]") -> "list[LabelRegion]":
    from volseg.datasets.brats import BraTS
    from volseg.errors import ConfigError
    from volseg.labels import LabelRegion

    regions: list[LabelRegion] = []
    for entry in entries:
        name, _, text = (part.strip() for part in entry.partition("="))
        if entry == "brats":
            regions += BraTS(root=Path()).regions()
            continue
        values = tuple(int(value) for value in text.split(",") if value.strip().isdecimal())
        if not name or not values or len(values) != len(text.split(",")):
            raise ConfigError(
                f"--regions {entry}: is no region; write NAME=VALUES, such as core=1,3, or brats for the three of BraTS."
            )
        regions.append(LabelRegion(name, values, values[0]))
    return regions


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
