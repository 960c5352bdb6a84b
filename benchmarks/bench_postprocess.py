"""Largest component of two labels in a 512 x 512 x 200 map: volseg (each label in its box) beside scipy on the whole map.

    python benchmarks/bench_postprocess.py [runs]

The runs alternate; every run is a process of its own, so that the peak of its memory is its own. Times are CPU seconds
(both use one thread). Prints one JSON line each, with the ratio of the medians of that session.
"""

import json
import platform
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from scipy import ndimage

from volseg.geometry import Grid
from volseg.postprocess.components import KeepLargest
from volseg.volume import LabelMap

SHAPE = (512, 512, 200)


def setup() -> np.ndarray:
    """A map [I, J, K] like a liver (1) with a lesion (2), and specks of both scattered around them."""
    array = np.zeros(SHAPE, np.uint8)
    for label, centre, radii in ((1, (200, 260, 110), (110, 90, 60)), (2, (220, 250, 100), (25, 25, 15))):
        box = tuple(slice(c - r, c + r + 1) for c, r in zip(centre, radii, strict=True))
        axes = np.ogrid[tuple(slice(-1, 1, (2 * r + 1) * 1j) for r in radii)]
        array[box][sum(axis**2 for axis in axes) <= 1] = label
    generator = np.random.default_rng(0)
    for label in (1, 2):
        for i, j, k in generator.integers((80, 150, 40), (330, 370, 180), (40, 3)):
            array[i : i + 3, j : j + 3, k : k + 2] = label
    return array


def volseg(array: np.ndarray) -> np.ndarray:
    return KeepLargest()(LabelMap(array, Grid.from_spacing(SHAPE, (0.8, 0.8, 1.5)))).array


def scipy(array: np.ndarray) -> np.ndarray:
    result = np.zeros_like(array)
    for label in (1, 2):
        components, _ = ndimage.label(array == label, np.ones((3, 3, 3)))
        voxels = np.bincount(components.ravel())
        voxels[0] = 0
        result[components == voxels.argmax()] = label
    return result


RUNS = {"volseg": volseg, "scipy": scipy}


def measure(name: str) -> dict[str, float]:
    """One run in this process: CPU seconds, peak memory over imports and input in MiB, and the voxels kept."""
    array = setup()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    result = RUNS[name](array)
    seconds = time.process_time() - start
    peak_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"cpu_seconds": seconds, "peak_mib": peak_mib, "kept": float(np.count_nonzero(result))}


def run(runs: int) -> None:
    """Alternate the runs and print medians and ratios to volseg."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for _ in range(runs):
        for name in RUNS:
            command = [sys.executable, __file__, "--one", name]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            measured[name].append(json.loads(output))
    own = statistics.median(result["cpu_seconds"] for result in measured["volseg"])
    for name, results in measured.items():
        medians = {key: statistics.median(result[key] for result in results) for key in results[0]}
        line = {"benchmark": "keep_largest", "name": name, "runs": runs, "machine": platform.machine()}
        line |= {key: round(value, 4) for key, value in medians.items()}
        print(json.dumps(line | {"cpu_seconds_over_volseg": round(medians["cpu_seconds"] / own, 2)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        run(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
