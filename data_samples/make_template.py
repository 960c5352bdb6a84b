"""Writes mni152_t1_3mm.safetensors: the ICBM152 T1 template at 3 mm with voxels of known tissue.

    python data_samples/make_template.py FOLDER

FOLDER is `nilearn/datasets/data` of the unpacked nilearn 0.14.1 wheel (see README.md). Voxels are means of 3 x 3 x 3
voxels of 1 mm, cut to the brain. A tissue voxel is one whose grey- or white-matter map is nearly full (fluid: both nearly
empty, inside the brain) and which has such neighbours only, so that a registration that is off by a voxel still reads
that tissue.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.geometry import Grid
from volseg.io import read_volume
from volseg.locate.template import Template, encode_template

HERE = Path(__file__).resolve().parent
FACTOR = 3
MARGIN = 2
SOURCES = {
    "t1": "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6",
    "gm": "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed",
    "wm": "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db",
}
"""mni_icbm152_*_tal_nlin_sym_09a_converted.nii.gz and their SHA-256."""


def read(folder: Path, kind: str) -> tuple[npt.NDArray[np.float64], Grid]:
    """A map of the template, [I, J, K] at 1 mm, its checksum compared."""
    path = folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SOURCES[kind]:
        raise SystemExit(f"{path}: has SHA-256 {digest}, expected {SOURCES[kind]} (nilearn 0.14.1).")
    volume = read_volume(path)
    return volume.array[0].astype(np.float64), volume.grid


def blocks(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Means over FACTOR³ voxels with a margin of zeros; a remainder is left out on both sides alike."""
    i, j, k = (extent // FACTOR for extent in array.shape)
    first = [extent % FACTOR // 2 for extent in array.shape]
    box = tuple(slice(a, a + n * FACTOR) for a, n in zip(first, (i, j, k), strict=True))
    means = array[box].reshape(i, FACTOR, j, FACTOR, k, FACTOR).mean(axis=(1, 3, 5))
    return np.pad(means, MARGIN)


def make(folder: Path) -> Template:
    """The template from nilearn's maps."""
    (t1, grid), (grey, _), (white, _) = (read(folder, kind) for kind in SOURCES)
    brain = ndimage.binary_fill_holes(t1 > 0)
    maps = {"grey": grey / 255, "white": white / 255, "fluid": brain * (1 - (grey + white) / 255)}
    mean = blocks(t1)
    inside = np.argwhere(mean > 0)
    start, stop = inside.min(axis=0) - MARGIN, inside.max(axis=0) + MARGIN + 1
    first = np.array([extent % FACTOR // 2 for extent in t1.shape])
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    affine = grid.affine @ np.diag([FACTOR, FACTOR, FACTOR, 1.0])
    affine[:3, 3] = grid.index_to_world(first + (start - MARGIN) * FACTOR + (FACTOR - 1) / 2)
    tissues = {}
    for tissue, purity in (("fluid", 0.7), ("grey", 0.9), ("white", 0.97)):
        pure = blocks(maps[tissue])[box] >= purity
        tissues[tissue] = np.argwhere(pure).astype(np.uint8)
        print(f"{tissue}: {len(tissues[tissue])} voxels, mean {mean[box][pure].mean():.0f}")
    cut = np.rint(mean[box]).astype(np.uint8)
    shape = (cut.shape[0], cut.shape[1], cut.shape[2])
    notice = (HERE / "LICENSE-ICBM152.txt").read_text().partition("\n\n")[2].strip()
    return Template(cut, Grid(shape, affine), tissues, notice)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    data = encode_template(make(parser.parse_args().folder))
    (HERE / "mni152_t1_3mm.safetensors").write_bytes(data)
    print(f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
