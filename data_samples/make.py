"""Writes the samples of this folder.

    python data_samples/make.py                                   the synthetic phantoms
    python data_samples/make.py --template TEMPLATE.nii.gz        also the crops of the ICBM152 template
    python data_samples/make.py --to FOLDER                       somewhere else

The phantoms are analytic bodies in world millimetres, so the volume of every label is known exactly (BODIES_ML). The
same bytes come out every time: fixed seeds, noise from the raw bits of PCG64 (the one random stream that NumPy promises
to keep), no time stamp in the gzip header.
"""

import argparse
import gzip
import hashlib
import io
import json
from dataclasses import dataclass, replace
from math import cos, pi, radians, sin
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from volseg.geometry import Grid

Array = npt.NDArray[Any]
Point = tuple[float, float, float]

HERE = Path(__file__).resolve().parent
TEMPLATE_SHA256 = "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"
"""mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz of nilearn 0.14.1, uint8, 197 x 233 x 189 voxels of 1 mm."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid in RAS mm, its axes turned about z."""

    centre_mm: Point
    semi_axes_mm: Point
    yaw_degrees: float = 0.0

    def moved(self, by_mm: Point) -> "Ellipsoid":
        """The same body elsewhere."""
        x, y, z = (at + step for at, step in zip(self.centre_mm, by_mm, strict=True))
        return replace(self, centre_mm=(x, y, z))

    @property
    def volume_ml(self) -> float:
        """4/3 pi a b c."""
        a, b, c = self.semi_axes_mm
        return 4 / 3 * pi * a * b * c / 1000

    def contains(self, points_mm: Array) -> Array:
        """Which of the points [..., 3] lie inside, as booleans [...]."""
        x, y, z = np.moveaxis(points_mm - np.array(self.centre_mm), -1, 0)
        c, s = cos(radians(self.yaw_degrees)), sin(radians(self.yaw_degrees))
        a, b, h = self.semi_axes_mm
        return ((c * x + s * y) / a) ** 2 + ((c * y - s * x) / b) ** 2 + (z / h) ** 2 <= 1


LIVER = Ellipsoid((52, 4, 8), (68, 60, 46), yaw_degrees=20)
LESIONS = (Ellipsoid((78, 14, 18), (18, 16, 20)), Ellipsoid((30, -8, -4), (12, 14, 12)))
NECROSIS = Ellipsoid((24, 16, 12), (8, 9, 8))
ENHANCING = Ellipsoid((23, 17, 13), (15, 17, 15), yaw_degrees=30)
OEDEMA = Ellipsoid((21, 15, 13), (27, 32, 25), yaw_degrees=30)

LITS_TURNS = ((11.0, -7.0), (-6.0, 6.0), (5.0, -15.0))
"""How the scanner lies about each patient of LiTS_phantom: degrees about x and z."""
BRATS_PLACES: tuple[Point, ...] = ((0, 0, 0), (-42, -10, -5), (-2, -36, 8))
"""Where the tumour of each case of BraTS_phantom is, relative to the first."""


def front_and_back(number: int) -> tuple[Ellipsoid, Ellipsoid]:
    """The two bodies of a case of msd_phantom (number 1..5); each case has another pose and size."""
    shift = (number * 37 % 5 - 2) * 0.6
    yaw = (number * 53 % 7 - 3) * 6.0
    size = 1 + (number * 29 % 5 - 2) * 0.04
    forward = (-sin(radians(yaw)), cos(radians(yaw)))
    return (
        Ellipsoid((shift + 5 * forward[0], 5 * forward[1], -shift), (5.5 * size, 4.5 * size, 5 * size), yaw),
        Ellipsoid(
            (shift - 5 * forward[0], -5 * forward[1], -shift), (4.2 * size, 4.6 * size, 4.4 * size), yaw
        ),
    )


BODIES_ML = {
    **{
        f"LiTS_phantom/segmentation-{number}.nii.gz": {
            1: LIVER.volume_ml - sum(lesion.volume_ml for lesion in LESIONS),
            2: sum(lesion.volume_ml for lesion in LESIONS),
        }
        for number in range(len(LITS_TURNS))
    },
    **{
        f"BraTS_phantom/phantom_{number}/phantom_{number}_seg.nii.gz": {
            1: NECROSIS.volume_ml,
            2: OEDEMA.volume_ml - ENHANCING.volume_ml,
            4: ENHANCING.volume_ml - NECROSIS.volume_ml,
        }
        for number in range(1, len(BRATS_PLACES) + 1)
    },
    **{
        f"msd_phantom/labelsTr/phantom_{number:03d}.nii.gz": {
            value: body.volume_ml for value, body in enumerate(front_and_back(number), start=1)
        }
        for number in range(1, 6)
    },
}
"""The exact volume of every label, by file."""


