"""Pictures of the cases a model does worst on: a number says how bad, a picture says why."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from volseg.cases import read_case
from volseg.datasets import Case
from volseg.evaluate import Score
from volseg.io import read_label_map
from volseg.labels import LabelTable
from volseg.report.preview import draw_preview


def draw_worst(
    scores: Sequence[Score],
    cases: Sequence[Case],
    found: Mapping[str, Path],
    folder: Path,
    *,
    labels: LabelTable,
    count: int,
) -> list[Path]:
    """Draw the cases with the lowest mean Dice, worst first, as `worst_<n>_<case>_{found,true}.png`.

    Args:
        scores: of the cases, one per label or region.
        cases: where their files are; scores of other cases are left out.
        found: the label map of each case, as the model found it on the scan's grid.
        folder: receives the pictures; made where it is missing.
        labels: the names and colours of the labels.
        count: how many cases.

    Returns:
        The pictures, found and true in turn.

    Raises:
        VolsegError: a case cannot be read, or a picture not be written.
    """
    known = {case.id: case for case in cases}
    dices: dict[str, list[float]] = {}
    for score in scores:
        if score.case in known:
            dices.setdefault(score.case, []).append(score.dice)
    worst = sorted(dices, key=lambda name: (fmean(dices[name]), name))[:count]
    if worst:
        folder.mkdir(parents=True, exist_ok=True)
    pictures: list[Path] = []
    for place, name in enumerate(worst, start=1):
        volume, reference = read_case(known[name])
        base = f"worst_{place}_{known[name].file_name}"
        for kind, label_map in (("found", read_label_map(found[name])), ("true", reference)):
            pictures.append(folder / f"{base}_{kind}.png")
            draw_preview(volume, replace(label_map, labels=labels), pictures[-1])
    return pictures
