"""A prediction in numbers, as JSON for programs: model, volumes, sides, regions, measures and warnings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volseg.infer.predictor import Prediction
from volseg.io.atomic import replacing
from volseg.package import ModelInfo
from volseg.report.volumes import asymmetries, label_volumes


def write_record(
    prediction: Prediction,
    path: Path,
    *,
    model: ModelInfo,
    device: str,
    choices: Sequence[str] = (),
    packages: Sequence[str] = (),
) -> None:
    """Write what a prediction found. Nothing of the patient is in it.

    Args:
        prediction: the label map and how it came about.
        path: the JSON file.
        model: what predicted.
        device: where.
        choices: which series was taken and why.
        packages: where the models came from, of which `model` is the first.

    Raises:
        OutputError: the file cannot be written.
    """
    predicted_by = {
        "name": model.name,
        "version": model.version,
        "device": device,
        "packages": list(packages),
    }
    fields = {"model": predicted_by, "volseg": model.volseg_version, **_record(prediction, choices)}
    text = json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _record(prediction: Prediction, choices: Sequence[str]) -> dict[str, Any]:
    grid = prediction.label_map.grid
    volumes = label_volumes(prediction.label_map)
    return {
        "grid": {"shape": grid.shape, "affine_ras_mm": grid.affine.tolist()},
        "labels": [
            {
                "value": row.label.value,
                "name": row.label.name,
                "code": vars(row.label.code) if row.label.code else None,
                "voxels": row.voxels,
                "volume_ml": round(row.volume_ml, 4),
            }
            for row in volumes
        ],
        "sides": [
            {
                "name": pair.name,
                "right_ml": round(pair.right_ml, 4),
                "left_ml": round(pair.left_ml, 4),
                "asymmetry_percent": None if pair.percent is None else round(pair.percent, 2),
            }
            for pair in asymmetries(volumes)
        ],
        "regions": [
            {
                "name": region.name,
                "shape": region.grid.shape,
                "affine_ras_mm": region.grid.affine.tolist(),
                "notes": region.notes,
            }
            for region in prediction.regions
        ],
        "probabilities": prediction.channel_names,
        "measures": {name: round(float(value), 4) for name, value in prediction.measures.items()},
        "warnings": prediction.warnings,
        "series": list(choices),
    }