def make_lits(folder: Path) -> None:
    """Abdominal CTs in the layout of LiTS: oblique, anisotropic, Hounsfield units; 1 liver, 2 lesion."""
    for number, (about_x, about_z) in enumerate(LITS_TURNS):
        linear = turned((4.5, 4.5, 6.5), about_x=about_x, about_z=about_z) @ np.diag([-1, -1, 1])
        grid = centred_grid((64, 64, 24), linear)
        points = voxel_points(grid)
        tall = 1000.0  # a cylinder, as far as this scan reaches
        bodies = [
            (Ellipsoid((0, 0, 0), (134, 104, tall)), -95),
            (Ellipsoid((0, 2, 0), (122, 92, tall)), 35),
            (Ellipsoid((-62, 2, 70), (46, 62, 52)), -780),
            (Ellipsoid((0, -62, 0), (20, 18, tall)), 320),
            (Ellipsoid((-12, -34, 0), (10, 10, tall)), 165),
            (Ellipsoid((-80, -34, -10), (24, 34, 34)), 120),
            (LIVER, 105),
            *((lesion, 48) for lesion in LESIONS),
        ]
        hounsfield = painted(points, bodies, background=-1000)
        hounsfield += noise(grid.shape, seed=1 + number, deviation=14)
        labels = painted(points, [(LIVER, 1), *((lesion, 2) for lesion in LESIONS)])
        save(folder / f"volume-{number}.nii.gz", np.clip(hounsfield, -1024, 3071).astype(np.int16), grid)
        save(folder / f"segmentation-{number}.nii.gz", labels.astype(np.uint8), grid)


def make_brats(folder: Path) -> None:
    """Glioma MRs of four modalities in the layout of BraTS 2018; 1 necrosis, 2 oedema, 4 enhancing tumour."""
    grid = centred_grid((40, 48, 36), np.diag([-3.5, -3.5, 4.0]))
    points = voxel_points(grid)
    brain = Ellipsoid((0, 0, 0), (62, 78, 64))
    white = Ellipsoid((0, 0, 2), (48, 62, 48))
    ventricles = (Ellipsoid((-9, 2, 6), (5, 22, 9), -8), Ellipsoid((9, -6, 6), (5, 20, 9), 8))
    contrasts = {  # grey matter, white matter, fluid, oedema, enhancing, necrosis
        "flair": (420, 340, 90, 700, 560, 260),
        "t1": (380, 520, 150, 330, 320, 210),
        "t1ce": (400, 540, 160, 350, 900, 230),
        "t2": (460, 330, 900, 720, 600, 780),
    }
    for number, place_mm in enumerate(BRATS_PLACES, start=1):
        name, tumour = f"phantom_{number}", [body.moved(place_mm) for body in (OEDEMA, ENHANCING, NECROSIS)]
        for channel, (contrast, (grey, matter, fluid, *in_tumour)) in enumerate(contrasts.items()):
            bodies = [(brain, grey), (white, matter), *((ventricle, fluid) for ventricle in ventricles)]
            bodies += zip(tumour, in_tumour, strict=True)
            image = painted(points, bodies) + noise(grid.shape, seed=20 * number + channel, deviation=24)
            image = np.where(brain.contains(points), np.maximum(image, 1), 0)  # outside, BraTS is exactly 0
            save(folder / name / f"{name}_{contrast}.nii.gz", image.astype(np.int16), grid)
        labels = painted(points, list(zip(tumour, (2, 4, 1), strict=True)))
        save(folder / name / f"{name}_seg.nii.gz", labels.astype(np.uint8), grid)


