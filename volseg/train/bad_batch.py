"""The batch on which a training broke, kept for a look at it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from volseg.io.atomic import replacing
from volseg.train.samples.patches import Batch


def save_bad_batch(batches: Sequence[Batch], folder: Path, *, rank: int = 0) -> Path:
    """Write the batches of one step as `nan_batch.safetensors` (of other ranks `nan_batch_rank<n>.safetensors`).

    It holds images [B, C, I, J, K] and labels [B, I, J, K] (label indices) of all batches in order, and as metadata the
    step, the rank, how many patches each batch has, and the case of each patch where the batches tell.

    Raises:
        OutputError: the file system refuses.
    """
    path = folder / (f"nan_batch_rank{rank}.safetensors" if rank else "nan_batch.safetensors")
    tensors = {
        "images": torch.cat([batch.images for batch in batches]).cpu().contiguous(),
        "labels": torch.cat([batch.labels for batch in batches]).cpu().contiguous(),
    }
    metadata = {
        "step": str(batches[0].step),
        "rank": str(rank),
        "patches": " ".join(str(len(batch.images)) for batch in batches),
    }
    with replacing(path) as unfinished:
        save_file(tensors, unfinished, metadata)
    return path
