"""What a self-configured model says of itself, as far as the fingerprint can tell."""

import re

from volseg.datasets import Dataset
from volseg.package.fingerprint import Fingerprint, Spread
from volseg.train.settings import CardConfig

UNKNOWN_MODALITY = "OT"
"""DICOM's code for "other"."""

_KINDS = {"CT": "CT", "MR": "MR", "PT": "PET", "US": "ultrasound"}


def card_settings(dataset: Dataset, fingerprint: Fingerprint) -> CardConfig:
    """The card: names from the collection, limits from the ranges that the training set covers.

    A person who publishes the model should go over it; what it says is true, but it knows nothing of the patients.
    """
    kind = _KINDS.get(fingerprint.modality, "medical")
    labels = [label.name for label in fingerprint.labels]
    axes = "slices last" if fingerprint.slices_last else "right-left x front-back x up-down"
    title = _shortened(f"{', '.join(labels)} in {kind} scans", 100)
    return CardConfig(
        name=_slug(dataset.root.resolve().stem),
        title=title,
        description=(
            f"Finds {_listed(labels)} in {kind} scans. Trained by a self-configured plan for the {fingerprint.cases} cases "
            f"of {dataset.title}."
        ),
        modality=fingerprint.modality or UNKNOWN_MODALITY,
        intended_use=f"Research on {kind} scans like those of {dataset.title}.",
        limits=(
            f"Not a medical device; not for diagnosis or treatment. The collection has {fingerprint.cases} cases with voxels "
            f"of {_ranges(fingerprint.spacing_mm, 2)} mm and a size of {_ranges(fingerprint.size_mm, 0)} mm ({axes}); nothing is "
            "known of its results on others."
        ),
        data_name=dataset.title,
        data_licence=dataset.licence() or "unknown; see where the collection comes from",
    )


def _ranges(axes: tuple[Spread, Spread, Spread], digits: int) -> str:
    """The least and greatest number of each axis, such as "0.7-0.9 x 0.7-0.9 x 5"."""
    parts: list[str] = []
    for axis in axes:
        ends = [f"{round(end, digits):g}" for end in (axis.least, axis.most)]
        parts.append("-".join(dict.fromkeys(ends)))
    return " x ".join(parts)


def _listed(names: list[str]) -> str:
    if len(names) > 12:
        return f"{len(names)} structures"
    return " and ".join([part for part in (", ".join(names[:-1]), names[-1]) if part])


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3].rstrip(" ,") + "..."


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")
    return slug or "model"
