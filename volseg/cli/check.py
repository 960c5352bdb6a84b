"""`volseg check`: what is wrong with a labelled collection, and a repaired copy of it."""

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.planning import Layout
from volseg.cli.table import print_table
from volseg.errors import counted

if TYPE_CHECKING:
    from volseg.check import Report
    from volseg.check.report import Severity
    from volseg.datasets import Dataset

_MOST_ROWS = 12
"""Of one code; the rest is counted."""

_MOST_NAMES = 3
"""Cases named in one row."""

_LEAST_WIDTH = 40


def check(
    root: Annotated[
        Path, typer.Argument(metavar="ROOT", help="The folder (or table) of a labelled collection.")
    ],
    *,
    layout: Layout = None,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="OUT", help="Write a repaired copy into this folder; new or empty."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write every problem into this file.")
    ] = None,
) -> None:
    """Look for all that is wrong with a labelled collection, before a training finds it. Leaves with 2 if there are errors.

    --fix writes the cases without errors in nnU-Net's raw layout, with their label maps on the image's grid and in the
    values of the label table; OUT/fix.csv says what became of each case. The collection itself is never changed.
    """
    from volseg.check import check_dataset, write_report
    from volseg.datasets.recognise import recognise

    found = recognise(root, layout)
    print(f"{root}: {found.why}\n")
    with _progress_bar("checked") as progress:
        report = check_dataset(found.dataset, progress=progress)
    _print_problems(report)
    _print_counts(report)
    if csv is not None:
        write_report(report, csv)
        print(f"wrote   {csv}")
    if fix is not None:
        _repair(found.dataset, report, fix)
    if report.has_errors:
        raise typer.Exit(2)


def _repair(dataset: "Dataset", report: "Report", folder: Path) -> None:
    from volseg.check.repair import repair_dataset

    with _progress_bar("written") as progress:
        repairs = repair_dataset(dataset, report, folder, progress=progress)
    done = Counter(repair.done for repair in repairs if repair.written_as)
    kept = sum(done.values())
    print(f"wrote   {folder}: {kept} of {len(repairs)} cases; what became of each is in {folder / 'fix.csv'}")
    for text, count in done.most_common(_MOST_ROWS):
        print(f"  {count} x {text}")
    patients = [repair.patient for repair in repairs if repair.written_as and repair.patient]
    if len(set(patients)) < len(patients):
        print("  this layout does not say which cases are of one patient; fix.csv does")
    if dataset.regions():
        names = ", ".join(region.name for region in dataset.regions())
        print(f"  this layout holds labels or regions; the labels were written, not the regions {names}")


def _print_problems(report: "Report") -> None:
    if not report.problems:
        return
    alike: dict[tuple[str, str, str], list[str]] = {}
    advice: dict[str, list[str]] = {}
    for problem in report.problems:
        alike.setdefault((problem.severity, problem.code, problem.text), []).append(problem.case)
        if problem.advice and problem.advice not in advice.setdefault(problem.code, []):
            advice[problem.code].append(problem.advice)
    shown: Counter[str] = Counter()
    rows: list[list[str]] = []
    for (severity, code, text), cases in alike.items():
        shown[code] += 1
        if shown[code] <= _MOST_ROWS:
            rows.append([severity, code, _names(cases), text])
    _print_wrapped(["severity", "code", "case", "found"], rows)
    for code, count in shown.items():
        if count > _MOST_ROWS:
            print(f"  ... and {count - _MOST_ROWS} more rows of {code} (--csv FILE has all)")
    if any(advice.values()):
        print()
        _print_wrapped(["code", "advice"], [[code, text] for code, texts in advice.items() for text in texts])
    print()


def _names(cases: list[str]) -> str:
    from volseg.errors import few

    return few(cases, _MOST_NAMES) if cases[0] else "-"


def _print_wrapped(headers: list[str], rows: list[list[str]]) -> None:
    """On a terminal the last column is wrapped; in a pipe or a file each row stays one line."""
    wrapped = rows
    if sys.stdout.isatty():
        taken = sum(max(map(len, column)) + 3 for column in list(zip(headers, *rows, strict=True))[:-1])
        width = max(_LEAST_WIDTH, shutil.get_terminal_size().columns - taken - 2)
        wrapped = []
        for *cells, text in rows:
            lines = textwrap.wrap(text, width, break_on_hyphens=False)
            wrapped += [[*cells, lines[0]], *([""] * len(cells) + [line] for line in lines[1:])]
    print_table(headers, wrapped)


def _print_counts(report: "Report") -> None:
    if not report.problems:
        print(f"{counted(report.case_count, 'case')}, no problem found")
        return
    faulty = {problem.case for problem in report.problems if problem.severity == "error" and problem.case}
    print(f"{counted(report.case_count, 'case')}, {len(faulty) or 'none'} of them with errors")
    nouns: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}
    for severity, noun in nouns.items():
        counts = report.counts(severity)
        if counts:
            told = ", ".join(f"{code} {count}" for code, count in counts.items())
            print(f"  {counted(sum(counts.values()), noun)}: {told}")


@contextmanager
def _progress_bar(verb: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (MofNCompleteColumn(), TextColumn(f"cases {verb}"), BarColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("cases", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
