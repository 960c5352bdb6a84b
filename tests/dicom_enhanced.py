"""Writes enhanced multi-frame CT and MR: any frame order, shared or per-frame macros, several volumes, several parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydicom import config
from pydicom.dataset import Dataset

from tests.dicom_files import Written, fill_pixels, patient_and_study, save, short
from tests.dicom_spec import SeriesSpec

_SOP_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}
_MACROS = {
    "measures": "PixelMeasuresSequence",
    "orientation": "PlaneOrientationSequence",
    "position": "PlanePositionSequence",
    "values": "PixelValueTransformationSequence",
}
STEP = 11
"""How much the stored values of each further volume are above those of the one before."""


@dataclass(frozen=True, eq=False)
class Frames:
    """How the frames of a multi-frame series are laid out."""

    order: Callable[[int], Sequence[int]] | None = None
    """From the number of frames to their order in the file; None leaves them as they are, slices within volumes."""
    shared: Sequence[str] = ("measures", "orientation")
    """The macros in the shared groups; the others go with each frame. Of: measures, orientation, position, values."""
    dimension: str = ""
    """What tells the volumes apart: "temporal", "echo", "b-value" or "stack"."""
    values: Sequence[float] = (0.0,)
    """The dimension's value of each volume: position index, ms, s/mm²."""
    parts: int = 1
    """Files of a concatenation."""


def write_enhanced(
    path: Path,
    spec: SeriesSpec,
    frames: Frames | None = None,
    *,
    edit: Callable[[Dataset, int], None] | None = None,
) -> Written:
    """Write path, or path with -1, -2 ... before its suffix for the parts of a concatenation.

    `Written.volumes` are the volumes by the dimension's values. edit changes each file's data set (by part) at the end;
    spec.edit changes the functional groups of each frame, by slice.
    """
    frames = frames or Frames()
    all_frames = [(n, k) for n in range(len(frames.values)) for k in range(spec.shape[2])]
    order = frames.order(len(all_frames)) if frames.order else range(len(all_frames))
    ordered = [all_frames[n] for n in order]
    edges = np.linspace(0, len(ordered), frames.parts + 1).astype(int).tolist()
    files = []
    for part, (start, stop) in enumerate(pairwise(edges)):
        with config.disable_value_validation():
            dataset = _part(spec, frames, ordered[start:stop])
            if frames.parts > 1:
                _set_concatenation(dataset, frames, part, start)
            if edit:
                edit(dataset, part)
        name = f"{path.stem}-{part + 1}{path.suffix}" if frames.parts > 1 else path.name
        files.append(save(dataset, path.with_name(name), spec))
    volumes = tuple(
        (spec.stored + STEP * n) * spec.slopes + spec.intercepts for n in range(len(frames.values))
    )
    return Written(spec, path.parent, tuple(files), volumes[0], spec.grid, volumes)


def _part(spec: SeriesSpec, frames: Frames, members: Sequence[tuple[int, int]]) -> Dataset:
    dataset = patient_and_study(spec)
    dataset.SOPClassUID = _SOP_CLASSES[spec.modality]
    dataset.SOPInstanceUID = f"{spec.series_uid}.1"
    dataset.InstanceNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.ContentQualification, dataset.PixelPresentation = "RESEARCH", "MONOCHROME"
    dataset.VolumetricProperties, dataset.VolumeBasedCalculationTechnique = "VOLUME", "NONE"
    dataset.NumberOfFrames = len(members)
    stored = np.stack([spec.stored[:, :, k] + STEP * n for n, k in members], axis=2)
    fill_pixels(dataset, spec, stored)
    shared = Dataset()
    for macro in frames.shared:
        setattr(shared, _MACROS[macro], [_macro(macro, spec, members[0][1])])
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for volume, number in members:
        group = Dataset()
        for macro, keyword in _MACROS.items():
            if macro not in frames.shared:
                setattr(group, keyword, [_macro(macro, spec, number)])
        _set_dimension(group, frames, volume, number)
        if spec.edit:
            spec.edit(group, number)
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    return dataset


def _macro(macro: str, spec: SeriesSpec, number: int) -> Dataset:
    item = Dataset()
    if macro == "measures":
        item.PixelSpacing = [short(spec.spacing_mm[1]), short(spec.spacing_mm[0])]
        item.SliceThickness = short(spec.spacing_mm[2] * 1.2)
    elif macro == "orientation":
        item.ImageOrientationPatient = [short(value) for value in spec.cosines.ravel()]
    elif macro == "position":
        item.ImagePositionPatient = [short(value) for value in spec.slice_positions[number]]
    else:
        item.RescaleSlope, item.RescaleIntercept = short(spec.slopes[number]), short(spec.intercepts[number])
        item.RescaleType = "HU"
    return item


def _set_dimension(group: Dataset, frames: Frames, volume: int, number: int) -> None:
    """Frame content and the macro of the dimension."""
    content = Dataset()
    content.StackID = str(volume + 1) if frames.dimension == "stack" else "1"
    content.InStackPositionNumber = number + 1
    content.DimensionIndexValues = [1, number + 1, volume + 1]
    content.FrameAcquisitionNumber = 1
    value = frames.values[volume]
    if frames.dimension == "temporal":
        content.TemporalPositionIndex = int(value)
    elif frames.dimension == "echo":
        echo = Dataset()
        echo.EffectiveEchoTime = float(value)
        group.MREchoSequence = [echo]
    elif frames.dimension == "b-value":
        diffusion = Dataset()
        diffusion.DiffusionBValue = float(value)
        diffusion.DiffusionDirectionality = "ISOTROPIC" if value else "NONE"
        group.MRDiffusionSequence = [diffusion]
    group.FrameContentSequence = [content]


def _set_concatenation(dataset: Dataset, frames: Frames, part: int, start: int) -> None:
    dataset.ConcatenationUID = "1.2.826.0.1.999.77"
    dataset.SOPInstanceUIDOfConcatenationSource = dataset.SOPInstanceUID
    dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{part + 1}"
    dataset.InConcatenationNumber = part + 1
    dataset.InConcatenationTotalNumber = frames.parts
    dataset.ConcatenationFrameOffsetNumber = start
    dataset.InstanceNumber = part + 1
