"""What is wrong with a labelled collection, all problems of all cases at once, and a copy in which what can be is repaired.

`dataset` reads each case once and asks the rules; `measure` turns a case into a few numbers (`facts`) and tells what
cannot be read; `case_rules` and `collection_rules` judge those numbers; `report` is the table; `repair` writes the copy.
"""

from volseg.check.dataset import check_dataset
from volseg.check.report import Problem, Report, write_report

__all__ = ["Problem", "Report", "check_dataset", "write_report"]
