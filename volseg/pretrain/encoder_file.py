"""What a pre-training gives: the weights of an encoder in one file, which also says what they are of."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from volseg.io.atomic import replacing
from volseg.pretrain.data import PretrainData
from volseg.pretrain.network import PretrainNet
from volseg.pretrain.settings import PretrainConfig

FORMAT = "volseg encoder 1"


def write_encoder(
    network: PretrainNet,
    config: PretrainConfig,
    data: PretrainData,
    path: Path,
    *,
    measured: dict[str, float],
) -> Path:
    """Write the encoder's state dict as safetensors, whole or not at all.

    The metadata are text: format, architecture and preprocess (JSON), in_channels, patch_voxels, case_count and
    case_ids_sha256 (of the training scans, as in a package), steps, tasks, measured (JSON) and volseg_version.

    Args:
        network: whose encoder is written.
        config: the settings of the run.
        data: its scans.
        path: of the file.
        measured: of the held-out scans, by column of the log.

    Raises:
        OutputError: the file system refuses.
    """
    fields: dict[str, Any] = config.model_dump(mode="json")
    ids = sorted(case.id for case in data.training)
    tasks = [name for name in ("masked", "contrastive") if getattr(config, name).weight]
    metadata = {
        "format": FORMAT,
        "architecture": json.dumps(fields["architecture"]),
        "preprocess": json.dumps(fields["preprocess"]),
        "in_channels": str(data.channels * (2 * config.slices_around + 1)),
        "patch_voxels": json.dumps(fields["patch_voxels"]),
        "case_count": str(len(ids)),
        "case_ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "steps": str(config.steps),
        "tasks": " ".join(tasks),
        "measured": json.dumps({name: float(f"{value:.6g}") for name, value in measured.items()}),
        "volseg_version": version("volseg"),
    }
    weights = {name: value.cpu().contiguous() for name, value in network.encoder.state_dict().items()}
    with replacing(path) as unfinished:
        save_file(weights, unfinished, metadata)
    return path
