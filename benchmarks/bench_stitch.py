"""Sliding-window inference of a cheap pointwise model: volseg's tiles and streaming stitch beside MONAI's.

    python benchmarks/bench_stitch.py [runs]

Both cover the same volume with tiles of 96 voxels at overlap 0.5 and Gaussian weights, and both do the same arithmetic per
tile, so what differs is tiling and stitching. The runs alternate between the two; every run is a process of its own, so that
the peak of its memory is its own. Prints one JSON line each, with the ratio of the medians of that session.
"""

import json
import platform
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from volseg.infer.stitch import Stitcher
from volseg.infer.tiles import plan_tiles, read_tile, tile_weights

SHAPE = (256, 256, 128)
TILE = (96, 96, 96)
OVERLAP = 0.5
LABELS = 3


def setup() -> np.ndarray:
    """The volume [1, I, J, K]."""
    return np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)


class Pointwise:
    """Logits [B, 3, I, J, K] of a batch [B, 1, I, J, K], and the seconds they took."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Elementwise, so that the tiles cannot matter."""
        start = time.perf_counter()
        logits = torch.cat([batch, 0.9 - batch, 1 - 2 * batch], dim=1)
        self.seconds += time.perf_counter() - start
        return logits


def volseg_streaming(volume: np.ndarray, model: Pointwise) -> int:
    """Labels slab by slab: no logits of the whole volume exist. Returns how many voxels are labelled 1."""
    tiles = plan_tiles(SHAPE, TILE, overlap=OVERLAP)
    stitcher = Stitcher(tiles, tile_weights(TILE, "gaussian"), LABELS)
    labels = np.zeros(SHAPE, np.uint8)
    for tile in tiles:
        batch = torch.from_numpy(np.ascontiguousarray(read_tile(volume, tile)))[None]
        for slab in stitcher.add(tile, model(batch)[0].numpy()):
            labels[slab.start : slab.stop] = slab.logits.argmax(axis=0)
    return int(np.count_nonzero(labels == 1))


def monai_whole(volume: np.ndarray, model: Pointwise) -> int:
    """The same with MONAI, which returns the logits of the whole volume."""
    from monai.inferers.utils import sliding_window_inference

    batch = torch.from_numpy(volume)[None]
    logits = sliding_window_inference(
        batch, TILE, 1, model, overlap=OVERLAP, mode="gaussian", padding_mode="reflect"
    )
    labels = np.zeros(SHAPE, np.uint8)
    for row in range(0, SHAPE[0], 32):  # the same thrifty argmax as above
        labels[row : row + 32] = logits[0, :, row : row + 32].numpy().argmax(axis=0)
    return int(np.count_nonzero(labels == 1))


RUNS = {"volseg": volseg_streaming, "monai": monai_whole}


def measure(name: str) -> dict[str, float]:
    """One run in this process: seconds, seconds outside the model, peak memory over imports and input in MiB."""
    volume = setup()
    if name == "monai":
        import monai.inferers.utils  # noqa: F401 - imported before the clock starts
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = Pointwise()
    start = time.perf_counter()
    voxels = RUNS[name](volume, model)
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "outside_model": seconds - model.seconds, "peak_mib": peak, "voxels": voxels}


def main() -> None:
    """Alternate the two and print their medians."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    results: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for _ in range(runs):
        for name, found in results.items():
            command = [sys.executable, __file__, "--one", name]
            found.append(
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            )
    medians = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in results.items()
    }
    for name, median in medians.items():
        line = {
            "benchmark": "stitch",
            "what": name,
            "shape": SHAPE,
            "tile": TILE,
            "overlap": OVERLAP,
            "labels": LABELS,
            "runs": runs,
            "seconds": round(median["seconds"], 3),
            "seconds_relative_to_monai": round(median["seconds"] / medians["monai"]["seconds"], 3),
            "outside_model_relative_to_monai": round(
                median["outside_model"] / medians["monai"]["outside_model"], 3
            ),
            "peak_mib_over_input": round(median["peak_mib"], 1),
            "voxels_labelled_1": int(median["voxels"]),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
