"""The front door: a scan and the name of a model in, a label map out. Used by the command line and by Python."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from volseg.infer.predictor import Prediction, Predictor
from volseg.io import is_dicom_source, read_volume, stack_channels, write_label_map, write_volume
from volseg.outputs import OutputFormat, Outputs, PlannedOutputs, plan_outputs
from volseg.package import ModelInfo, Package, load_package
from volseg.report.record import write_record
from volseg.volume import LabelMap, Volume
from volseg.zoo import find, find_all

_logger = logging.getLogger(__name__)

DeviceName = Literal["auto", "cpu", "cuda"]

DEFAULT_MODEL = "hippocampus"

Models = str | Path | Sequence[str | Path]
"""A bundled model's name, a package file or a run folder with the folds of a training; or several, which answer as one."""


@dataclass(frozen=True)
class SeriesOptions:
    """How a DICOM source is read."""

    series: str | None = None
    """A key of index_series, a series UID or the ending of one; None lets the model's rules choose."""
    allow_gaps: bool = False
    """Fill missing and irregular slices by resampling."""
    join: bool = False
    """Put series together that are one volume sent under several UIDs."""


def load_model(model: str | Path) -> Package:
    """The package of a bundled model's name, or of a .volseg file.

    Raises:
        PackageError: no such model, or the file is damaged.
    """
    return load_package(find(model))


def load_models(models: Models) -> list[Package]:
    """The packages of one model or of several; a run folder gives those of its folds.

    Raises:
        PackageError: no such model, or a file is damaged.
    """
    return [load_package(path) for path in find_all(models)]


def predict(
    source: str | Path | Sequence[str | Path] | Volume,
    model: Models = DEFAULT_MODEL,
    *,
    device: DeviceName = "auto",
    options: SeriesOptions | None = None,
    head: int | None = None,
    force: bool = False,
) -> LabelMap:
    """Segment one case.

    Args:
        source: an image file, a folder, zip or DICOMDIR of DICOM files, several of them (the channels of one case, in
            the model's order), or a Volume.
        model: the name of a bundled model (`volseg models`), the path of a .volseg package, or a run folder, which stands
            for the packages of its folds. Of several models, or folds, the logits are averaged.
        device: "cpu", "cuda", or "auto" for the GPU where there is one.
        options: how a DICOM source is read.
        head: stop a U-Net++ at this head: fewer nodes, less time, usually less exact.
        force: label also a scan that the model refuses, with a warning; look at every result.

    Returns:
        The labels on the source's own grid. Its table says which labels: a model that locates its regions names sides.

    Raises:
        VolsegError: the input, the model or the device cannot be used; the message says why.
    """
    models = load_models(model)
    if isinstance(source, Volume):
        volume = source
    else:
        paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(path) for path in source]
        volume, _ = _read_case(paths, models[0].info, options or SeriesOptions())
    prediction = Predictor(models, device=device, head=head, force=force).predict(volume)
    for warning in prediction.warnings:
        _logger.warning("%s: %s", volume.origin, warning)
    return prediction.label_map


@dataclass(frozen=True)
class SavedPrediction:
    """A prediction, what made it and which files it was written to."""

    prediction: Prediction
    model: ModelInfo
    """Of several models the first one's."""
    device: str
    files: tuple[Path, ...]
    seconds: float = 0.0
    """Wall time from reading the model to the last file written."""
    choices: tuple[str, ...] = ()
    """Which DICOM series was taken and why, then which were not; one line for each."""
    packages: tuple[str, ...] = ()
    """Where the models came from; of several the logits were averaged."""

    @property
    def label_map(self) -> LabelMap:
        """The labels on the source's own grid."""
        return self.prediction.label_map


