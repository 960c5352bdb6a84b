"""Labels in the words of DICOM: coded concepts and display colours of segments and of regions of interest."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from highdicom.color import CIELabColor
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as Concept

from volseg.errors import OutputError
from volseg.io.dicom.patient import long_string
from volseg.labels import Code, Label, LabelTable, default_colour
from volseg.volume import LabelMap

TISSUE = Concept("85756007", "SCT", "Tissue")
"""What a label without a code is called, as category and as type: it claims least, and other programs do the same."""

ANATOMY = Concept("91723000", "SCT", "Anatomical Structure")

_CATEGORIES = (
    ("cid7159", Concept("49755003", "SCT", "Morphologically Abnormal Structure")),
    ("cid7166", TISSUE),
    ("cid7157", Concept("260787004", "SCT", "Physical object")),
)
"""Context groups of PS3.16 and the category (CID 7150) of the types they list."""


def concept_of(label: Label) -> Concept:
    """The coded type of a label."""
    code = label.code
    return Concept(code.value, code.scheme, long_string(code.meaning)) if code else TISSUE


def category_of(label: Label) -> Concept:
    """The category (PS3.16 CID 7150) of a label's type; what is in no list of lesions, tissues or devices is anatomy."""
    if label.code is None:
        return TISSUE
    key = (label.code.scheme, label.code.value)
    return next((category for group, category in _CATEGORIES if key in _members(group)), ANATOMY)


def code_item(concept: Concept) -> Dataset:
    """A concept as the item of a code sequence (PS3.3 section 8)."""
    item = Dataset()
    setattr(item, "CodeValue" if len(concept.value) <= 16 else "LongCodeValue", concept.value)
    item.CodingSchemeDesignator = concept.scheme_designator
    item.CodeMeaning = concept.meaning
    return item


def read_label_code(sequence: Sequence[Dataset] | None) -> Code | None:
    """The concept of a code sequence; None where there is none or it is the one that a label without code gets."""
    if not sequence:
        return None
    item = sequence[0]
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    code = Code(str(item.get("CodingSchemeDesignator") or ""), str(value), str(item.get("CodeMeaning") or ""))
    return None if (code.scheme, code.value) == (TISSUE.scheme_designator, TISSUE.value) else code


def lab_colour(colour: tuple[int, int, int]) -> CIELabColor:
    """An RGB colour (0..255) as the CIELab values of PS3.3 C.10.7.1.1."""
    return CIELabColor.from_rgb(*colour)


def rgb_colour(values: list[int]) -> tuple[int, int, int]:
    """The RGB colour (0..255) of stored CIELab values."""
    red, green, blue = CIELabColor.from_dicom_value(values).to_rgb()
    return red, green, blue


def full_table(label_map: LabelMap, present: list[int], path: Path) -> LabelTable:
    """The labels to write: those of the table; "label 3" and so on where a map has no table at all.

    Raises:
        OutputError: the table does not name a value that is present.
    """
    if not len(label_map.labels):
        return LabelTable(
            tuple(Label(value, f"label {value}", default_colour(n)) for n, value in enumerate(present or [1]))
        )
    unnamed = sorted(set(present) - set(label_map.labels.values))
    if unnamed:
        raise OutputError(
            f"{path}: the label map holds the values {unnamed}, which its table of labels does not name; "
            f"known are {list(label_map.labels.values)}."
        )
    return label_map.labels


@cache
def _members(group: str) -> frozenset[tuple[str, str]]:
    listed = getattr(codes, group)
    return frozenset((getattr(listed, n).scheme_designator, getattr(listed, n).value) for n in listed.dir())
