"""Predicted label maps against reference label maps: one score per case and label or region, and their summary."""

from volseg.evaluate.bootstrap import Interval
from volseg.evaluate.files import MOST_LABELS, evaluate, evaluate_folders
from volseg.evaluate.score import MEASURES, Score, evaluate_maps
from volseg.evaluate.summary import (
    FAILED_DICE,
    CaseSummary,
    Rate,
    SizeBin,
    Summary,
    lesions_by_size,
    summarise,
    summarise_cases,
)
from volseg.evaluate.table import read_scores, write_scores

__all__ = [
    "FAILED_DICE",
    "MEASURES",
    "MOST_LABELS",
    "CaseSummary",
    "Interval",
    "Rate",
    "Score",
    "SizeBin",
    "Summary",
    "evaluate",
    "evaluate_folders",
    "evaluate_maps",
    "lesions_by_size",
    "read_scores",
    "summarise",
    "summarise_cases",
    "write_scores",
]