def predict_files(
    sources: Sequence[Path],
    outputs: Outputs | None = None,
    *,
    model: Models = DEFAULT_MODEL,
    device: DeviceName = "auto",
    options: SeriesOptions | None = None,
    head: int | None = None,
    force: bool = False,
) -> SavedPrediction:
    """Segment the files of one case and write the result; every path is checked before the model runs.

    Args:
        sources: the channels of one case, in the model's order: image files, or folders, archives or files of DICOM.
        outputs: what to write where; by default `<first source>_seg.nii.gz` beside the first source.
        model: as in `predict`.
        device: "cpu", "cuda", or "auto" for the GPU where there is one.
        options: how a DICOM source is read.
        head: as in `predict`.
        force: label also a scan that the model refuses; the prediction's warnings say why it would be.

    Raises:
        VolsegError: an input, the model, the device or an output cannot be used; the message says why.
    """
    start = time.perf_counter()
    outputs = outputs or Outputs()
    planned = plan_outputs(outputs, sources)
    models = load_models(model)
    info = models[0].info
    volume, choices = _read_case(sources, info, options or SeriesOptions())
    predictor = Predictor(models, device=device, head=head, force=force)
    prediction = predictor.predict(volume, keep_probabilities=outputs.save_probabilities)
    saved = SavedPrediction(
        prediction,
        info,
        predictor.device,
        planned.files,
        choices=choices,
        packages=tuple(package.source for package in models),
    )
    _write_all(saved, planned, volume)
    return replace(saved, seconds=time.perf_counter() - start)


def _write_all(saved: SavedPrediction, planned: PlannedOutputs, volume: Volume) -> None:
    prediction = saved.prediction
    for output_format, path in planned.label_maps.items():
        _write(saved, path, output_format, source=volume)
    if planned.probabilities is not None and prediction.probabilities is not None:
        write_volume(prediction.probabilities, planned.probabilities, source=volume)
    if planned.preview is not None:
        from volseg.report.preview import draw_preview  # noqa: PLC0415 - matplotlib takes a third of a second

        draw_preview(volume, prediction.label_map, planned.preview)
    if planned.record is not None:
        write_record(
            prediction,
            planned.record,
            model=saved.model,
            device=saved.device,
            choices=saved.choices,
            packages=saved.packages,
        )


def _read_case(
    sources: Sequence[Path], info: ModelInfo, options: SeriesOptions
) -> tuple[Volume, tuple[str, ...]]:
    """The channels of a case as one volume, and the words for which series were chosen."""
    volumes, lines = [], []
    for channel, source in enumerate(sources):
        if is_dicom_source(source):
            volume, told = _read_dicom(source, info, min(channel, len(info.channels) - 1), options)
            lines += told
        else:
            volume = read_volume(source)
        volumes.append(volume)
    return stack_channels(volumes), tuple(lines)


def _read_dicom(
    source: Path, info: ModelInfo, channel: int, options: SeriesOptions
) -> tuple[Volume, list[str]]:
    """The series of a DICOM source that is for a channel of the model, and the words for why."""
    # pydicom is loaded when DICOM is met.
    from volseg.io.dicom.index import index_series  # noqa: PLC0415
    from volseg.io.dicom.reading import read_summary  # noqa: PLC0415
    from volseg.series_choice import choose_series  # noqa: PLC0415

    summaries = index_series(source, join=options.join, allow_gaps=options.allow_gaps)
    choice = choose_series(summaries, source, info=info, channel=channel, series=options.series)
    return read_summary(choice.summary, summaries), choice.lines()


def _write(saved: SavedPrediction, path: Path, output_format: OutputFormat, *, source: Volume) -> None:
    label_map, name = saved.label_map, saved.model.name
    count = len(saved.packages)
    version = saved.model.version if count == 1 else f"{saved.model.version}, mean of {count} models"
    if output_format == "nifti":
        write_label_map(label_map, path, source=source)
    elif output_format == "dicomseg":
        from volseg.io.dicom.seg import write_seg  # noqa: PLC0415 - highdicom is loaded when a SEG is written

        write_seg(label_map, path, source=source, model=name, model_version=version)
    else:
        from volseg.io.dicom.rtstruct import write_rtstruct  # noqa: PLC0415 - as above

        write_rtstruct(label_map, path, source=source, model=name, model_version=version)
