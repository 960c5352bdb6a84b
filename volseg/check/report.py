"""The table of problems that a check gives."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

from volseg.io.atomic import replacing

Severity = Literal["error", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""error: training would stop or learn something wrong. warning: look at it. info: known and handled."""


@dataclass(frozen=True)
class Problem:
    """One thing found."""

    severity: Severity
    case: str
    """The id of the case; "" where it concerns the collection."""
    code: str
    """For tables and programs, such as "grid-mismatch"."""
    text: str
    """What was found, in numbers; of a file that cannot be read, also what to do."""
    advice: str = ""
    """What to do; the same for all problems of one kind."""


@dataclass(frozen=True)
class Report:
    """All problems of a collection."""

    problems: tuple[Problem, ...]
    """Errors first, then by code and case."""
    case_count: int
    """Cases that were looked at or could not be for want of files."""

    @classmethod
    def of(cls, problems: Iterable[Problem], *, case_count: int) -> "Report":
        """The problems in the order of a report."""
        ordered = sorted(
            problems, key=lambda found: (SEVERITIES.index(found.severity), found.code, found.case)
        )
        return cls(tuple(ordered), case_count)

    @property
    def has_errors(self) -> bool:
        """Whether training on the collection would stop or learn something wrong."""
        return any(found.severity == "error" for found in self.problems)

    def counts(self, severity: Severity) -> dict[str, int]:
        """How often each code of a severity occurs, by code."""
        found = Counter(problem.code for problem in self.problems if problem.severity == severity)
        return dict(sorted(found.items()))


def write_report(report: Report, path: Path) -> None:
    """Write one CSV line per problem, with the field names of Problem as header.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([entry.name for entry in fields(Problem)])
    writer.writerows(astuple(problem) for problem in report.problems)
    with replacing(path) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8", newline="")
