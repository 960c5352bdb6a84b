"""Resampling a CT-sized volume (512 x 512 x 100) to 1.5 mm: volseg beside scipy.ndimage and SimpleITK.

    python benchmarks/bench_resample.py [runs]

All three compute the same values (but for the border of cubic) on the same grid with one thread; times are CPU seconds, on
which other work on the machine weighs little. Also: three channels of logits back to the scan's grid and argmax, beside
resampling all of them with scipy first. The runs alternate; every run is a process of its own, so that the peak of its
memory is its own. Prints one JSON line each, with ratios of the medians of that session.
"""

import json
import platform
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import SimpleITK
from scipy import ndimage

from volseg.geometry import Grid
from volseg.labels import ChannelRule
from volseg.resample import logits_to_labels, to_grid

SCAN = Grid.from_spacing((512, 512, 100), (0.8, 0.8, 2.0))
MODEL = SCAN.with_spacing((1.5, 1.5, 1.5))
LABELS = 3


def setup(task: str) -> np.ndarray:
    """The scan [1, I, J, K], or logits [L, I, J, K] on the model's grid."""
    shape = (LABELS, *MODEL.shape) if task == "labels" else (1, *SCAN.shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def volseg(array: np.ndarray, task: str) -> np.ndarray:
    if task == "labels":
        return logits_to_labels(array, MODEL, SCAN, ChannelRule(tuple(range(LABELS))))
    return to_grid(array, SCAN, MODEL, order="cubic" if task == "cubic" else "linear")[0]


def scipy(array: np.ndarray, task: str) -> np.ndarray:
    source, target = (MODEL, SCAN) if task == "labels" else (SCAN, MODEL)
    spacing = source.affine.diagonal()[:3]
    matrix = np.divide(target.affine.diagonal()[:3], spacing)
    offset = (target.affine[:3, 3] - source.affine[:3, 3]) / spacing
    degree = 3 if task == "cubic" else 1
    channels = [
        ndimage.affine_transform(c, matrix, offset, target.shape, order=degree, mode="nearest") for c in array
    ]
    return np.stack(channels).argmax(axis=0).astype(np.uint8) if task == "labels" else channels[0]


def simpleitk(array: np.ndarray, task: str) -> np.ndarray:
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = SimpleITK.GetImageFromArray(array[0].T)
    image.SetSpacing(SCAN.spacing_mm)
    interpolator = SimpleITK.sitkBSpline if task == "cubic" else SimpleITK.sitkLinear
    result = SimpleITK.Resample(
        image,
        MODEL.shape,
        SimpleITK.Transform(),
        interpolator,
        MODEL.affine[:3, 3].tolist(),
        MODEL.spacing_mm,
    )
    return SimpleITK.GetArrayFromImage(result).T


RUNS = {
    (name, task): function
    for task in ("linear", "cubic", "labels")
    for name, function in (("volseg", volseg), ("scipy", scipy), ("simpleitk", simpleitk))
    if (name, task) != ("simpleitk", "labels")
}


def measure(name: str, task: str) -> dict[str, float]:
    """One run in this process: CPU seconds, peak memory over imports and input in MiB, and the mean for comparison."""
    array = setup(task)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    result = RUNS[name, task](array, task)
    seconds = time.process_time() - start
    peak_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"cpu_seconds": seconds, "peak_mib": peak_mib, "result_std": float(result.std())}


def run(runs: int) -> None:
    """Alternate the runs and print medians and ratios to volseg."""
    measured: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in RUNS}
    for _ in range(runs):
        for name, task in RUNS:
            command = [sys.executable, __file__, "--one", name, task]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            measured[name, task].append(json.loads(output))
    for (name, task), results in measured.items():
        medians = {key: statistics.median(result[key] for result in results) for key in results[0]}
        own = statistics.median(result["cpu_seconds"] for result in measured["volseg", task])
        line = {
            "benchmark": "resample",
            "task": task,
            "name": name,
            "runs": runs,
            "machine": platform.machine(),
        }
        line |= {key: round(value, 4) for key, value in medians.items()}
        print(json.dumps(line | {"cpu_seconds_over_volseg": round(medians["cpu_seconds"] / own, 2)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], sys.argv[3])))
    else:
        run(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
