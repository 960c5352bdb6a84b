"""The check of a whole collection: every case read once, a few at a time, then judged one by one and together."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from volseg.check.case_rules import CASE_RULES
from volseg.check.collection_rules import COLLECTION_RULES
from volseg.check.facts import CaseFacts, Expected
from volseg.check.measure import measure_case
from volseg.check.reader_warnings import ReaderWarnings, caught_warnings
from volseg.check.report import Problem, Report
from volseg.datasets import Case, Dataset, IncompleteError
from volseg.errors import InputError


def check_dataset(
    dataset: Dataset, *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Look for everything that would stop a training on a collection, or make it learn something wrong.

    Args:
        dataset: the collection; what its adapter refuses becomes part of the report.
        workers: threads that read cases. Each holds the voxels of one file at a time.
        progress: called with the number of cases looked at and of all.

    Returns:
        All problems of all cases.
    """
    try:
        expected = Expected(dataset.channel_names(), dataset.labels(), dataset.modality())
        cases, problems = listed_cases(dataset)
        problems += [Problem("info", "", "note", text) for text in dataset.notes()]
    except InputError as error:
        return Report.of([Problem("error", "", "unreadable-list", str(error))], case_count=0)
    case_count = len(cases) + len({problem.case for problem in problems} - {""})
    facts: list[CaseFacts] = []
    with caught_warnings() as warnings, ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
        for found, told in pool.map(lambda case: _look_at(case, expected, warnings), cases):
            facts.append(found)
            problems += told
            if progress is not None:
                progress(len(facts), len(cases))
    problems += [problem for rule in COLLECTION_RULES for problem in rule(facts, expected)]
    return Report.of((_below_root(problem, dataset.root) for problem in problems), case_count=case_count)


def listed_cases(dataset: Dataset) -> tuple[list[Case], list[Problem]]:
    """The cases whose files are there, and a problem for each of the others."""
    try:
        return dataset(), []
    except IncompleteError as error:
        advice = (
            "Every case needs each of its files once: unpack the collection completely, or take the case out."
        )
        incomplete = [
            Problem("error", name, "incomplete-case", text, advice) for name, text in error.problems
        ]
        return list(error.cases), incomplete


def _below_root(problem: Problem, root: Path) -> Problem:
    """Paths inside the collection are told from its root on, so that the rest of a line can be read."""
    home = root if root.is_dir() else root.parent
    return replace(problem, text=problem.text.replace(f"{home}{os.sep}", ""))


def _look_at(case: Case, expected: Expected, warnings: ReaderWarnings) -> tuple[CaseFacts, list[Problem]]:
    facts, problems = measure_case(case, expected)
    problems += [Problem("warning", case.id, "reader-warning", text) for text in warnings.take()]
    problems += [problem for rule in CASE_RULES for problem in rule(facts, expected)]
    return facts, problems
