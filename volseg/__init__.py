"""CT and MR scans in, label maps out: 2D and 3D U-Net++ segmentation with exact geometry.

The names below are the public API; each is imported when it is first used, so `import volseg` is instant.

Example:
    >>> import volseg
    >>> label_map = volseg.predict("scan.nii.gz")  # doctest: +SKIP
    >>> volseg.write_label_map(label_map, "scan_seg.nii.gz")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from volseg.api import load_model, predict
    from volseg.errors import VolsegError
    from volseg.evaluate import summarise, write_scores
    from volseg.geometry import Grid
    from volseg.infer.predictor import Predictor
    from volseg.io import read_label_map, read_volume, write_label_map, write_volume
    from volseg.io.dicom.index import index_series
    from volseg.io.dicom.reading import read_series
    from volseg.labels import Label, LabelTable
    from volseg.report.preview import draw_preview
    from volseg.train.outcome.scoring import score_cases
    from volseg.train.run import train_model
    from volseg.train.split import held_out_cases
    from volseg.volume import LabelMap, Volume

    __version__: str

__all__ = [
    "Grid",
    "Label",
    "LabelMap",
    "LabelTable",
    "Predictor",
    "VolsegError",
    "Volume",
    "draw_preview",
    "held_out_cases",
    "index_series",
    "load_model",
    "predict",
    "read_label_map",
    "read_series",
    "read_volume",
    "score_cases",
    "summarise",
    "train_model",
    "write_label_map",
    "write_scores",
    "write_volume",
]

_HOMES = {
    "Grid": "volseg.geometry",
    "Label": "volseg.labels",
    "LabelMap": "volseg.volume",
    "LabelTable": "volseg.labels",
    "Predictor": "volseg.infer.predictor",
    "VolsegError": "volseg.errors",
    "Volume": "volseg.volume",
    "draw_preview": "volseg.report.preview",
    "held_out_cases": "volseg.train.split",
    "index_series": "volseg.io.dicom.index",
    "load_model": "volseg.api",
    "predict": "volseg.api",
    "read_label_map": "volseg.io",
    "read_series": "volseg.io.dicom.reading",
    "read_volume": "volseg.io",
    "score_cases": "volseg.train.outcome.scoring",
    "summarise": "volseg.evaluate",
    "train_model": "volseg.train.run",
    "write_label_map": "volseg.io",
    "write_scores": "volseg.evaluate",
    "write_volume": "volseg.io",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("volseg")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'volseg' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, whether imported yet or not."""
    return sorted([*__all__, "__version__"])
