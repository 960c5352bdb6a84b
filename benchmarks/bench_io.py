"""Reading a CT-sized .nii.gz of about 80 MB and writing its mask: volseg beside nibabel and SimpleITK.

    python benchmarks/bench_io.py [runs]

All read the same file into an int16 array and write the same uint8 mask as .nii.gz at their usual level of compression.
The runs alternate; every run is a process of its own (start and imports not counted), so that the peak of its memory is
its own. Times are CPU seconds of one thread, so other work on the machine weighs little; what volseg adds, the flush to
the disk, is not CPU time. Prints one JSON line each, with the ratio of the medians of that session.
"""

import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
from scipy import ndimage

from volseg.geometry import Grid
from volseg.io import read_volume, write_label_map, write_volume
from volseg.volume import LabelMap, Volume

GRID = Grid.from_spacing((512, 512, 220), (0.8, 0.8, 1.5))


def setup(folder: Path) -> None:
    """A smooth body in scanner noise (scan.nii.gz, int16) and a mask of three blobs (mask.npy, uint8)."""
    generator = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(generator.normal(size=(64, 64, 44)), 3)
    body = ndimage.zoom(smooth, (8, 8, 5), order=1) * 8000
    scan = (body + generator.normal(scale=11, size=body.shape)).astype(np.int16)
    write_volume(Volume(scan, GRID), folder / "scan.nii.gz")
    np.save(folder / "mask.npy", (body > 400).astype(np.uint8) + (body > 900))


def read_with_volseg(folder: Path) -> Callable[[], object]:
    return lambda: read_volume(folder / "scan.nii.gz").array


def read_with_nibabel(folder: Path) -> Callable[[], object]:
    return lambda: np.asarray(nib.load(folder / "scan.nii.gz").dataobj)


def read_with_nibabel_get_fdata(folder: Path) -> Callable[[], object]:
    return lambda: nib.load(folder / "scan.nii.gz").get_fdata()


def read_with_simpleitk(folder: Path) -> Callable[[], object]:
    return lambda: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / "scan.nii.gz")))


def write_with_volseg(folder: Path) -> Callable[[], object]:
    label_map = LabelMap(np.load(folder / "mask.npy"), GRID)
    return lambda: write_label_map(label_map, folder / "volseg.nii.gz")


def write_with_nibabel(folder: Path) -> Callable[[], object]:
    mask = np.load(folder / "mask.npy")
    return lambda: nib.save(nib.Nifti1Image(mask, GRID.affine), folder / "nibabel.nii.gz")


def write_with_simpleitk(folder: Path) -> Callable[[], object]:
    mask = np.load(folder / "mask.npy")
    return lambda: SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mask.T), str(folder / "simpleitk.nii.gz"))


RUNS = {
    "read volseg": read_with_volseg,
    "read nibabel": read_with_nibabel,
    "read nibabel get_fdata": read_with_nibabel_get_fdata,
    "read simpleitk": read_with_simpleitk,
    "write volseg": write_with_volseg,
    "write nibabel": write_with_nibabel,
    "write simpleitk": write_with_simpleitk,
}


def run(name: str, folder: Path) -> dict[str, float]:
    """CPU and wall seconds of one run in this process, and its peak memory over imports and input."""
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    work = RUNS[name](folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    return {
        "cpu_s": time.process_time() - cpu_start,
        "wall_s": time.perf_counter() - start,
        "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def alternate(runs: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    """All runs in turn, each in its own process."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for _ in range(runs):
        for name, seen in results.items():
            command = [sys.executable, __file__, "--one", name, str(folder)]
            seen.append(
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            )
    return results


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(run(sys.argv[2], Path(sys.argv[3]))))
        return
    if sys.argv[1:2] == ["--setup"]:
        setup(Path(sys.argv[2]))
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A child inherits the peak of its parent, so the large setup is a process of its own too.
        subprocess.run([sys.executable, __file__, "--setup", name], check=True)
        results = alternate(runs, folder)
        sizes = {path.name.split(".")[0]: path.stat().st_size / 1e6 for path in folder.glob("*.nii.gz")}
    medians = {
        n: {key: statistics.median(r[key] for r in seen) for key in seen[0]} for n, seen in results.items()
    }
    for run_name, median in medians.items():
        verb, _, library = run_name.partition(" ")
        line = {
            "benchmark": f"io {verb} nii.gz",
            "library": library,
            "file_mb": round(sizes["scan" if verb == "read" else library], 2),
            **{key: round(value, 3) for key, value in median.items()},
            "cpu_of_volseg": round(median["cpu_s"] / medians[f"{verb} volseg"]["cpu_s"], 2),
            "runs": runs,
            "python": platform.python_version(),
            "machine": platform.machine(),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
