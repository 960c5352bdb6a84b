"""How steady is a model that locates its regions in a head: the same head, transformed, should give the same labels.

    python benchmarks/check_located.py HEAD.nii.gz [--model MODEL] [--transforms 50] [--orientations 48] [--seed 0]

HEAD is a T1-weighted head, such as the ICBM152 template of the nilearn wheel (see data_samples/README.md). Each transform
turns it by up to 30 degrees about every axis, shifts it by up to 80 mm, scales it by 0.88 to 1.14 along each axis, resamples it to
other voxels (isotropic 0.7 to 2 mm, or 1 x 1 x 1.5 mm), and adds a bias field and noise. The labels found there are
mapped back and compared with those of the head as it is. Prints one JSON line for each question.
"""

import argparse
import json
import time
from itertools import permutations, product
from pathlib import Path

import numpy as np
from scipy import ndimage

from volseg.api import load_model
from volseg.errors import VolsegError
from volseg.geometry import Grid
from volseg.infer.predictor import Predictor
from volseg.io import read_volume
from volseg.metrics import dice
from volseg.resample import resample_label_map, resample_volume
from volseg.volume import LabelMap, Volume

ROTATION_DEGREES, SHIFT_MM, SCALE, BIAS, NOISE = 30, 80, (0.88, 1.14), 0.2, 0.03


def random_affine(generator: np.random.Generator) -> np.ndarray:
    """From the head's world to the scan's [4, 4]."""
    affine = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(generator.uniform(-ROTATION_DEGREES, ROTATION_DEGREES, 3))):
        turn = np.eye(4)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i] = np.sin(angle)
        turn[i, j] = -np.sin(angle)
        affine = affine @ turn
    affine[:3, :3] *= np.exp(generator.uniform(*np.log(SCALE), 3))
    affine[:3, 3] = generator.uniform(-SHIFT_MM, SHIFT_MM, 3)
    return affine


def scan_of(head: Volume, affine: np.ndarray, generator: np.random.Generator) -> Volume:
    """The head under a transform, on voxels of another size, with a bias field and noise."""
    isotropic = float(generator.uniform(0.7, 2.0))
    spacing = (isotropic,) * 3 if generator.random() < 0.7 else (1.0, 1.0, 1.5)
    corners = head.grid.corners() @ affine[:3, :3].T + affine[:3, 3]
    low, high = corners.min(axis=0), corners.max(axis=0)
    placed = np.diag([*spacing, 1.0])
    placed[:3, 3] = low
    grid = Grid(tuple(int(n) for n in np.ceil((high - low) / spacing)), placed)
    sigma = [0.425 * max(0.0, step**2 - 1) ** 0.5 for step in spacing]
    soft = Volume(ndimage.gaussian_filter(head.array[0].astype(np.float32), sigma), head.grid)
    array = resample_volume(soft, Grid(grid.shape, np.linalg.inv(affine) @ grid.affine)).array[0]
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in grid.shape], indexing="ij")
    a, b, c, d = generator.uniform(-BIAS, BIAS, 4)
    array = array * np.exp(a * x + b * y + c * z + d * (x**2 + y**2 + z**2))
    array = np.abs(array + generator.normal(0, NOISE * np.percentile(array, 99), grid.shape))
    return Volume((array * generator.choice([0.01, 1, 300])).astype(np.float32), grid)


def turned(head: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The head with its array axes permuted and flipped, every voxel where it was."""
    letters = [pair[int(not flip)] for pair, flip in zip(("LR", "PA", "IS"), flips, strict=True)]
    codes = "".join(letters[axis] for axis in order)
    to, flip = head.grid.axes_towards(codes)
    array = np.flip(head.array[0].transpose(to), [axis for axis in range(3) if flip[axis]])
    return Volume(np.ascontiguousarray(array), head.grid.reoriented(codes))


def agreement(found: LabelMap, expected: LabelMap) -> dict[str, float]:
    """Dice of every label and of all together, on the expected map's grid."""
    scores = {
        label.name: dice(found.array == label.value, expected.array == label.value)
        for label in expected.labels
    }
    return {**scores, "all": dice(found.array > 0, expected.array > 0)}


def report(question: str, rows: list[dict[str, float]], started: float, **more: object) -> None:
    """One line: mean and least of every column."""
    columns = {
        name: [round(float(f([row[name] for row in rows])), 4) for f in (np.mean, np.min)] for name in rows[0]
    }
    seconds = round((time.perf_counter() - started) / len(rows), 1)
    print(
        json.dumps({"question": question, "n": len(rows), "mean_min": columns, "s": seconds, **more}),
        flush=True,
    )


def main() -> None:
    """Parse the command line and ask both questions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("head", type=Path)
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--transforms", type=int, default=50)
    parser.add_argument("--orientations", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    predictor, head = Predictor(load_model(arguments.model), device="cpu"), read_volume(arguments.head)
    expected = predictor.predict(head).label_map
    print(json.dumps({"head": arguments.head.name, "ml": expected.volumes_ml()}), flush=True)
    started, rows, refused = time.perf_counter(), [], 0
    for seed in range(arguments.seed, arguments.seed + arguments.transforms):
        generator = np.random.default_rng(seed)
        affine = random_affine(generator)
        scan = scan_of(head, affine, generator)
        try:
            found = predictor.predict(scan).label_map
        except VolsegError as error:
            refused += 1
            print(json.dumps({"seed": seed, "refused": str(error)}), flush=True)
            continue
        back = LabelMap(
            found.array, Grid(found.grid.shape, np.linalg.inv(affine) @ found.grid.affine), found.labels
        )
        ml = list(found.volumes_ml().values())
        sides = sum(ml[:2]), sum(ml[2:])
        rows.append(agreement(resample_label_map(back, head.grid), expected))
        rows[-1]["smaller/larger side"] = min(sides) / max(sides)
        print(
            json.dumps({"seed": seed, "mm": np.round(scan.grid.spacing_mm, 2).tolist(), **rows[-1]}),
            flush=True,
        )
    if rows:
        report("transforms", rows, started, refused=refused)
    started, rows = time.perf_counter(), []
    for order, flips in list(product(permutations(range(3)), product((False, True), repeat=3)))[
        : arguments.orientations
    ]:
        found = predictor.predict(turned(head, order, flips)).label_map
        rows.append(agreement(resample_label_map(found, head.grid), expected))
    if rows:
        report("orientations", rows, started)


if __name__ == "__main__":
    main()
