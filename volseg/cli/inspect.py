"""`volseg inspect`: what a folder of DICOM files holds, what can be read, and why the rest cannot."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volseg.cli.series import AllowGaps, Join
from volseg.cli.table import print_table

if TYPE_CHECKING:
    from volseg.io.dicom.index import FileFate, SeriesSummary

_KEY_LETTERS = 12
_MOST_LETTERS = 32


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder, zip or DICOMDIR of DICOM files, or one file.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
    files: Annotated[bool, typer.Option("--files", help="List what becomes of each file.")] = False,
    allow_gaps: AllowGaps = False,
    join: Join = False,
) -> None:
    """List the DICOM series below a path: what can be read, and why the rest cannot. Names no patient."""
    from volseg.errors import FileFormatError
    from volseg.io.dicom.index import file_fates, index_series
    from volseg.io.dicom.selection import nothing_dicom

    with _progress_bar() as progress:
        summaries = index_series(path, join=join, allow_gaps=allow_gaps, progress=progress)
    fates = file_fates(summaries)
    if all(fate.reason == "not-dicom" for fate in fates):
        raise FileFormatError(nothing_dicom(path))
    if as_json:
        print(json.dumps(_document(path, summaries, fates, with_files=files), indent=2, ensure_ascii=False))
        return
    _print_series(summaries)
    _print_files_total(fates)
    if files:
        print()
        print_table(
            ["file", "frame", "series", "reason"],
            [
                [_below(path, fate), _frame(fate), _short(fate.key, summaries) or "-", fate.reason or "-"]
                for fate in fates
            ],
        )


@contextmanager
def _progress_bar() -> Iterator[Callable[[int], None] | None]:
    """A counter on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} files read"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("files", total=None)
        yield lambda count: bar.update(task, completed=count)


def _print_series(summaries: "Sequence[SeriesSummary]") -> None:
    rows = []
    for summary in summaries:
        if not summary.key:
            continue
        description = " ".join(part for part in (summary.description, summary.trait) if part)
        rows.append(
            [
                summary.patient,
                summary.study,
                _short(summary.key, summaries),
                summary.modality,
                description
                if len(description) <= _MOST_LETTERS
                else f"{description[: _MOST_LETTERS - 3]}...",
                summary.contrast or "-",
                str(summary.slices),
                _by(summary.shape, "d"),
                _by(summary.spacing_mm, ".4g"),
                summary.verdict,
                summary.reason or "-",
            ]
        )
    headers = "patient,study,series,modality,description,contrast,slices,shape,spacing (mm),verdict,reason"
    print_table(headers.split(","), rows)
    told = [summary for summary in summaries if summary.text and summary.verdict != "skipped"]
    if told:
        print()
    for summary in told:
        print(f"  {_short(summary.key, summaries)}: {summary.text}")


def _print_files_total(fates: "Sequence[FileFate]") -> None:
    in_series = {fate.file for fate in fates if fate.key}
    reasons = Counter(fate.reason for fate in fates if not fate.key and fate.file not in in_series)
    unused = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    print(
        f"\n  {len({fate.file for fate in fates})} files: {len(in_series)} in series{f', {unused}' if unused else ''}"
    )


def _document(
    path: Path, summaries: "Sequence[SeriesSummary]", fates: "Sequence[FileFate]", *, with_files: bool
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "path": str(path),
        "file_count": len({fate.file for fate in fates}),
        "series": [_record(summary) for summary in summaries if summary.key],
        "strays": _reasons([summary for summary in summaries if not summary.key]),
    }
    if with_files:
        document["files"] = [
            {
                "file": _below(path, fate),
                "frame": fate.frame,
                "series": fate.key or None,
                "reason": fate.reason,
                "text": fate.text,
            }
            for fate in fates
        ]
    return document


def _record(summary: "SeriesSummary") -> dict[str, Any]:
    names = "key patient study study_uid series_uid modality description body_part contrast trait slices shape spacing_mm"
    record = {name: getattr(summary, name) for name in (*names.split(), "verdict", "reason", "text")}
    return {**record, "file_count": len(summary.files), "dropped": _reasons([summary])}


def _reasons(summaries: "Sequence[SeriesSummary]") -> dict[str, int]:
    return dict(sorted(Counter(item.reason.value for s in summaries for item in s.dropped).items()))


def _short(key: str, summaries: "Sequence[SeriesSummary]") -> str:
    """The shortest ending of a key that fits no other series, so that it can be given to --series."""
    others = [summary.key for summary in summaries if summary.key not in (key, "")]
    for length in range(min(_KEY_LETTERS, len(key)), len(key)):
        if not any(other.endswith(key[-length:]) for other in others):
            return key[-length:]
    return key


def _below(path: Path, fate: "FileFate") -> str:
    if fate.file.member:
        return fate.file.member
    root = path if path.is_dir() else path.parent
    return (
        str(fate.file.path.relative_to(root)) if fate.file.path.is_relative_to(root) else str(fate.file.path)
    )


def _frame(fate: "FileFate") -> str:
    return "-" if fate.frame is None else str(fate.frame)


def _by(numbers: "Sequence[float] | None", form: str) -> str:
    return "-" if numbers is None else " x ".join(format(number, form) for number in numbers)
