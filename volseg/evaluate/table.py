"""Scores in a CSV file: one line per case and label or region."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from volseg.errors import InputError
from volseg.evaluate.score import Score
from volseg.io.atomic import replacing

_COLUMNS = tuple(entry for entry in fields(Score) if entry.name != "lesions")


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """Write one CSV line per score, with the field names of Score as header; what was not measured stays empty.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [entry.name for entry in _COLUMNS]
    writer.writerow(names)
    writer.writerows([getattr(score, name) for name in names] for score in scores)
    with replacing(path) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8", newline="")


def read_scores(path: Path) -> list[Score]:
    """The scores that write_scores wrote, also before it knew all of the measures.

    Raises:
        InputError: a column is missing or unknown, or a value is none.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    try:
        return [
            Score(**{name: _KINDS[name](text) for name, text in row.items() if text != ""}) for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: is no list of scores as volseg writes it ({error}); expected the columns "
            f"{', '.join(_KINDS)}. Evaluate again."
        ) from None


def _kind(annotation: Any) -> Callable[[str], Any]:
    return next(kind for kind in (str, int, float) if annotation in (kind, kind | None))


_KINDS = {entry.name: _kind(entry.type) for entry in _COLUMNS}
