"""The front door: a scan and the name of a model in, a label map out. Used by the command line and by Python."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from volseg.infer.predictor import Predictor
from volseg.io import read_volume, write_label_map, write_volume
from volseg.outputs import check_image_output, check_output, default_output, probabilities_output
from volseg.package import ModelInfo, Package, load_package
from volseg.report.preview import check_preview_name, draw_preview
from volseg.volume import LabelMap, Volume
from volseg.zoo import find

DeviceName = Literal["auto", "cpu", "cuda"]

DEFAULT_MODEL = "hippocampus"


def load_model(model: str | Path) -> Package:
    """The package of a bundled model's name, or of a .volseg file.

    Raises:
        PackageError: no such model, or the file is damaged.
    """
    return load_package(find(model))


def predict(
    source: str | Path | Sequence[str | Path] | Volume,
    model: str | Path = DEFAULT_MODEL,
    *,
    device: DeviceName = "auto",
) -> LabelMap:
    """Segment one case.

    Args:
        source: an image file, several files (the channels of one case, in the model's order), or a Volume.
        model: the name of a bundled model (`volseg models`) or the path of a .volseg package.
        device: "cpu", "cuda", or "auto" for the GPU where there is one.

    Returns:
        The labels on the source's own grid.

    Raises:
        VolsegError: the input, the model or the device cannot be used; the message says why.
    """
    package = load_model(model)
    volume = source if isinstance(source, Volume) else read_volume(source)
    return Predictor(package, device=device).predict(volume).label_map


@dataclass(frozen=True)
class SavedPrediction:
    """A label map, what made it and which files it was written to."""

    label_map: LabelMap
    model: ModelInfo
    device: str
    files: tuple[Path, ...]
    seconds: float
    """Wall time from reading the model to the last file written."""


def predict_files(
    sources: Sequence[Path],
    output: Path | None = None,
    *,
    model: str | Path = DEFAULT_MODEL,
    device: DeviceName = "auto",
    save_probabilities: bool = False,
    preview: Path | None = None,
) -> SavedPrediction:
    """Segment the files of one case and write the result; every path is checked before the model runs.

    Args:
        sources: the channels of one case, in the model's order.
        output: the label map; by default `<first source>_seg.nii.gz` beside the first source.
        model: the name of a bundled model or the path of a .volseg package.
        device: "cpu", "cuda", or "auto" for the GPU where there is one.
        save_probabilities: also write `<output>_prob.nii.gz`, one channel per label, background first.
        preview: also draw the labels over the scan into this PNG.

    Raises:
        VolsegError: an input, the model, the device or an output cannot be used; the message says why.
    """
    start = time.perf_counter()
    target = default_output(sources[0]) if output is None else output
    check_image_output(target, sources)
    probabilities_path = probabilities_output(target) if save_probabilities else None
    if probabilities_path is not None:
        check_image_output(probabilities_path, sources)
    if preview is not None:
        check_preview_name(preview)
        check_output(preview, sources)
    package = load_model(model)
    volume = read_volume(list(sources))
    predictor = Predictor(package, device=device)
    prediction = predictor.predict(volume, keep_probabilities=save_probabilities)
    write_label_map(prediction.label_map, target, source=volume)
    if probabilities_path is not None and prediction.probabilities is not None:
        write_volume(prediction.probabilities, probabilities_path, source=volume)
    if preview is not None:
        draw_preview(volume, prediction.label_map, preview)
    files = tuple(path for path in (target, probabilities_path, preview) if path is not None)
    seconds = time.perf_counter() - start
    return SavedPrediction(prediction.label_map, package.info, str(predictor.device), files, seconds)