def make_msd(folder: Path) -> None:
    """Five tiny MR-like cases in the layout of the Medical Segmentation Decathlon; 1 front, 2 back."""
    names = [f"phantom_{number:03d}.nii.gz" for number in range(1, 6)]
    for number, name in enumerate(names, start=1):
        grid = centred_grid((20, 24, 20), turned((1.0, 1.0, 1.2), about_x=3 * number - 9, about_z=2 * number))
        points = voxel_points(grid)
        front, back = front_and_back(number)
        tissue = (Ellipsoid((0, 0, 0), (9, 11, 11)), 130)
        image = painted(points, [tissue, (front, 240), (back, 190)], background=60) * (0.5 + 0.25 * number)
        image += noise(grid.shape, seed=100 + number, deviation=8)
        save(folder / "imagesTr" / name, np.maximum(image, 0).astype(np.int16), grid)
        save(folder / "labelsTr" / name, painted(points, [(front, 1), (back, 2)]).astype(np.uint8), grid)
    description = {
        "name": "Phantom",
        "description": "Synthetic bodies written by data_samples/make.py",
        "licence": "Apache-2.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "front", "2": "back"},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }
    (folder / "dataset.json").write_text(
        json.dumps(description, indent=1) + "\n", encoding="utf-8", newline="\n"
    )


def crop_template(template: Path, folder: Path) -> None:
    """Cut the brain and both hippocampi out of the ICBM152 2009a symmetric T1 template; no voxel is changed.

    The boxes of the hippocampi, 36 x 50 x 36 mm, are mirror images of each other about x = 0 and run over x = 8..43,
    y = -46..3, z = -29..6 mm. The brain's box has up to 4 mm of air around it.
    """
    found = hashlib.sha256(template.read_bytes()).hexdigest()
    if found != TEMPLATE_SHA256:
        raise SystemExit(f"{template}: SHA-256 is {found}, expected {TEMPLATE_SHA256} (nilearn 0.14.1).")
    image: Any = nib.load(template)
    voxels, grid = np.asarray(image.dataobj), Grid(image.shape, image.affine)
    for side, first_x in (("right", 8), ("left", -43)):
        i, j, k = (round(float(index)) for index in grid.world_to_index((first_x, -46, -29)))
        box = grid.box((i, j, k), (i + 36, j + 50, k + 36))
        crop = voxels[i : i + 36, j : j + 50, k : k + 36]
        save(folder / f"mni152_t1_hippocampus_{side}.nii.gz", crop, box, space=4)
    brain = np.argwhere(voxels)
    start, stop = np.maximum(brain.min(axis=0) - 4, 0), np.minimum(brain.max(axis=0) + 5, voxels.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    box = grid.box((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
    save(folder / "mni152_t1_brain.nii.gz", voxels[i, j, k], box, space=4)


def centred_grid(shape: tuple[int, int, int], linear: Array) -> Grid:
    """A grid with the given linear part [3, 3] whose middle lies at the world's origin."""
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = -linear @ ((np.array(shape) - 1) / 2)
    as_in_a_header = affine.astype(np.float32)  # no more exact than NIfTI, so that files and grids agree
    return Grid(shape, as_in_a_header.astype(np.float64))


def turned(spacing_mm: Point, *, about_x: float, about_z: float) -> Array:
    """The linear part [3, 3] of a grid turned about x, then about z, in degrees."""
    cx, sx, cz, sz = (f(radians(angle)) for angle in (about_x, about_z) for f in (cos, sin))
    return (
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, cx, -sx], [0, sx, cx]] * spacing_mm
    )


def voxel_points(grid: Grid) -> Array:
    """The centre of every voxel in RAS mm [I, J, K, 3]."""
    return grid.index_to_world(np.moveaxis(np.indices(grid.shape), 0, -1))


def painted(points_mm: Array, bodies: list[tuple[Ellipsoid, int]], background: int = 0) -> Array:
    """The value of the last body that contains each point, as float64."""
    image = np.full(points_mm.shape[:-1], float(background))
    for body, value in bodies:
        image[body.contains(points_mm)] = value
    return image


def noise(shape: tuple[int, int, int], *, seed: int, deviation: float) -> Array:
    """Noise of mean 0, nearly normal: the sum of four uniform 16-bit integers per voxel."""
    words = np.random.PCG64(seed).random_raw(int(np.prod(shape))).astype("<u8").view("<u2").reshape(-1, 4)
    total = words.astype(np.int64).sum(axis=1) - 2 * 65535
    return total.reshape(shape) * (deviation / (65536 / 3**0.5))


def save(path: Path, array: Array, grid: Grid, *, space: int = 1) -> None:
    """Write a .nii.gz whose bytes depend on nothing but the arguments (space: the NIfTI sform and qform code)."""
    image: Any = nib.Nifti1Image(array, grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.affine, code=space)
    image.set_qform(grid.affine, code=space)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as stream:
        stream.write(image.to_bytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed.getvalue())


def make(folder: Path) -> None:
    """Write every synthetic sample."""
    make_lits(folder / "LiTS_phantom")
    make_brats(folder / "BraTS_phantom")
    make_msd(folder / "msd_phantom")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the samples of this folder.")
    parser.add_argument("--to", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--template", type=Path, help="the ICBM152 template, to crop it as well")
    chosen = parser.parse_args()
    make(chosen.to)
    if chosen.template:
        crop_template(chosen.template, chosen.to)
